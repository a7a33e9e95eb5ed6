"""Settings of the report stage."""

from pydantic import Field

from hat_ray.core.config import StageConfig


class ReportConfig(StageConfig):
    """How many translations the page shows, and what its cost ledger assumes."""

    translations: int = Field(default=4, ge=0, le=100)
    """Test sentences that are shown with each model's translation."""

    core_watts: float = Field(default=10.0, gt=0)
    """Watts of one busy CPU core with its share of memory and power supply, where energy was not measured. An
    assumption: put yours here (a board's core has 1 to 2, a laptop's 5 to 15, a server's 3 to 10)."""

    gpu_watts: float = Field(default=300.0, gt=0)
    """Watts of one busy GPU, where energy was not measured. An assumption: put your GPU's limit here."""

    grid_g_co2e_per_kwh: float = Field(default=473.0, ge=0)
    """Grams of CO2 equivalent for one kWh. Default: the world's average of 2024 (Ember, Global Electricity Review
    2025); put your grid's here."""

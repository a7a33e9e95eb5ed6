"""Settings of the report stage."""

from pydantic import Field

from hat_ray.config import StageConfig


class ReportConfig(StageConfig):
    """What the page shows beside the figures."""

    translations: int = Field(default=4, ge=0, le=100)
    """Test sentences that are shown with each model's translation."""

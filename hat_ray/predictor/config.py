"""Settings of the latency predictor."""

from pydantic import Field

from hat_ray.core.config import StageConfig


class PredictorConfig(StageConfig):
    """How a predictor is fitted to one device's latency rows."""

    folds: int = Field(default=10, ge=2, le=1_000)
    """Parts of the cross-validation that gives the held-out error and decides the trees' share."""

    min_rows: int = Field(default=10, ge=4)
    """Fewest different architectures that a predictor is fitted to."""

    min_rows_for_trees: int = Field(default=60, ge=10)
    """Fewest different architectures for the trees to be tried; below it the physical prior stands alone."""

    set_slow_aside: bool = True
    """Learn nothing from rows that were timed in a slow stretch of the device: found by their order and residuals."""

    use_other_devices: bool = True
    """Let the table's other devices help where they predict well: a new device then needs fewer rows."""

    rounds: int = Field(default=150, ge=1, le=100_000)
    """Number of boosted trees."""

    depth: int = Field(default=3, ge=1, le=64)
    """Splits from a tree's root to a leaf."""

    learning_rate: float = Field(default=0.05, gt=0, le=1)
    """Share of each tree's correction that is applied."""

    min_gain: float = Field(default=0.02, ge=0)
    """How much smaller, as a share, the held-out error must be with the trees than without for them to be used."""

"""What the latency stage leaves: the devices of a run, and where their rows are."""

from dataclasses import dataclass

from hat_ray.latency.device import DeviceInfo


@dataclass(frozen=True)
class Calibration:
    """How well one device can be predicted after as few rows as that needs."""

    rows: int
    """Rows of the table that its predictor was fitted to."""
    error: float
    """Mean relative error on architectures that the predictor had not seen, plus its standard error."""
    met: bool
    """Whether that is below the error that was asked for."""


@dataclass(frozen=True)
class MeasuredDevice:
    """One device of a run, and how many architectures the table has of it."""

    rows: int
    device: DeviceInfo
    calibration: Calibration | None = None
    """None where a fixed number of architectures was timed."""


@dataclass(frozen=True)
class LatencyOutput:
    """What stage `latency` timed: the table's place, and the devices by slug."""

    table: str
    devices: dict[str, MeasuredDevice]

"""Output of the latency stage: the devices of a run, and the place of their rows."""

from dataclasses import dataclass

from hat_ray.latency.device import DeviceInfo


@dataclass(frozen=True)
class Calibration:
    """Calibration of one device: the predictor's error, and the rows that it took."""

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
    attached: bool = True
    """Whether the run times on it; False: only the table knows it."""


@dataclass(frozen=True)
class LatencyOutput:
    """Output of stage `latency`: the table's place, and the devices by slug."""

    table: str
    devices: dict[str, MeasuredDevice]

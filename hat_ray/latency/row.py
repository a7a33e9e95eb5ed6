"""One row of the latency table: an architecture timed once, with all its circumstances.

A row compares with another only where device and workload are equal. `space_id` tells which search space it was drawn
for; the same architecture drawn for two spaces has the same id in both.
"""

from dataclasses import dataclass, field

from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.sensors.conditions import Conditions
from hat_ray.latency.sensors.energy import Energy
from hat_ray.latency.stats import Spread
from hat_ray.latency.translation import Workload
from hat_ray.space.architecture import Architecture

MEASURED = "measured"
IMPORTED_AVERAGES = "imported, averages only"


@dataclass(frozen=True)
class Canary:
    """How long the fixed architecture took just before and just after a timing, and what follows from it."""

    before_ms: float
    after_ms: float
    drift_correction: float
    """Multiply a latency by it: what dividing each repetition by how slow the canaries around it were does to the
    median."""
    quiet_ms: float | None = None
    """The canary on the quiet device, as far as the session had seen it by then: what the correction brings to."""


@dataclass(frozen=True)
class Circumstances:
    """Where, when and by what a row was made."""

    host: str
    session_id: str
    utc_time: str
    """ISO 8601 with seconds, such as "2026-01-31T12:00:00Z"."""
    library_versions: tuple[tuple[str, str], ...]
    """Sorted pairs of library and version."""
    niceness: int | None = None
    load_average: float | None = None
    """The host's one-minute load average before the timing, the timing's own included."""
    conditions: Conditions = field(default_factory=Conditions)
    """The machine's state around the timing."""


@dataclass(frozen=True)
class Origin:
    """Where a row comes from: our own timing, or a file that was imported."""

    provenance: str = MEASURED
    source: str = ""
    """The imported file's name, or empty."""
    source_row: int | None = None
    """The line in that file, counted from 0 after the header."""


@dataclass(frozen=True)
class LatencyRow:
    """One architecture on one device under one workload."""

    space_id: str
    architecture: Architecture | None
    """None where only averages are known (imported rows)."""
    hat_features: tuple[float, ...]
    """HAT's ten averages, in the order of `HAT_FEATURES`."""
    workload: Workload
    device: DeviceInfo
    encoder: Spread
    decoder: Spread
    total: Spread | None
    """Encoder and decoder of the same translation together; None where only averages are known."""
    encoder_samples_ms: tuple[float, ...]
    decoder_samples_ms: tuple[float, ...]
    repetitions: int | None
    warmups: int | None
    disturbed: int | None
    """Repetitions set aside because a canary beside them was slow."""
    relative_error: float | None
    """The relative standard error of the total's median, its drift correction's included; None where only averages are
    known."""
    canary: Canary | None
    circumstances: Circumstances
    origin: Origin = Origin()
    energy: Energy | None = None
    """What one translation took; None where the system does not tell."""

    @property
    def latency_ms(self) -> float:
        """The typical time of one translation: the median, or the sum of means where only averages are known."""
        return self.total.typical_ms if self.total else self.encoder.mean_ms + self.decoder.mean_ms

    @property
    def corrected_ms(self) -> float:
        """`latency_ms` with the canary's drift taken out, where a canary was timed."""
        return self.latency_ms * (self.canary.drift_correction if self.canary else 1.0)

    @property
    def key(self) -> tuple[object, ...]:
        """What two timings of the same thing share: architecture (or line of an import), device and workload."""
        what = self.architecture.id if self.architecture else (self.origin.source, self.origin.source_row)
        return (self.space_id, what, self.device.slug, self.workload)

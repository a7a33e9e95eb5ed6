"""The cost ledger: what a run took, and what follows from it under stated assumptions.

Decisions
- Busy time is counted (workers x threads x their seconds), not a machine's whole day: waiting costs nothing.
- Energy that a meter counted is taken as it is; only the busy time that no meter saw is estimated from watts.
- HAT's published figures stand beside as counts of work: its seconds are those of other hardware and other text.
"""

from dataclasses import dataclass

JOULES_A_KWH = 3.6e6


@dataclass(frozen=True)
class LedgerLine:
    """One stage: wall time, busy time, and the part of it whose energy was measured."""

    stage: str
    wall_s: float
    core_s: float
    """Seconds of busy CPU cores."""
    gpu_s: float
    """Seconds of busy GPUs."""
    counted: str
    """The source of the busy time, such as "64 timings"."""
    measured_j: float = 0.0
    """Joules that a meter counted."""
    measured_core_s: float = 0.0
    """The part of `core_s` that `measured_j` covers."""
    measured_gpu_s: float = 0.0


@dataclass(frozen=True)
class TimedOn:
    """What timing took on one device, over all stages."""

    device: str
    rows: int
    seconds: float
    """Of timed translations, warm-up included; canaries between them are not."""
    energy_j: float | None = None
    """None where it was not measured for every row."""
    energy_source: str = ""


@dataclass(frozen=True)
class WorkDone:
    """Counts that need no clock: these compare with what HAT's published settings do."""

    supernet_updates: int | None = None
    supernet_tokens: int | None = None
    """Target tokens trained on."""
    timed_a_device: float | None = None
    """Architectures timed, mean over devices."""
    searches: int | None = None
    """Pairs of device and limit that the one search served."""
    candidates: int | None = None
    """Architectures scored for all of them together."""
    models: int | None = None
    """Models that `retrain` trained, baselines included."""
    model_updates: int | None = None
    """Updates of each of them."""


@dataclass(frozen=True)
class Ledger:
    """A run's cost, with the assumptions that its estimates rest on."""

    lines: tuple[LedgerLine, ...]
    core_watts: float
    gpu_watts: float
    grid_g_co2e_per_kwh: float
    timed: tuple[TimedOn, ...] = ()
    work: WorkDone = WorkDone()

    def kwh(self, line: LedgerLine) -> float:
        """Return a line's energy: measured where a meter saw it, estimated elsewhere."""
        return (line.measured_j + self.estimated_j(line)) / JOULES_A_KWH

    def estimated_j(self, line: LedgerLine) -> float:
        """Return the joules that busy time without a meter stands for."""
        cores = max(line.core_s - line.measured_core_s, 0.0)
        return cores * self.core_watts + max(line.gpu_s - line.measured_gpu_s, 0.0) * self.gpu_watts

    def co2_g(self, kwh: float) -> float:
        """Return grams of CO2 equivalent."""
        return kwh * self.grid_g_co2e_per_kwh

    @property
    def total(self) -> LedgerLine:
        """All lines as one."""
        names = ("wall_s", "core_s", "gpu_s", "measured_j", "measured_core_s", "measured_gpu_s")
        return LedgerLine(
            stage="all", counted="", **{name: sum(getattr(line, name) for line in self.lines) for name in names}
        )

"""Energy in joules, where the system counts it: RAPL on x86 under Linux, NVML on NVIDIA GPUs.

Decisions
- A meter only counts joules. The protocol reads it before and after each group of repetitions, so that canaries and
  everything else between the groups are not counted.
- The counters belong to whole processor packages and whole GPUs: what others compute meanwhile, and what the hardware
  draws when it idles, is in them. RAPL's packages and their memory are added up; cores are part of their package.
- RAPL's counters wrap around within minutes to hours, and only root may read them on most systems.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

from hat_ray.core.columns.marks import Column
from hat_ray.latency.timing.sensors.host import numbered, read_int, read_text

logger = logging.getLogger(__name__)


class EnergyMeter(Protocol):
    """Counts joules from an arbitrary start; never fails."""

    @property
    def source(self) -> str:
        """The counters, such as "rapl package-0 dram" or "nvml"; empty when there are none."""

    def read(self) -> float | None:
        """Return the joules counted until now, or None where the system does not report them."""


@dataclass(frozen=True)
class Energy:
    """Energy of one translation."""

    joules: Annotated[float, Column(name="energy_j")]
    source: Annotated[str, Column(from_cell=lambda cell: cell or "", nullable=True)]
    """The meter that counted it: figures of one source compare."""


class NoMeter:
    """The meter of a system that reports no energy."""

    source = ""

    def read(self) -> float | None:
        return None


class _Domain:
    """One RAPL counter, unwrapped: it keeps counting where the hardware's starts again at 0."""

    def __init__(self, folder: Path) -> None:
        self.name = read_text(folder / "name")
        self._file = folder / "energy_uj"
        self._range_uj = read_int(folder / "max_energy_range_uj") or 0
        self._last_uj = read_int(self._file)
        self._total_uj = 0
        self.is_told = self._last_uj is not None

    def read_uj(self) -> int | None:
        now = read_int(self._file)
        if now is None or self._last_uj is None:
            return None
        step = now - self._last_uj
        self._total_uj += step if step >= 0 else step + self._range_uj
        self._last_uj = now
        return self._total_uj


class RaplMeter:
    """The sum of a machine's processor packages and their memory."""

    def __init__(self, root: Path = Path("/")) -> None:
        folders = numbered(root / "sys/class/powercap", "intel-rapl:*")  # not intel-rapl-mmio: the same package again
        domains = [_Domain(folder) for folder in folders]
        self._domains = [domain for domain in domains if domain.name.startswith(("package", "dram"))]
        self.hidden = any(not domain.is_told for domain in self._domains)
        self.source = "rapl " + " ".join(sorted({domain.name for domain in self._domains})) if self._domains else ""

    def read(self) -> float | None:
        parts = [domain.read_uj() for domain in self._domains]
        told = [part for part in parts if part is not None]
        return sum(told) / 1e6 if told and len(told) == len(parts) else None


def cpu_meter(root: Path = Path("/")) -> EnergyMeter:
    """Return the meter of this machine's processors; `root` stands for the file system's root."""
    meter = RaplMeter(root)
    if meter.hidden:
        logger.info("energy is not recorded: only root may read /sys/class/powercap/intel-rapl*/energy_uj here")
    return NoMeter() if meter.hidden or not meter.source else meter


def joules_since(meter: EnergyMeter, before: float | None) -> float | None:
    """Return the joules that a meter counted since it read `before`."""
    now = meter.read()
    return None if now is None or before is None else now - before

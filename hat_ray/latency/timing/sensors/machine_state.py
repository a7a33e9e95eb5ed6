"""The machine's state while one architecture is timed. Nothing here fails: a value that is not reported is None.

Decision: everything is read once just before and once just after a timing, never during it, because a reading takes
the core that the timing needs. So clock and temperature are those of the moment after; counters (load, throttling)
cover the time between.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hat_ray.latency.timing.sensors.clocks import CoreWatch, cpu_mhz, governor
from hat_ray.latency.timing.sensors.energy import EnergyMeter, cpu_meter
from hat_ray.latency.timing.sensors.heat import Thermometer, ThrottleSource, ThrottleWatch, cpu_throttle_sources
from hat_ray.latency.timing.sensors.host import DeviceMemory, LoadWatch, PeakMemory

_LOAD_CPUS = 0.5
_CHANGING = {"powersave", "ondemand", "schedutil", "conservative", "interactive"}


@dataclass(frozen=True)
class MachineState:
    """The state of the machine around one timing; None where the system does not report it."""

    cpu_mhz: float | None = None
    """The frequency just after the timing, the mean of the cores that it used."""
    governor: str | None = None
    """The policy that sets their frequency, such as "performance"."""
    temperature_c: float | None = None
    """The hottest sensor of the processor, or of the GPU when it times, just after the timing."""
    throttled: tuple[str, ...] | None = None
    """Why the hardware slowed itself down meanwhile, such as "thermal"; empty when it did not."""
    other_load_cpus: float | None = None
    """CPUs that other processes kept busy meanwhile, the mean."""
    steal_cpus: float | None = None
    """CPUs that the hypervisor gave to other machines meanwhile, the mean."""
    peak_resident_bytes: int | None = None
    """The most memory that the timing process held, canary and libraries included."""
    peak_device_bytes: int | None = None
    """The most GPU memory that PyTorch allocated, the canary's included; None for the CPU."""


class GpuSensors(Protocol):
    """The sensors of a GPU that times, beside its host's (`cuda.py`)."""

    @property
    def memory(self) -> DeviceMemory: ...

    @property
    def meter(self) -> EnergyMeter: ...

    @property
    def throttling(self) -> list[ThrottleSource]: ...

    def read_c(self) -> float | None:
        """Return its temperature in degrees Celsius."""


class Sensors:
    """The sensors of one device, found once and then read around each timing.

    `gpu` holds those of the GPU that times; None: the CPU does. `root` stands for the file system's root.
    """

    def __init__(self, threads: int = 1, *, gpu: GpuSensors | None = None, root: Path = Path("/")) -> None:
        self._root = root
        self._cores, self._load = CoreWatch(root, threads), LoadWatch(root)
        self._memory = PeakMemory(root, gpu.memory if gpu else None)
        self._thermometer: Thermometer | GpuSensors = gpu or Thermometer(root)
        # a GPU waits for its host's launches: both count
        self._throttling = ThrottleWatch([*cpu_throttle_sources(root), *(gpu.throttling if gpu else [])])
        self.meter: EnergyMeter = gpu.meter if gpu else cpu_meter(root)

    def start(self) -> None:
        """Read just before a timing."""
        self._throttling.start()
        self._memory.start()
        self._cores.start()
        self._load.start()

    def stop(self) -> MachineState:
        """Read just after it."""
        others, steal = self._load.others_and_steal()
        cores = self._cores.cores()
        return MachineState(
            cpu_mhz=cpu_mhz(self._root, cores),
            governor=governor(self._root, cores),
            temperature_c=self._thermometer.read_c(),
            throttled=self._throttling.reasons(),
            other_load_cpus=others,
            steal_cpus=steal,
            peak_resident_bytes=self._memory.resident_bytes(),
            peak_device_bytes=self._memory.device_bytes(),
        )


def advice(state: MachineState) -> dict[str, str]:
    """Return the disturbances of a timing that have a remedy: by kind, one line with it."""
    told = {}
    if (state.other_load_cpus or 0.0) > _LOAD_CPUS:
        told["load"] = (
            f"other processes kept {state.other_load_cpus:.1f} CPUs busy while architectures were timed: "
            "stop them, or give the timing a machine of its own"
        )
    if state.governor and _CHANGING & set(state.governor.split("+")):
        told["governor"] = (
            f"CPU governor {state.governor} changes the clock while architectures are timed: "
            "set it with `sudo cpupower frequency-set -g performance`"
        )
    if state.throttled:
        told["throttled"] = (
            f"the device slows itself down ({', '.join(state.throttled)}) while architectures are timed: "
            "better its cooling or power supply, or cap its clock below that"
        )
    return told

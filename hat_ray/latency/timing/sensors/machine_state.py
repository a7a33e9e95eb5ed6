"""The machine's state while one architecture is timed. Nothing here fails: a value that is not reported is None.

Decision: everything is read once just before and once just after a timing, never during it, because a reading takes
the core that the timing needs. So clock and temperature are those of the moment after; counters (load, throttling)
cover the time between.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from hat_ray.latency.timing.sensors.clocks import CoreWatch, cpu_mhz, governor
from hat_ray.latency.timing.sensors.energy import EnergyMeter, NoMeter, cpu_meter
from hat_ray.latency.timing.sensors.heat import Thermometer, ThrottleWatch, cpu_throttle_sources
from hat_ray.latency.timing.sensors.host import LoadWatch, PeakMemory
from hat_ray.latency.timing.sensors.nvml import Gpu, GpuMeter, GpuThrottling, find_gpu

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


class Sensors:
    """The sensors of one device, found once and then read around each timing.

    `root` stands for the file system's root.
    """

    def __init__(self, threads: int = 1, *, on_gpu: bool = False, root: Path = Path("/")) -> None:
        gpu = _torch_gpu() if on_gpu else None
        self._root = root
        self._cores, self._load, self._memory = CoreWatch(root, threads), LoadWatch(root), PeakMemory(root, on_gpu)
        self._thermometer: Thermometer | Gpu | None = gpu if on_gpu else Thermometer(root)
        # a GPU waits for its host's launches: both count
        self._throttling = ThrottleWatch([*cpu_throttle_sources(root), *([GpuThrottling(gpu)] if gpu else [])])
        self.meter = energy_meter(on_gpu=on_gpu, root=root)

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
            temperature_c=self._thermometer.read_c() if self._thermometer else None,
            throttled=self._throttling.reasons(),
            other_load_cpus=others,
            steal_cpus=steal,
            peak_resident_bytes=self._memory.resident_bytes(),
            peak_device_bytes=self._memory.device_bytes(),
        )


def energy_meter(*, on_gpu: bool, root: Path = Path("/")) -> EnergyMeter:
    """Return the energy meter of this machine's GPU or processors."""
    if not on_gpu:
        return cpu_meter(root)
    gpu = _torch_gpu()
    return GpuMeter(gpu) if gpu else NoMeter()


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


def _torch_gpu() -> Gpu | None:
    """Return the GPU that PyTorch uses, when NVML knows it."""
    uuid = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", None)
    return find_gpu(f"GPU-{str(uuid).removeprefix('GPU-')}") if uuid else None

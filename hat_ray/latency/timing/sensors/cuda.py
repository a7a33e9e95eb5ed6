"""The sensors of the GPU that PyTorch uses: NVML's where it knows the GPU, and PyTorch's own count of its memory."""

from pathlib import Path

import torch

from hat_ray.latency.timing.sensors.energy import EnergyMeter, NoMeter, cpu_meter
from hat_ray.latency.timing.sensors.heat import ThrottleSource
from hat_ray.latency.timing.sensors.machine_state import Sensors
from hat_ray.latency.timing.sensors.nvml import Gpu, GpuMeter, GpuThrottling, find_gpu


class CudaMemory:
    """The memory that PyTorch takes from the GPU."""

    def forget_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> int:
        """Return the most bytes that PyTorch allocated."""
        return torch.cuda.max_memory_allocated()


class CudaSensors:
    """PyTorch's GPU; what NVML does not know is None."""

    def __init__(self) -> None:
        self._gpu = _torch_gpu()
        self.memory = CudaMemory()
        self.meter: EnergyMeter = GpuMeter(self._gpu) if self._gpu else NoMeter()
        self.throttling: list[ThrottleSource] = [GpuThrottling(self._gpu)] if self._gpu else []

    def read_c(self) -> float | None:
        """Return the temperature in degrees Celsius."""
        return self._gpu.read_c() if self._gpu else None


def sensors_of(threads: int, *, on_gpu: bool, root: Path = Path("/")) -> Sensors:
    """Return the sensors of this machine's GPU or processors."""
    return Sensors(threads, gpu=CudaSensors() if on_gpu else None, root=root)


def energy_meter(*, on_gpu: bool, root: Path = Path("/")) -> EnergyMeter:
    """Return the energy meter of this machine's GPU or processors."""
    return CudaSensors().meter if on_gpu else cpu_meter(root)


def _torch_gpu() -> Gpu | None:
    """Return the GPU that PyTorch uses, when NVML knows it."""
    uuid = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", None)
    return find_gpu(f"GPU-{str(uuid).removeprefix('GPU-')}") if uuid else None

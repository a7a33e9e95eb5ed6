"""An NVIDIA GPU's own sensors, through the optional package nvidia-ml-py (`pip install hat-ray[gpu]`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

try:
    import pynvml
except ImportError:  # optional: without it a GPU reports less
    pynvml = None

_THROTTLING = {  # bits of NVML's clocks-event reasons that slow the GPU down; others stand for idleness and settings
    0x04: "power-cap",
    0x08: "hardware-slowdown",
    0x20: "thermal",
    0x40: "hardware-thermal",
    0x80: "power-brake",
}
_GPU_SENSOR = 0  # NVML_TEMPERATURE_GPU


@dataclass(frozen=True)
class Gpu:
    """One GPU: an energy meter, a thermometer and a source of throttling. A value that it does not report is None."""

    library: Any
    """The module `pynvml`."""
    handle: Any

    def read_c(self) -> float | None:
        """Return the temperature in degrees Celsius."""
        degrees = self._ask("nvmlDeviceGetTemperature", _GPU_SENSOR)
        return None if degrees is None else float(degrees)

    def energy_j(self) -> float | None:
        """Return the joules since the driver was loaded."""
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1e3

    def clock_reasons(self) -> dict[str, int] | None:
        """Return the present reasons for throttled clocks, as NVML's bits."""
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:  # its name before NVML 12.2
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return None if bits is None else {"bits": int(bits)}

    def _ask(self, function: str, *arguments: int) -> Any:
        try:
            return getattr(self.library, function)(self.handle, *arguments)
        except (AttributeError, self.library.NVMLError):
            return None


class GpuMeter:
    """A GPU's energy."""

    source = "nvml"

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def read(self) -> float | None:
        return self._gpu.energy_j()


class GpuThrottling:
    """Throttling of a GPU's clocks."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def read(self) -> dict[str, int] | None:
        return self._gpu.clock_reasons()

    def reasons(self, before: Mapping[str, int], after: Mapping[str, int]) -> set[str]:
        happened = before["bits"] | after["bits"]
        return {f"gpu-{name}" for bit, name in _THROTTLING.items() if happened & bit}


def find_gpu(uuid: str, library: Any = pynvml) -> Gpu | None:
    """Return the GPU of that id, or None where NVML is not installed or does not know it."""
    if library is None:
        return None
    try:
        library.nvmlInit()
        return Gpu(library, library.nvmlDeviceGetHandleByUUID(uuid))
    except library.NVMLError:
        return None

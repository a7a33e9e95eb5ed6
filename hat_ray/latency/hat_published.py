"""What HAT says of the latency tables that it published, by the names of their files.

HAT: README and section 4.1. It does not tell how many threads and cores its processors used, nor each task's
vocabulary: those are 0 here, which no device of one's own has.
"""

from pathlib import Path

from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.translation import Workload

_TASKS = {"wmt14ende": (30, 32_768), "wmt14enfr": (30, 0), "wmt19ende": (30, 0), "iwslt14deen": (23, 0)}
"""Source and target tokens of each task, and words of its vocabulary."""

_DEVICES = {
    "cpu_raspberrypi": ("Raspberry Pi 4, ARM Cortex-A72", "aarch64", ""),
    "cpu_xeon": ("Intel Xeon E5-2640", "x86_64", ""),
    "gpu_titanxp": ("unknown host", "x86_64", "NVIDIA TITAN Xp"),
}
"""Processor, machine and accelerator of each device."""


def published(path: str | Path) -> tuple[DeviceInfo, Workload] | None:
    """Return what a published table timed, such as `wmt14ende_cpu_xeon_all.csv`; None for other files."""
    task, _, device = Path(path).name.removesuffix("_all.csv").partition("_")
    if task not in _TASKS or device not in _DEVICES:
        return None
    length, vocabulary = _TASKS[task]
    model, machine, accelerator = _DEVICES[device]
    info = DeviceInfo(
        name="hat",
        model=model,
        machine=machine,
        logical_cores=0,
        threads=0,
        clock_mhz=None,
        memory_bytes=None,
        isa=(),
        accelerator=accelerator,
        accelerator_memory_bytes=None,
        driver="",
        runtime="eager",
        dtype="fp32",
        quantisation="none",
        os="",
    )
    return info, Workload(1, 5, length, length, vocabulary)

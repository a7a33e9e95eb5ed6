"""Which build of PyTorch is installed, read from its package alone: a wrong one can end the process that imports it.

On aarch64 the package index has builds of three kinds: for CPUs up to 2.9, one whose instructions old cores lack
(2.10), and for CUDA from 2.11 on.
"""

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hat_ray.core.processor import read_cpu
from hat_ray.doctor.result import DoctorResult

_REMEDY = "pip install 'torch==2.9.*'"
_DOT_PRODUCTS = "asimddp"  # ARMv8.2; Cortex-A53 and A72 lack them


def examine_torch(root: Path = Path("/"), machine: str = "", installed: str = "") -> DoctorResult | None:
    """Return what is wrong with the build of PyTorch for this machine, or None.

    `root` stands for the file system's root; `machine` and `installed` for the platform's name and the version.
    """
    if (machine or platform.machine()) != "aarch64":
        return None
    try:
        build = installed or version("torch")
    except PackageNotFoundError:
        return None  # named among what is lacking
    number, _, kind = build.partition("+")
    release = tuple(int(part) for part in re.findall(r"\d+", number)[:2])
    cpu = read_cpu(root)
    if release == (2, 10) and _DOT_PRODUCTS not in cpu.isa:
        seen = f"torch {build} ends with an illegal instruction on {cpu.model}, which has no dot products"
        return DoctorResult("PyTorch's build", "missing", seen, _REMEDY)
    if release >= (2, 11) and kind != "cpu" and not any((root / "dev").glob("nvidia[0-9]*")):
        seen = f"torch {build} is a build for CUDA, gigabytes that a machine without an NVIDIA GPU has no use for"
        return DoctorResult("PyTorch's build", "advice", seen, _REMEDY)
    return None

"""GPUs of this machine: which of them PyTorch can use, and why not where it cannot."""

import importlib.util
from pathlib import Path

import torch

from hat_ray.doctor.result import DoctorResult
from hat_ray.pipeline.preflight.here import count_gpus

HOW_TO_GET_GPUS = "install PyTorch's CUDA build for the driver that nvidia-smi names: https://pytorch.org/get-started"
_GIB = 2**30
_BF16_SINCE = 8  # compute capability; earlier GPUs emulate it


def examine_gpus(devices: Path = Path("/dev")) -> DoctorResult:
    """Return what PyTorch can use of the GPUs that the system has; `devices` holds their device files."""
    if torch.cuda.is_available():
        return _usable()
    there = count_gpus(devices)
    if not there:
        return DoctorResult("GPU", "good", "none: the CPU trains and times")
    detail = f"{there} by the system's device files, none that torch sees: the CPU trains and times"
    return DoctorResult("GPU", "advice", f"{detail}; {torch_build()}", HOW_TO_GET_GPUS)


def torch_build() -> str:
    """Return what this PyTorch was built for."""
    built = f"CUDA {torch.version.cuda}, which the driver may be too old for" if torch.version.cuda else "CPUs alone"
    return f"torch {torch.__version__} was built for {built}"


def _usable() -> DoctorResult:
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    detail = ", ".join(
        f"{one.name} ({one.total_memory / _GIB:.0f} GiB, compute capability {one.major}.{one.minor})" for one in found
    )
    advice = []
    if importlib.util.find_spec("pynvml") is None:
        advice.append("pip install hat-ray[gpu], and rows hold energy, temperature and throttling")
    if any(one.major < _BF16_SINCE for one in found):
        advice.append(f"train with precision=fp16: bf16 needs compute capability {_BF16_SINCE}.0")
    return DoctorResult("GPU", "advice" if advice else "good", detail, "; ".join(advice))

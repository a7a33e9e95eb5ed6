"""This machine, without loading PyTorch or Ray."""

import os
import platform
from pathlib import Path

from hat_ray.core.processor import read_cpu
from hat_ray.pipeline.outline import stages_of, unfinished
from hat_ray.pipeline.preflight.check import Machine, Situation
from hat_ray.pipeline.preflight.packages import installed
from hat_ray.pipeline.run_folder import Run
from hat_ray.recipe import Recipe
from hat_ray.storage.folder import Folder

_OTHER_DRIVERS = ("dxg", "kfd", "nvgpu", "nvhost-gpu")


def situation_here(
    recipe: Recipe, place: str | None, *, only: str | None = None, local: bool = False, committed: bool = True
) -> Situation:
    """Return the stages of a recipe still to be done, on this machine."""
    names = stages_of(only)
    stages = names if place is None else unfinished(Run(Folder.at(place), recipe), names)
    return Situation(stages, place, (this_machine(),), local=local, committed=committed)


def this_machine() -> Machine:
    """Describe the machine that this process runs on."""
    cpu = read_cpu()
    return Machine(
        host=platform.node() or "this machine",
        cpus=cpu.logical_cores,
        gpus=count_gpus(),
        isa=cpu.isa,
        packages=installed(),
        memory_bytes=cpu.memory_bytes,
        free_memory_bytes=_free_memory(),
        model=cpu.model,
    )


def count_gpus(devices: Path = Path("/dev")) -> int:
    """Return the number of GPUs that this process may use, by their device files: NVIDIA's driver makes one for each.

    Where another driver's are there (boards, WSL, AMD), it is one at least.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = sum(entry.name[6:].isdigit() for entry in devices.glob("nvidia*"))
    there = there or int(any((devices / name).exists() for name in _OTHER_DRIVERS))
    if visible is None:
        return there
    named = [name for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    return min(there, len(named))


def _free_memory() -> int | None:
    """Return the bytes that the system could give without swapping; None where it does not report them."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)

"""The most memory that a process of its own holds while it translates with one architecture, in MB of 1,000,000 bytes.

Decisions
- The timing process also holds canary, caches and the model's own weights: its peak shows little of one architecture.
  So a stored model is written, and another process loads it, translates the workload twice and reports its peak.
- That process imports what a deployed one would: the engine of an exported model needs no PyTorch.
- A GPU's device reports the memory that PyTorch took from the GPU: that is what runs out there.
- The other process ends, and deletes its folder, when the process that waits for it is killed. Where both are killed
  the next measurement deletes the folder (`storage/temporary.py`).
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hat_ray.latency.quantities import MB, PEAK_MEMORY, QUANTITIES, DeviceProfile, Measured
from hat_ray.latency.timing.engines import random_model, ready, translation
from hat_ray.latency.timing.quantities.peak_process import JOB
from hat_ray.latency.timing.workload import Workload
from hat_ray.model.checkpoints.native import load_sub, save_model
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.protocol import RUNTIMES, RuntimeSettings, load_engine
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder
from hat_ray.storage.temporary import temporary_folder

log = logging.getLogger(__name__)

_MODEL = "model"
_REPETITIONS = 2
_TIMEOUT_S = 600.0


def peak_mb(architecture: Architecture, profile: DeviceProfile) -> float | None:
    """Return the peak of a process that translates with an architecture on this machine; None where it fails."""
    model = random_model(architecture, profile.model_config, profile.workload)
    with temporary_folder("peak") as folder:
        _store(model, folder, profile)
        try:
            done = run_process(folder, _TIMEOUT_S)
        except subprocess.TimeoutExpired:
            log.warning("peak_mb of %s: no answer within %.0f s", architecture.id, _TIMEOUT_S)
            return None
    if done.returncode != 0:
        why = done.stderr.strip().rpartition("\n")[2] or f"it ended with {done.returncode}"
        log.warning("peak_mb of %s could not be measured: %s", architecture.id, why)
        return None
    return int(done.stdout.split()[-1]) / MB


def run_process(folder: Path, timeout_s: float) -> "subprocess.CompletedProcess[str]":
    """Run the other process on a folder that holds its job; its last line of output is its peak in bytes.

    Its standard input ends when this process does, however that ends. `-P`: it imports nothing from the current folder.
    Raises subprocess.TimeoutExpired.
    """
    command = [sys.executable, "-P", "-m", "hat_ray.latency.timing.quantities.peak_process", str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # a worker's packages too
    theirs, ours = os.pipe()
    try:
        return subprocess.run(
            command, stdin=theirs, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment
        )
    finally:
        os.close(theirs)
        os.close(ours)


def _store(model: SubTransformer, folder: Path, profile: DeviceProfile) -> None:
    """Write the files that the other process loads, and its job."""
    device = profile.device
    settings = RuntimeSettings(device.dtype, device.torch_device, device.threads)
    runtime = RUNTIMES.load(device.runtime)
    program = RUNTIMES.facts(device.runtime).own_process
    if program is None:
        save_model(Folder.at(folder), _MODEL, model)
    else:
        runtime.store(model, folder, settings)
    workload = profile.workload
    job = {
        "program": program or f"{__name__}:translate_checkpoint",
        "runtime": device.runtime,
        **{"dtype": settings.dtype, "device": settings.device, "threads": settings.threads},
        "workload": asdict(workload),
        "pairs": workload.pairs,
        "repetitions": _REPETITIONS,
    }
    (folder / JOB).write_text(json.dumps(job), encoding="utf-8")


def translate_checkpoint(folder: Path, job: Mapping[str, Any]) -> int | None:
    """Translate with a checkpoint on a runtime; return the bytes taken from the GPU, or None on the CPU."""
    settings = RuntimeSettings(job["dtype"], job["device"], job["threads"])
    torch.set_num_threads(settings.threads)
    engine = load_engine(load_sub(Folder.at(folder), _MODEL), job["runtime"], settings)
    with ready(engine, settings.threads):
        translate = translation(engine, Workload(**job["workload"]))
        for _ in range(job["repetitions"]):
            translate()
    return torch.cuda.max_memory_reserved() if settings.device == "cuda" else None


PEAK_MB = Measured(
    QUANTITIES.facts(PEAK_MEMORY),
    peak_mb,
    "name it in latency.quantities or in search.limits and run the latency stage again",
)

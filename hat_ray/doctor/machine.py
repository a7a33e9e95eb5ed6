"""This machine: versions, processor, memory, disk, GPU, runtimes, and how steadily it times."""

import os
import platform
import shutil
from collections.abc import Iterator
from copy import deepcopy
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from hat_ray.core.processor import allowed_isa, max_isa, read_cpu
from hat_ray.corpus.shards import cache_root
from hat_ray.doctor.gpus import examine_gpus
from hat_ray.doctor.result import DoctorResult
from hat_ray.errors import HatRayError, PluginError, in_one_line
from hat_ray.evaluate.tokenizer_files import why_not_here
from hat_ray.evaluate.tokenizers import AUTO, NEEDS, Tokenizer
from hat_ray.latency.detection import detect
from hat_ray.latency.timing.canary import CanaryMonitor
from hat_ray.latency.timing.engines import timing_state, translation
from hat_ray.latency.timing.sensors.machine_state import MachineState, Sensors, advice
from hat_ray.latency.timing.workload import Workload
from hat_ray.model.config import ModelConfig
from hat_ray.model.protocol import EOS, BeamSettings, StepwiseEngine, WholeEngine
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.choice import fastest_engine
from hat_ray.runtime.protocol import RUNTIMES, RuntimeSettings, load_engine
from hat_ray.space.presets import TOY

_PACKAGES = ("torch", "ray", "xgboost", "pyarrow", "sentencepiece", "sacrebleu", "onnxruntime")
_GIB = 2**30
_LEAST_MEMORY_GIB = 4.0  # what the toy recipe uses at most, and room for the system
_LEAST_DISK_GIB = 2.0
_WORDS = 8  # of a translation that two runtimes are compared by
_STEADY = 0.05  # spread of a canary above which more repetitions are needed
_WORKLOAD = Workload(source_length=10, target_length=10, vocab_size=200)


def examine_machine(place: Path, watch_s: float = 3.0) -> Iterator[DoctorResult]:
    """Look at this machine; runs would be written to `place`, and a timing is repeated for `watch_s` seconds."""
    yield _versions()
    yield _processor()
    yield _memory()
    yield from _disks(place)
    yield examine_gpus()
    yield from examine_runtimes()
    yield _tokenizers()
    yield from _timing(watch_s)


def _versions() -> DoctorResult:
    found, lacking = [f"Python {platform.python_version()}"], []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lacking.append(package)
    if lacking:
        detail = f"{', '.join(found)}; lacks {', '.join(lacking)}"
        return DoctorResult("versions", "missing", detail, f"pip install {' '.join(lacking)}")
    return DoctorResult("versions", "good", ", ".join(found))


def _processor() -> DoctorResult:
    cpu = read_cpu()
    detail = f"{cpu.model}, {cpu.logical_cores} logical cores, {', '.join(cpu.isa) or 'no known vector instructions'}"
    if allowed_isa(cpu.isa) != cpu.isa:
        detail += f"; PyTorch's products keep to ONEDNN_MAX_CPU_ISA={max_isa()}"
    return DoctorResult("processor", "good", detail)


def _memory() -> DoctorResult:
    total, free = (_meminfo(key) for key in ("MemTotal", "MemAvailable"))
    if total is None or free is None:
        return DoctorResult("memory", "good", "this system does not report it")
    detail = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB free"
    if free / _GIB < _LEAST_MEMORY_GIB:
        remedy = f"close something: the toy recipe wants {_LEAST_MEMORY_GIB:g} GiB, real text more"
        return DoctorResult("memory", "advice", detail, remedy)
    return DoctorResult("memory", "good", detail)


def _meminfo(key: str) -> int | None:
    """Return a line of /proc/meminfo in bytes."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), None)


def _disks(place: Path) -> Iterator[DoctorResult]:
    for name, folder, how in (
        ("disk for runs", place, "name a roomier place with --run"),
        ("disk for downloads", cache_root(), "name a roomier place in HAT_RAY_CACHE"),
    ):
        existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        free = shutil.disk_usage(existing).free / _GIB
        detail = f"{free:.1f} GiB free at {existing}"
        if not existing.is_dir():
            yield DoctorResult(name, "missing", f"{existing} is a file where a folder should be", how)
        elif not os.access(existing, os.W_OK):
            yield DoctorResult(name, "missing", f"{existing} cannot be written to", how)
        elif free < _LEAST_DISK_GIB:
            yield DoctorResult(name, "advice", detail, how)
        else:
            yield DoctorResult(name, "good", detail)


def examine_runtimes() -> Iterator[DoctorResult]:
    """Let every runtime decode a few steps of a small model, and compare its choices with PyTorch's."""
    model = SubTransformer(TOY.smallest(), _WORKLOAD.vocab_size, ModelConfig()).eval()
    for runtime in RUNTIMES.names:
        try:
            dtypes = RUNTIMES.facts(runtime).dtypes
        except PluginError as problem:
            yield DoctorResult(f"runtime {runtime}", "advice", "cannot be loaded", str(problem))
            continue
        for dtype in dtypes:
            name = f"runtime {runtime} {dtype}"
            try:
                detect(runtime=runtime, dtype=dtype)  # refuses a dtype that the runtime's own device would emulate
                difference = _difference(model, runtime, dtype)
            except (HatRayError, ImportError, RuntimeError) as problem:
                yield DoctorResult(name, "advice", "does not run here", in_one_line(problem))
            else:
                detail = f"runs, {RUNTIMES.load(runtime).arithmetic(dtype)}; {difference}"
                yield DoctorResult(name, "good", detail)


def _tokenizers() -> DoctorResult:
    """Look which tokenizers of sacreBLEU work here: some languages need one of their own."""
    lacking = {name: reason for name in NEEDS if (reason := why_not_here(name)) is not None}
    able = ", ".join(name for name in get_args(Tokenizer) if name not in (AUTO, *lacking))
    if lacking:
        return DoctorResult("tokenizers of scores", "advice", able, "; ".join(lacking.values()))
    return DoctorResult("tokenizers of scores", "good", able)


@torch.inference_mode()
def _difference(model: SubTransformer, runtime: str, dtype: str) -> str:
    """Compare a runtime's first logits, or where it gives none its translation, with PyTorch's."""
    engine = load_engine(deepcopy(model), runtime, RuntimeSettings(dtype))
    source = torch.tensor([[*range(4, 12), EOS]])
    if isinstance(engine, WholeEngine):
        words = engine.translate(source.tolist(), BeamSettings(1, 1.0, _WORDS), exact_length=_WORDS)[0]
        alike = sum(a == b for a, b in zip(words, _greedy(model, source), strict=True))
        return f"{alike} of {_WORDS} words are those of fp32 PyTorch"
    both: list[StepwiseEngine] = [model, engine]
    first = torch.tensor([EOS])
    logits = [each.step(first, each.start(source, 1)).float().clone() for each in both]
    error = float((logits[0] - logits[1]).abs().max())
    return f"logits differ from fp32 PyTorch's by {error:.1e} at most"


def _greedy(model: SubTransformer, source: torch.Tensor) -> list[int]:
    """Return the most probable word after each step, the end of sentence left out."""
    state, words = model.start(source, 1), [EOS]
    for _ in range(_WORDS):
        logits = model.step(torch.tensor(words[-1:]), state)
        logits[:, EOS] = -torch.inf
        words.append(int(logits.argmax()))
    return words[1:]


def _timing(watch_s: float) -> Iterator[DoctorResult]:
    """Time a canary on the fastest runtime for a few seconds: does this machine repeat itself?"""
    model = SubTransformer(TOY.smallest(), _WORKLOAD.vocab_size, ModelConfig()).eval()
    runtime, engine = fastest_engine(model, RuntimeSettings())
    watch, sensors = CanaryMonitor(translation(engine, _WORKLOAD), tolerance=0.1), Sensors()
    with timing_state(1), torch.inference_mode():
        watch.calibrate(0.5)
        sensors.start()
        times: list[float] = []
        while sum(times) < 1e3 * watch_s:
            times.append(watch.time())
        machine_state = sensors.stop()
    low, middle, high = np.percentile(times, (10, 50, 90))
    spread = (high - low) / 2 / middle
    detail = f"a translation of {middle:.2f} ms with {runtime} repeats within {spread:.1%} (10th to 90th percentile)"
    if spread > _STEADY:
        remedy = "leave the machine alone while it times; rows are corrected by a canary, and take longer"
        yield DoctorResult("timing", "advice", detail, remedy)
    else:
        yield DoctorResult("timing", "good", detail)
    for kind, text in advice(machine_state).items():
        yield DoctorResult(f"timing: {kind}", "advice", *text.split(": ", 1))
    yield _sensors(machine_state, sensors)


def _sensors(state: MachineState, sensors: Sensors) -> DoctorResult:
    detail = {
        "clock": state.cpu_mhz is not None,
        "governor": state.governor is not None,
        "temperature": state.temperature_c is not None,
        "throttling": state.throttled is not None,
        "load of others": state.other_load_cpus is not None,
        "memory": state.peak_resident_bytes is not None,
        "energy": sensors.meter.read() is not None,
    }
    seen = ", ".join(name for name, known in detail.items() if known) or "nothing"
    hidden = ", ".join(name for name, known in detail.items() if not known)
    return DoctorResult("sensors", "good", f"rows will hold {seen}" + (f"; not {hidden}" if hidden else ""))

"""What a certificate measures, in a process of its own: an export's translate.py loads and translates.

`latency/timing/quantities/peak_process.py` calls a function here with its job's folder. Nothing is imported that a
user's own process would not load, but for what counts joules and load.

The job has `export` (the folder), `lines`, `threads` and `split`; that of `stream` also `warmup`, `queries` and
`seconds`. The answer is a file of the folder.
"""

import importlib.util
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hat_ray.latency.timing.sensors.energy import cpu_meter, joules_since
from hat_ray.latency.timing.sensors.host import LoadWatch

ANSWER, ERROR = "answer.json", "error"
_LIBRARIES = ("ctranslate2", "numpy", "onnxruntime", "sentencepiece")
_NAME = "exported_translate"


def run_program(folder: Path, job: Mapping[str, Any]) -> int:
    """Run translate.py as a user does, on the lines as its standard input; return the most bytes that it held.

    The system reports no less than what this process held, which is far less.
    """
    lines = folder / "lines"
    lines.write_text("".join(f"{line}\n" for line in job["lines"]), encoding="utf-8")
    options = ["--threads", str(job["threads"]), *([] if job["split"] else ["--no-split"])]
    with lines.open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, str(Path(job["export"]) / "translate.py"), *options],
            stdin=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
    if done.returncode == 0:
        _answer(folder, lines=done.stdout.count("\n"))
    else:
        why = done.stderr.strip().rpartition("\n")[2] or f"translate.py ended with {done.returncode}"
        _answer(folder, **{ERROR: why.removeprefix("translate.py: error: ")})
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit


def translate_once(folder: Path, job: Mapping[str, Any]) -> None:
    """Translate the lines together; answer with translations and seconds, and with the export's manifest."""
    if (translator := _opened(folder, job)) is None:
        return
    began = time.perf_counter()
    translations = translator.translate(job["lines"], split=job["split"])
    seconds = time.perf_counter() - began
    versions = {name: str(sys.modules[name].__version__) for name in _LIBRARIES if name in sys.modules}
    _answer(
        folder,
        translations=translations,
        seconds=seconds,
        manifest=translator.manifest,
        versions={"python": platform.python_version(), **versions},
    )


def stream(folder: Path, job: Mapping[str, Any]) -> None:
    """Translate line after line, each when the one before is there; answer with the milliseconds of each.

    It ends once both the queries and the seconds are reached.
    """
    if (translator := _opened(folder, job)) is None:
        return
    lines, split = job["lines"], job["split"]
    samples_ms: list[float] = []
    for row in range(job["warmup"]):
        translator.translate([lines[row % len(lines)]], split=split)
    meter, load = cpu_meter(), LoadWatch(Path("/"))
    before_j, started = meter.read(), time.perf_counter()
    load.start()
    while len(samples_ms) < job["queries"] or time.perf_counter() - started < job["seconds"]:
        line, began = lines[len(samples_ms) % len(lines)], time.perf_counter()
        translator.translate([line], split=split)
        samples_ms.append((time.perf_counter() - began) * 1e3)
    seconds = time.perf_counter() - started
    joules, (others, _) = joules_since(meter, before_j), load.others_and_steal()
    _answer(folder, samples_ms=samples_ms, seconds=seconds, joules=joules, meter=meter.source, other_load_cpus=others)


def _opened(folder: Path, job: Mapping[str, Any]) -> Any:
    """Load an export by its own translate.py; None, and the reason as the answer, where it cannot be."""
    place = Path(job["export"])
    sys.dont_write_bytecode = True  # the export stays as it is
    try:
        spec = importlib.util.spec_from_file_location(_NAME, place / "translate.py")
        assert spec, "a Python file has a loader"
        assert spec.loader, "a Python file has a loader"
        module = sys.modules[_NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.ExportedTranslator(place, job["threads"])
    except (ValueError, OSError, ImportError, SystemExit) as error:
        _answer(folder, **{ERROR: " ".join(str(error).split()) or type(error).__name__})
        return None


def _answer(folder: Path, **figures: Any) -> None:
    (folder / ANSWER).write_text(json.dumps(figures), encoding="utf-8")

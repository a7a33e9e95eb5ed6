"""Write a timing kit: what a board that has no hat-ray needs to time a recipe's architectures.

Decisions
- The kit's programs are copies of hat-ray's own files, byte for byte, found by following the imports of `board.py`.
- Graphs are the fleet's, without their weights: those are drawn on the board, from shapes.
"""

import ast
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import onnx
from onnx.external_data_helper import set_external_data

import hat_ray
from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import LatencyError
from hat_ray.latency.kit import board, measure
from hat_ray.latency.kit.plan import GRAPHS, PLAN, Plan, canonical, plan_to_json, sha256_of
from hat_ray.latency.kit.weights import SHAPES
from hat_ray.latency.quantity_rows import measured_names
from hat_ray.latency.timing.engines import random_model
from hat_ray.latency.timing.job import TimingJob
from hat_ray.latency.timing.workload import require_room
from hat_ray.runtime.choice import AUTO
from hat_ray.runtime.onnx.engine import build_graphs
from hat_ray.runtime.onnx.graph import graph_dtype
from hat_ray.runtime.onnx.layout import OUTSIDE_BYTES
from hat_ray.runtime.protocol import RUNTIMES, RuntimeSettings, why_unsupported
from hat_ray.space.architecture import Architecture
from hat_ray.storage.temporary import temporary_folder

LEAST_ONNXRUNTIME = "1.22"
"""As in pyproject.toml: from it on, 8-bit weights are multiplied on every CPU."""
_RUNTIME = "onnx"
_PROGRAM, _README = "measure.py", "README.md"
_DRAWN = ("float32", "uint8", "int8")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # two kits of one plan are equal


@dataclass(frozen=True)
class Kit:
    """A timing kit that was written."""

    id: str
    architectures: int
    files: int
    bytes: int
    unmeasured: tuple[str, ...] = ()
    """Quantities that limits bound or settings name, and that a kit does not measure."""


def write_kit(
    job: TimingJob,
    architectures: Sequence[Architecture],
    out: Path,
    name: str = "",
    progress: Progress = no_progress,
) -> Kit:
    """Write a kit that times architectures; `out` must not exist, or be an empty folder.

    `name` is the user's name for the board. Raises LatencyError where ONNX Runtime does not time what the job asks for.
    """
    _require_free(out)
    quantisation = _require_runtime(job)
    with temporary_folder("kit") as place:
        canary = job.space.smallest()
        _write_graphs(place / GRAPHS, job, list(dict.fromkeys([canary, *architectures])), progress)
        _write_programs(place)
        plan = Plan(
            hat_ray=hat_ray.__version__,
            name=name,
            space_id=job.space.id,
            dtype=job.config.dtype,
            quantisation=quantisation,
            protocol=job.protocol,
            canary_tolerance=job.config.canary_tolerance,
            calibration_s=job.config.calibration_s,
            canary=canary.id,
            architectures={one.id: one.to_dict() for one in architectures},
            order=[one.id for one in architectures],
            least_onnxruntime=LEAST_ONNXRUNTIME,
            files={},
        )
        (place / _README).write_text(_readme(plan), encoding="utf-8")
        files = sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))
        plan = replace(plan, files={path.relative_to(place).as_posix(): sha256_of(path) for path in files})
        (place / PLAN).write_text(canonical({**plan_to_json(plan), "id": plan.id}) + "\n", encoding="utf-8")
        size = sum(path.stat().st_size for path in [*files, place / PLAN])
        shutil.copytree(place, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
    unmeasured = measured_names(job.quantities_of(""))
    return Kit(plan.id, len(plan.architectures), len(files) + 1, size, tuple(unmeasured))


def _require_free(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise LatencyError(f"a kit needs a new or empty folder, {out} is none: name another with --out")


def _require_runtime(job: TimingJob) -> str:
    """Return the quantisation of the job's dtype; raise LatencyError where a kit cannot time by its settings."""
    config, facts = job.config, RUNTIMES.facts(_RUNTIME)
    if config.runtime not in (AUTO, _RUNTIME):
        raise LatencyError(
            f"a timing kit times on ONNX Runtime, got latency.runtime {config.runtime}: pass --set latency.runtime=onnx"
        )
    if config.dtype not in facts.dtypes:
        raise LatencyError(f"a timing kit times {' or '.join(facts.dtypes)}, got latency.dtype {config.dtype}")
    largest = job.space.largest()
    settings = RuntimeSettings(config.dtype, "cpu", config.threads)
    if reason := why_unsupported(_RUNTIME, settings, largest, config=job.model_config):
        raise LatencyError(reason)
    require_room(job.protocol.workload, job.model_config.max_positions)
    return facts.dtypes[config.dtype]


def _write_graphs(path: Path, job: TimingJob, architectures: Sequence[Architecture], progress: Progress) -> None:
    """Write each architecture's graphs without weights, and the weights' shapes."""
    dtype = graph_dtype(job.config.dtype)
    with ZipFile(path, "w", ZIP_DEFLATED, compresslevel=9) as archive:
        for done, one in enumerate(architectures, 1):
            model = random_model(one, job.model_config, job.protocol.workload).eval()
            shapes: dict[str, Any] = {}
            for part, graph in build_graphs(model, dtype).items():
                shapes[part] = _take_weights_out(graph)
                archive.writestr(_entry(f"{one.id}/{part}.onnx"), graph.SerializeToString())
            archive.writestr(_entry(f"{one.id}/{SHAPES}"), canonical(shapes))
            progress(done, len(architectures), {})


def _entry(name: str) -> ZipInfo:
    entry = ZipInfo(name, _EPOCH)
    entry.compress_type = ZIP_DEFLATED
    return entry


def _take_weights_out(graph: onnx.ModelProto) -> dict[str, list[Any]]:
    """Take large constants out of a graph; return the dtype and shape of each by its new, short name."""
    shapes: dict[str, list[Any]] = {}
    names: dict[str, str] = {}
    for tensor in graph.graph.initializer:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name
        if len(tensor.raw_data) < OUTSIDE_BYTES or dtype not in _DRAWN:
            continue
        names[tensor.name] = f"w{len(names)}"
        tensor.name = names[tensor.name]
        shapes[tensor.name] = [dtype, list(tensor.dims)]
        set_external_data(tensor, "drawn", offset=0, length=len(tensor.raw_data))
        tensor.ClearField("raw_data")
    for node in graph.graph.node:
        renamed = [names.get(name, name) for name in node.input]
        del node.input[:]
        node.input.extend(renamed)
    return shapes


def _write_programs(place: Path) -> None:
    """Copy `measure.py` and every file of hat-ray that it needs."""
    shutil.copyfile(str(measure.__file__), place / _PROGRAM)
    for module, path in sorted(programs().items()):
        target = place.joinpath(*module.split("."))
        target = target / "__init__.py" if path.name == "__init__.py" else target.with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def programs() -> Mapping[str, Path]:
    """Return the files of hat-ray that a board needs, by module: `board.py`, what it imports, and their packages."""
    found: dict[str, Path] = {}
    todo = [board.__name__]
    while todo:
        module = todo.pop()
        if module not in found:
            found[module] = _file_of(module)
            parents = [module.rsplit(".", count)[0] for count in range(1, module.count(".") + 1)]
            todo += [*_imports(found[module]), *parents]
    return found


def _imports(path: Path) -> Iterator[str]:
    """Yield the modules of hat-ray that a file imports when it is loaded; those for type checkers alone are not."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            todo += node.orelse
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hat_ray."):
            yield str(node.module)
        todo += ast.iter_child_nodes(node)


def _file_of(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"{module} has no file")
    return Path(spec.origin)


def _readme(plan: Plan) -> str:
    work = plan.protocol.workload
    minutes = len(plan.architectures) * (plan.protocol.budget_s + plan.protocol.patience_s) / 60
    return f"""# A timing kit of hat-ray

It times {len(plan.architectures)} architectures on this board, and needs no hat-ray, PyTorch or Ray. Two commands:

```bash
python3 -m venv .venv && .venv/bin/pip install numpy 'onnxruntime>={plan.least_onnxruntime}'
.venv/bin/python measure.py
```

Python 3.11 or later. Each architecture translates {work.source_length} to {work.target_length} tokens, beam
{work.beam}, on {plan.protocol.threads} thread{"s" if plan.protocol.threads != 1 else ""}, in {plan.dtype}.
All take about {max(1, round(minutes))} minutes at most on a board that does nothing else.

Stop it, or cut the power, whenever you like: the same command resumes. Rows stand in `part-*.jsonl`. Take that file
back to the machine that has hat-ray:

```bash
hat-ray latency import TABLE part-*.jsonl
```

For rows that hold: leave the board alone, cool it, and fix its clock (`sudo cpupower frequency-set -g performance`).
`measure.py --name pi` names the board; `--part FILE` names the file of the rows. Damaged or changed files of
the kit are refused.
"""

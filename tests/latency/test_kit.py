"""A timing kit: a folder with which a board without hat-ray times, and the part that comes back from it.

The board is a Python without site-packages, with numpy and ONNX Runtime alone.
"""

import ast
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import onnxruntime
import pytest
from typer.testing import CliRunner

import hat_ray as package
from hat_ray.api import run_recipe
from hat_ray.cli import app
from hat_ray.core.codec import from_json
from hat_ray.errors import DamagedError, LatencyError
from hat_ray.latency.kit import board
from hat_ray.latency.kit.bring import import_part
from hat_ray.latency.kit.part import PartWriter, read_part
from hat_ray.latency.kit.plan import read_plan
from hat_ray.latency.table.table import read_table
from hat_ray.latency.table.validate import validate
from hat_ray.pipeline.timing import write_kit_of
from hat_ray.recipe import Recipe, load_recipe
from hat_ray.search.winners import SearchOutput
from tests.made_once import made_once
from tests.pipeline.conftest import TINY
from tests.waiting import wait_for

ARCHITECTURES = 6
QUICK = ("latency.canary_tolerance=50", "latency.calibration_s=0", "latency.budget_s=0.05", "latency.patience_s=0")


def recipe(*changes: str) -> Recipe:
    return load_recipe(TINY, [f"latency.samples={ARCHITECTURES}", *QUICK, *changes])


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit of few architectures, timed in little time."""
    return made_once(tmp_path_factory, "kit", lambda out: write_kit_of(recipe(), "nowhere", out, "pi"))


@pytest.fixture
def kit(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "kit")


def measure(kit: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start `measure.py` on a board, whose Python has numpy and ONNX Runtime alone."""
    libraries = kit.parent / "libraries"
    libraries.mkdir(exist_ok=True)
    for library in (numpy, onnxruntime):
        home = Path(str(library.__file__)).parent
        for place in (home, home.with_name(f"{home.name}.libs")):
            if place.exists() and not (libraries / place.name).exists():
                (libraries / place.name).symlink_to(place)
    return subprocess.Popen(
        [sys.executable, "-S", str(kit / "measure.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(libraries)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Wait for a process; return its exit code and what it wrote."""
    out, error = process.communicate(timeout=300)
    return process.returncode, out + error


def part_of(kit: Path) -> Path:
    (part,) = kit.glob("part-*.jsonl")
    return part


def lines_of(kit: Path) -> int:
    """Return how many whole lines the part of a kit has: a header, and one a visit."""
    return sum(path.read_bytes().count(b"\n") for path in kit.glob("part-*.jsonl"))


def refused(kit: Path, *arguments: str) -> str:
    """Return the one line with which a kit is refused; ONNX Runtime may have lines of its own before it."""
    code, text = ended(measure(kit, *arguments))
    assert code == 2, text
    assert "Traceback" not in text
    *others, line = text.splitlines()
    assert line.startswith("measure.py: error: ")
    assert not any("measure.py" in other for other in others)
    return line


def test_a_kits_programs_are_hat_rays_own_and_import_numpy_and_onnxruntime_alone(kit: Path) -> None:
    root = Path(str(package.__file__)).parent
    programs = [path for path in kit.rglob("*.py") if path.name != "measure.py"]
    assert len(programs) > 20
    for path in programs:
        assert path.read_bytes() == (root.parent / path.relative_to(kit)).read_bytes()
    assert (kit / "measure.py").read_bytes() == (root / "latency/kit/measure.py").read_bytes()
    allowed = {*sys.stdlib_module_names, "numpy", "onnxruntime", "hat_ray"}
    for path in kit.rglob("*.py"):
        if path == kit / "hat_ray/__init__.py":  # its imports are for type checkers, and at the first use of a name
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            foreign = {name.partition(".")[0] for name in names} - allowed
            assert foreign <= {"pyarrow"}, path
            assert not foreign or "if TYPE_CHECKING:" in path.read_text(), path
    assert sum(path.stat().st_size for path in kit.rglob("*") if path.is_file()) < 1_000_000


def test_a_node_times_on_other_runtimes_where_onnxruntime_is_not_installed() -> None:
    code = "import sys; sys.modules['onnxruntime'] = None; "
    code += "import hat_ray.latency.timing.bench; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.strip() == "False"


def test_a_board_times_each_architecture_once_and_its_part_is_imported_once(kit: Path, tmp_path: Path) -> None:
    plan = read_plan(kit)
    code, text = ended(measure(kit))
    assert code == 0, text
    assert re.search(r"6 of 6 architectures, [\d.]+ ms", text)
    done = CliRunner().invoke(app, ["latency", "import", str(tmp_path / "table"), str(part_of(kit))])
    assert done.exit_code == 0, done.output
    rows = read_table(tmp_path / "table", every_measurement=True)
    assert sorted(row.architecture.id for row in rows if row.architecture) == sorted(plan.order)
    assert len({row.device.slug for row in rows}) == 1
    for row in rows:
        assert row.device.slug.startswith("pi-")
        assert row.device.slug in done.output, "the line with which it is searched for"
        assert (row.device.runtime, row.workload) == ("onnx", plan.protocol.workload)
        assert (row.visits or 0) >= plan.protocol.visits
        assert len(row.encoder_samples_ms) == row.repetitions
        assert dict(row.context.library_versions)["onnxruntime"] == onnxruntime.__version__
    again = CliRunner().invoke(app, ["latency", "import", "--json", str(tmp_path / "table"), str(kit)])
    (outcome,) = json.loads(again.stdout)["sources"].values()
    assert (outcome["rows"], outcome["known"]) == (0, 1)
    assert not validate(tmp_path / "table").problems
    code, text = ended(measure(kit))
    assert code == 0
    assert "6 of them timed before" in text


def test_what_does_not_belong_together_is_refused_in_one_line(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = {"kit": "another", "device_slug": "x", "onnxruntime": "1"}
    PartWriter(kit / "theirs.jsonl", header).close()
    assert "theirs.jsonl is a part of another kit" in refused(kit, "--part", str(kit / "theirs.jsonl"))
    for name, value, line in (("device_slug", "pi-4", "on the device pi-4"), ("onnxruntime", "1.0", "onnxruntime 1.0")):
        own = {"kit": read_plan(kit).id, "device_slug": "x", "onnxruntime": "1", name: value}
        PartWriter(kit / f"{name}.jsonl", own).close()
        with pytest.raises(LatencyError, match=f"was begun .*{line}, this is"):
            PartWriter(kit / f"{name}.jsonl", {**own, name: "other"})
    monkeypatch.setattr(onnxruntime, "__version__", "1.21.3")
    with pytest.raises(LatencyError, match=r"onnxruntime must be 1.22 or later, got 1.21.3: pip install"):
        board._require_library(read_plan(kit))
    held = PartWriter(kit / "held.jsonl", header)
    with pytest.raises(LatencyError, match=r"is being written by another measure\.py"):
        PartWriter(kit / "held.jsonl", header)
    held.close()
    canary = kit / "hat_ray/latency/timing/canary.py"
    canary.write_text(canary.read_text() + "\n")
    assert "canary.py was changed or damaged: copy the kit again" in refused(kit)
    (kit / "kit.json").write_text((kit / "kit.json").read_text().replace("0.05", "0.06"))
    assert "kit.json was changed or damaged" in refused(kit)


def test_a_part_that_was_changed_is_refused_and_one_that_was_cut_loses_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    part = PartWriter(path, {"kit": "k", "device_slug": "d", "onnxruntime": "1"})
    for name in ("a", "b", "c", "d"):
        part.append({"architecture_id": name, "ms": 0.1})
    part.close()
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for tail in (b"", b'{"content":{"archi', b"\0" * 64, b'{"content":{"architecture_id":"e"},"sha256":"no"}\n'):
        path.write_bytes(whole + tail)
        assert list(read_part(path).rows) == ["a", "b", "c", "d"]
        resumed = PartWriter(path, {"kit": "k", "device_slug": "d", "onnxruntime": "1"})
        resumed.close()
        assert path.read_bytes() == whole, "what a power cut left is gone"
    for changed in (lines[:2] + lines[3:], [*lines[:2], lines[2].replace(b"0.1", b"0.2"), *lines[3:]], lines[1:], []):
        path.write_bytes(b"".join(changed))
        with pytest.raises(LatencyError, match=r"is damaged in line \d, or no part|is no part of a timing kit"):
            read_part(path)
    path.write_bytes(b"".join(lines[:1]))
    with pytest.raises(DamagedError, match=r"line 1, is damaged \(space_id: Field required\): take a part"):
        import_part(tmp_path / "table", path)
    assert not (tmp_path / "table").exists()


def test_a_kit_for_a_device_of_the_recipe_has_its_settings_and_times_in_int8(tmp_path: Path) -> None:
    device = 'latency.devices=[{"name": "pi", "labels": {"hw": "pi"}, "dtype": "int8"}, {"name": "rack"}]'
    write_kit_of(recipe(device, "latency.samples=3"), str(tmp_path / "run"), tmp_path / "kit", "pi")
    plan = read_plan(tmp_path / "kit")
    assert (plan.dtype, plan.quantisation, len(plan.order)) == ("int8", "pairs", 3)
    code, text = ended(measure(tmp_path / "kit"))
    assert code == 0, text
    assert part_of(tmp_path / "kit").name.endswith("-1t-onnx-int8-pairs.jsonl")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            "latency.runtime=packed",
            "times on ONNX Runtime, got latency.runtime packed: pass --set latency.runtime=onnx",
        ),
        ("latency.dtype=bf16", "a timing kit times fp32 or int8, got latency.dtype bf16"),
        ("latency.target_length=2000", "must be at most model.max_positions"),
    ],
)
def test_what_a_kit_cannot_time_is_refused_when_it_is_written(tmp_path: Path, change: str, line: str) -> None:
    with pytest.raises(LatencyError, match=line):
        write_kit_of(recipe(change), str(tmp_path / "run"), tmp_path / "kit")
    assert not (tmp_path / "kit").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_device_timed_by_a_killed_and_resumed_kit_is_searched_for(tmp_path: Path) -> None:
    """A full disk, then SIGKILL, then a power cut's torn line; then a search on the imported device."""
    settings = ("latency.samples=10", "latency.relative_error=0.000001", "latency.max_repetitions=100000")
    slow = recipe(*settings, "latency.budget_s=1")  # half a second a visit: there is a middle to be killed in
    kit = tmp_path / "kit"
    write_kit_of(slow, str(tmp_path / "run"), kit, "pi")
    full = measure(kit)
    wait_for(lambda: lines_of(kit) > 2)
    size = part_of(kit).stat().st_size
    resource.prlimit(full.pid, resource.RLIMIT_FSIZE, (size, size))  # as a disk that is full from now on
    code, text = ended(full)
    assert code == 2
    assert "has no room for a row: free some disk" in text.splitlines()[-1]
    first = read_part(part_of(kit))
    assert first.end == part_of(kit).stat().st_size, "no half row is left"
    assert 0 < len(first.rows) < 10
    before = lines_of(kit)
    killed = measure(kit)
    wait_for(lambda: lines_of(kit) > before + 1)
    killed.kill()
    assert ended(killed)[0] == -signal.SIGKILL
    with part_of(kit).open("ab") as file:
        file.write(b'{"content":{"architecture_id":"torn')
    code, text = ended(measure(kit))
    assert code == 0, text
    table = tmp_path / "table"
    brought = import_part(table, part_of(kit))
    rows = read_table(table, every_measurement=True)
    assert sorted(row.architecture.id for row in rows if row.architecture) == sorted(read_plan(kit).order)
    assert len({row.context.session_id for row in rows}) >= 1
    entry = f'latency.devices=[{{"table": "{brought.device}"}}]'
    records = {
        one.stage: one
        for one in run_recipe(recipe(*settings, f"latency.table={table}", entry), str(tmp_path / "run"), local=True)
    }
    found = from_json(SearchOutput, records["search"].output, "output")
    assert found.winners
    assert {winner.limit.device for winner in found.winners} == {brought.device}

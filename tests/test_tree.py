"""The tree's two rules: imports go one way, and Ray stands at the rim."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import hat_ray

ROOT = Path(hat_ray.__file__).parent
ORDER = (
    "errors",
    "storage",
    "core",
    "space",
    "corpus",
    "front",
    "model",
    "foreign",
    "train",
    "runtime",
    "latency",
    "predictor",
    "search",
    "evaluate",
    "export",
    "studies",
    "report",
    "certificate",
    "recipe",
    "pipeline",
    "serve",
    "doctor",
    "cluster",
    "api",
    "exchange",
    "cli",
)
SOURCES = sorted(ROOT.rglob("*.py"))


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Return (module, whether it is imported inside a function) for every import of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append((node.module or "", id(node) in inside))
            if node.module == "hat_ray":
                found += [(f"hat_ray.{alias.name}", id(node) in inside) for alias in node.names]
    return found


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", SOURCES, ids=[str(p.relative_to(ROOT)) for p in SOURCES])
def test_imports_go_one_way(path: Path):
    own = path.relative_to(ROOT).with_suffix("").parts[0]
    if own == "__init__":
        return
    for module, _ in imports(path):
        if module.startswith("hat_ray.") and module != "hat_ray.__version__":
            assert ORDER.index(room(module)) <= ORDER.index(own), f"{own} imports {module}, which stands after it"


def test_every_room_has_one_place_in_the_order():
    rooms = {path.relative_to(ROOT).with_suffix("").parts[0] for path in SOURCES}
    assert sorted(ORDER) == sorted(rooms - {"__init__"})


def test_ray_stands_only_in_the_package_cluster():
    with_ray = {
        path.relative_to(ROOT)
        for path in SOURCES
        if any(module == "ray" or module.startswith("ray.") for module, _ in imports(path))
    }
    assert with_ray
    assert {path.parts[0] for path in with_ray} == {"cluster"}


def test_private_parts_of_ray_are_touched_in_one_module():
    """Ray has no public function that makes it read its environment again, nor for drained nodes alone."""
    private = re.compile(
        r"\bray\.(_[a-z]\w*|train\.v2\S*|experimental\S*|\w+\._\w+)|import _(?!_)\w+ as|internal_kv|__name__:$"
    )
    found = {
        (path.name, match.group(0))
        for path in (ROOT / "cluster").rglob("*.py")
        for match in private.finditer(path.read_text(encoding="utf-8"))
    }
    assert found == {
        ("session.py", "ray._private"),
        ("session.py", "ray._raylet"),
        ("serve.py", "import _server as"),  # gRPC's
    }


def test_only_the_rim_is_imported_inside_functions():
    """The command line starts fast, and works without Ray, because heavy stages are imported when they are called."""
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] != "cli" and path.name not in ("api.py", "all.py"):
            late = [module for module, inside in imports(path) if inside]
            assert not late, f"{path} imports {late} inside a function"


def test_every_module_imports():
    for module in pkgutil.walk_packages(hat_ray.__path__, "hat_ray."):
        importlib.import_module(module.name)


def test_the_core_works_where_ray_is_not_installed(tmp_path: Path):
    code = """
import builtins, importlib, pkgutil, sys
real = builtins.__import__
def without_ray(name, *args, **kwargs):
    if name == "ray" or name.startswith("ray."):
        raise ModuleNotFoundError("No module named 'ray'", name="ray")
    return real(name, *args, **kwargs)
builtins.__import__ = without_ray
import hat_ray
for module in pkgutil.walk_packages(hat_ray.__path__, "hat_ray."):
    if ".cluster" not in module.name:
        importlib.import_module(module.name)
assert "ray" not in sys.modules
from hat_ray.cli import main
sys.argv = ["hat-ray", "corpus", "toy", "--run", sys.argv[1]]
main()
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "r")], capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 2, result.stderr
    assert "Ray is not installed here" in result.stderr
    assert not (tmp_path / "r").exists()


def test_no_file_grows_without_a_reason():
    long = [str(path.relative_to(ROOT)) for path in SOURCES if len(path.read_text().splitlines()) > 400]
    assert not long


def test_no_folder_holds_more_than_a_dozen_files():
    sizes = {folder: len([p for p in folder.glob("*.py") if p.name != "__init__.py"]) for folder in ROOT.rglob("*/")}
    assert not {str(folder.relative_to(ROOT)): size for folder, size in sizes.items() if size > 12}


def imported_by(command: list[str]) -> set[str]:
    """Return the libraries that a command imports."""
    code = "import sys\nfrom hat_ray.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    result = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=240, check=False
    )
    return {name.partition(".")[0] for name in result.stderr.splitlines()[-1].split()}


@pytest.mark.parametrize("command", ["", "run", "search", "train", "latency show", "predict", "recipe", "translate"])
def test_help_waits_for_no_library_of_the_work(command):
    """A command line that takes seconds to report what is wrong is not tried twice."""
    found = imported_by([*command.split(), "--help"])
    assert "typer" in found
    assert not {"torch", "ray", "xgboost", "onnxruntime", "numpy", "pyarrow", "pandas"} & found


def test_a_mistake_in_a_recipe_waits_for_no_heavy_library():
    found = imported_by(["run", "toy", "--set", "search.evaluations=none"])
    assert "pydantic" in found
    assert not {"torch", "ray", "xgboost", "onnxruntime"} & found

"""No command executes what lies in the current folder or in a folder that it was given, here or in a worker of Ray."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from hat_ray.cli import app
from hat_ray.space.hat_yaml import write_architecture
from tests.cli.canary import Canary
from tests.exported import Exported
from tests.pipeline.imports.test_from_hat import write_files
from tests.ports import free_port
from tests.waiting import end, wait_for

ROOT = Path(__file__).parents[2]
SPACE = {
    "encoder_embed_dims": [32, 16],
    "encoder_depths": [2, 1],
    "encoder_ffn_dims": [32, 16],
    "decoder_embed_dims": [32, 16],
    "decoder_depths": [2, 1],
    "decoder_ffn_dims": [32, 16],
    "qkv_dim": 32,
}
TIMING = {"samples": 12, "min_repetitions": 5, "max_repetitions": 6, "source_length": 6, "target_length": 6}
RECIPE = {
    "name": "canary",
    "corpus": {
        "source": "toy",
        "vocab_size": 400,
        "toy": {"train_pairs": 400, "valid_pairs": 40, "test_pairs": 30},
    },
    "space": SPACE,
    "supernet": {"updates": 6, "max_tokens": 1024, "warmup_updates": 2, "validate_every": 6, "workers": 1},
    "latency": {**TIMING, "budget_s": 0.2, "patience_s": 0.2, "calibration_s": 0.2},
    "search": {
        "evaluations": 12,
        "algorithm_options": {"population": 8, "parents": 4},
        "workers": 1,
        "limits_ms": [1000],
    },
    "retrain": {"updates": 4, "max_tokens": 1024, "warmup_updates": 2, "validate_every": 4},
    "evaluate": {"beam": 2},
    "ranking": {"architectures": 4, "seeds": 1, "bins": 2},
    "policies": {"seeds": 1, "compare": ["front/uniform", "middle/uniform"]},
}
LOOSE = ["--min-agreement", "0", "--max-bleu-loss", "100"]
CASES: dict[str, list[str]] = {  # in an order in which each finds what it needs
    "recipe list": [],
    "recipe show": ["toy"],
    "recipe check": ["recipe.json"],
    "recipe schema": [],
    "cost": ["shape.yml"],
    "corpus prepare": ["recipe.json", "--run", "run", "WHERE"],
    "corpus inspect": ["recipe.json"],
    "train super": ["run", "WHERE"],
    "train sub": ["shape.yml", "run", "--out", "sub"],
    "train ranking": ["run", "WHERE"],
    "train policies": ["run", "WHERE"],
    "latency measure": ["run", "WHERE"],
    "latency kit": ["run", "--out", "kit", "--set", "latency.runtime=onnx"],
    "latency sweep": ["run", "WHERE"],
    "latency onboard": ["run", "--error", "90%", "WHERE"],
    "latency show": ["run/latency/table"],
    "latency validate": ["run/latency/table"],
    "latency import": ["lake", "run/latency/table"],
    "latency compact": ["lake"],
    "latency export": ["lake", "csv"],
    "predict fit": ["run", "WHERE"],
    "predict score": ["run"],
    "predict latency": ["run", "shape.yml"],
    "search run": ["run", "WHERE"],
    "search show": ["run"],
    "retrain": ["run", "WHERE"],
    "evaluate score": ["run", "WHERE"],
    "evaluate compare": ["lines.txt", "lines.txt", "--reference", "lines.txt"],
    "report": ["run"],
    "run recipe": ["run", "WHERE"],
    "run clean": ["run"],
    "export": ["run", "--out", "exported", *LOOSE],
    "certify make": ["exported", "--source", "lines.txt", "--queries", "2", "--seconds", "0"],
    "certify verify": ["exported.certificate.json", "exported", "--repeat"],
    "translate": ["exported", "--score", "lines.txt"],
    "convert": ["run", "--out", "converted"],
    "import super": ["hat/super.pt", "--data-bin", "hat/data-bin", "--run", "imported"],
    "import model": ["hat/super.pt", "--data-bin", "hat/data-bin", "--architecture", "hat/one.yml", "--out", "model"],
    "import recipe": ["hat/space.yml", "--out", "imported.yaml"],
    "space around": ["sub"],
    "distil": ["run", "--out", "distilled"],
    "doctor": ["ADDRESS"],
    "serve": ["exported", "--detach", "--port", "PORT", "ADDRESS"],
}
NEEDS_CLUSTER = ("serve",)
REFUSED = {"convert": 2}
"""Exit codes other than 0: the network of RECIPE is not one of Marian's."""


def commands(group: Any, before: str = "") -> Iterator[str]:
    """Yield every command of the command line by its whole name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}"


def plan(folder: Path, address: str | None) -> list[tuple[str, list[str], str]]:
    """Return the commands as they are called in a stranger's folder."""
    where = {
        "WHERE": ["--local"] if address is None else ["--address", address],
        "ADDRESS": [] if address is None else ["--address", address],
        "PORT": [str(free_port())],
    }
    planned = []
    for name, arguments in CASES.items():
        if address is None and name in NEEDS_CLUSTER:
            continue
        given = [word for argument in arguments for word in where.get(argument, [argument])]
        planned.append((name, [*name.split(), *given], str(folder / "lines.txt")))
    return planned


def run_all(tmp: Path, address: str | None, environment: dict[str, str]) -> tuple[dict[str, Any], Canary, str]:
    """Run every command with a stranger's folder as the current one; return exit codes, canary, and what was said."""
    canary = Canary(tmp / "foreign", tmp / "marks")
    folder = canary.folder
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    (folder / "lines.txt").write_text("a b c\nd e\n")
    (folder / "hat").mkdir()
    write_files(folder / "hat")
    from hat_ray.recipe import load_recipe

    space = load_recipe(str(folder / "recipe.json"), []).space.build()
    (folder / "shape.yml").write_text(write_architecture(space.largest()))
    (tmp / "plan.json").write_text(json.dumps(plan(folder, address)))
    script = Path(__file__).with_name("several_commands.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp / "plan.json"), str(tmp / "codes.json")],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert (tmp / "codes.json").exists(), done.stderr[-3000:]
    return json.loads((tmp / "codes.json").read_text()), canary, done.stderr


def plain_environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "PYTHONPATH")}
    return {**kept, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", **more}


def test_every_command_has_its_case() -> None:
    assert sorted(CASES) == sorted(commands(typer.main.get_command(app)))


def test_a_canary_marks_what_is_executed(tmp_path: Path) -> None:
    """Else no test here could fail."""
    canary = Canary(tmp_path / "foreign", tmp_path / "marks")
    code = "import json, numpy; print(json.loads('[1]'), numpy.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=canary.folder, capture_output=True, text=True, timeout=240, check=True
    )
    assert done.stdout.startswith("[1] ")
    assert {"json", "numpy"} <= set(canary.caught())


def run_in(canary: Canary, *command: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=canary.folder,
        env=plain_environment(),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("arguments", [["recipe", "list"], ["doctor"]], ids=" ".join)
def test_python_dash_m_imports_nothing_from_the_current_folder(arguments: list[str], tmp_path: Path) -> None:
    """Only hat-ray itself: that is what Python was told to run from there, before hat-ray has a say."""
    canary = Canary(tmp_path / "foreign", tmp_path / "marks", besides=("hat_ray",))
    done = run_in(canary, "-m", "hat_ray.cli", *arguments)
    assert (done.returncode, canary.caught()) == (0, {}), done.stderr


def test_a_job_script_imports_nothing_from_the_current_folder(tmp_path: Path) -> None:
    canary = Canary(tmp_path / "foreign", tmp_path / "marks")
    small = ["--set", "corpus.toy.train_pairs=300", "--set", "corpus.vocab_size=300", "--local"]
    done = run_in(canary, ROOT / "jobs/stage.py", "corpus", "--recipe", "toy", "--run", tmp_path / "run", *small)
    assert (done.returncode, canary.caught()) == (0, {}), done.stderr


@pytest.mark.parametrize("kind", ["exported", "exported_ct2"])
def test_an_exported_loader_imports_nothing_from_its_own_folder(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    made: Exported = request.getfixturevalue(kind)
    shutil.copytree(made.folder, tmp_path / "foreign")
    canary = Canary(tmp_path / "foreign", tmp_path / "marks")
    for script in (canary.folder / "translate.py", "translate.py"):
        done = run_in(canary, script, stdin="\n".join(made.lines[:2]) + "\n")
        assert (done.returncode, len(done.stdout.splitlines()), canary.caught()) == (0, 2, {}), done.stderr


@pytest.mark.slow
def test_a_worker_of_a_local_cluster_imports_nothing_from_the_current_folder(tmp_path: Path) -> None:
    """What `hat-ray serve` and every stage does without --address, at its smallest."""
    canary = Canary(tmp_path / "foreign", tmp_path / "marks")
    code = """
from functools import partial
from hat_ray.cluster.execution import RayExecution
execution = RayExecution()
execution.do([partial(exec, "import onnxruntime, cProfile, plotly")])
execution.close()
"""
    (tmp_path / "driver.py").write_text(code)
    done = run_in(canary, tmp_path / "driver.py")
    assert (done.returncode, canary.caught()) == (0, {}), done.stderr


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Start a Ray head of another user's, with a token; yields its address and the environment of who may use it."""
    environment = plain_environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="a" * 64)
    port, sockets = str(free_port()), tempfile.mkdtemp(prefix="ray", dir="/tmp")  # short: a socket's path has 107 bytes
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=4"]
    head = subprocess.Popen(
        [
            *(*command, f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"),
            *("--disable-usage-stats", f"--temp-dir={sockets}", f"--dashboard-agent-listen-port={free_port()!s}"),
        ],
        cwd=sockets,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:

        def listens() -> bool:
            assert head.poll() is None
            try:
                socket.create_connection(("127.0.0.1", int(port)), timeout=30).close()
            except OSError:
                return False
            return True

        wait_for(listens, "the head does not listen", every_s=0.2)
        yield f"127.0.0.1:{port}", environment
    finally:
        end(head)
        shutil.rmtree(sockets, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_command_executes_what_lies_in_the_current_folder(
    cluster: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    address, environment = cluster
    codes, canary, said = run_all(tmp_path, address, environment)
    assert {name: code for name, code in codes.items() if code != 0} == REFUSED, said[-6000:]
    assert canary.caught() == {}

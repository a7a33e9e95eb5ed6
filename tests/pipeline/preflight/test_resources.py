"""CPUs and GPUs that are asked for: what a machine or a cluster can never give is told before anything is begun."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster
from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.errors import CheckError
from hat_ray.pipeline.preflight.check import Machine, Situation
from hat_ray.pipeline.preflight.devices import check_runtimes
from hat_ray.pipeline.preflight.here import count_gpus
from hat_ray.pipeline.preflight.table import CHECKS, examine
from hat_ray.recipe import load_recipe

TINY = str(Path(__file__).parents[1] / "tiny.yaml")
ALL = ("supernet", "latency", "search", "retrain", "evaluate")


def found(change: list[str], *machines: Machine, may_grow: bool = False) -> dict[str, str]:
    """Return what is wrong with a recipe on a cluster of machines: verdict and line by check."""
    situation = Situation(ALL, machines=machines, cluster=True, may_grow=may_grow)
    results = examine(load_recipe(TINY, change), situation, [check for check in CHECKS if "room" in check.name])
    return {result.name: f"{result.verdict}: {result.text}" for result in results if result.verdict != "ok"}


def test_a_cluster_with_room_for_all_is_fine():
    assert found([], Machine("a", cpus=1), Machine("b", cpus=1)) == {}


def test_a_worker_stays_within_one_node():
    told = found(["supernet.threads=2", "retrain.threads=2"], Machine("a", cpus=1), Machine("b", cpus=2))
    assert list(told) == ["room for training"]
    assert told["room for training"].startswith("failure: supernet trains with 2 workers of 2 CPUs each")
    assert "room for 1" in told["room for training"]
    assert found(["supernet.threads=2", "supernet.min_workers=1"], Machine("b", cpus=2)) == {}


def test_a_cluster_that_may_grow_is_waited_for():
    told = found(["retrain.use_gpu=true", "search.worker_gpus=0.5"], Machine("a", cpus=8), may_grow=True)
    assert sorted(told) == ["room for the search", "room for training"]
    assert all(line.startswith("warning") and "may grow" in line for line in told.values())
    assert all(line.startswith("failure") for line in found(["retrain.use_gpu=true"], Machine("a", cpus=8)).values())
    assert found(["retrain.use_gpu=true", "search.worker_gpus=0.5"], Machine("a", cpus=8, gpus=1)) == {}


def test_only_the_nodes_that_do_a_kind_of_work_count():
    server, pi = Machine("server", cpus=1, id="1"), Machine("pi", cpus=4, id="2")
    out = {"train": {"2": "it is a board"}, "score": {"2": "it is a board"}}
    situation = Situation(ALL, machines=(server, pi), cluster=True, left_out=out)
    checks = [check for check in CHECKS if "room" in check.name]
    [found] = [one for one in examine(load_recipe(TINY, []), situation, checks) if one.verdict != "ok"]
    assert found.text == (
        "supernet trains with 2 workers of 1 CPU each, the part of the cluster that trains has room for 1: lower "
        "supernet.workers or supernet.min_workers, or add nodes; cluster.train leaves out pi: it is a board"
    )


def test_a_rule_that_no_node_fits_is_refused_or_waited_for():
    recipe = load_recipe(TINY, ["cluster.search={labels: {pool: big}}", "cluster.train={}"])
    nodes, out = (Machine("a", cpus=4, id="1"), Machine("b", cpus=4, id="2")), {"search": {"1": "", "2": ""}}
    checks = [check for check in CHECKS if "room" in check.name or "work" in check.name]
    for may_grow, verdict in ((False, "failure"), (True, "warning")):
        situation = Situation(ALL, machines=nodes, cluster=True, may_grow=may_grow, left_out=out)
        [found] = [one for one in examine(recipe, situation, checks) if one.verdict != "ok"]
        assert (found.name, found.verdict) == ("nodes of the work", verdict)
        assert found.text.startswith("cluster.search must fit a node of the cluster, got {'labels': {'pool': 'big'}}")
    assert (
        examine(recipe, Situation(("evaluate",), machines=nodes, cluster=True, left_out=out), checks)[0].verdict == "ok"
    )


def test_a_cluster_without_a_gpu_is_no_place_for_timings_that_ask_for_one():
    results = found(["latency.accelerator=cuda"], Machine("a", cpus=8))
    assert results == {
        "room for timing": "failure: latency.accelerator asks for a GPU, the cluster has none: set it to auto or cpu"
    }
    assert found(["latency.accelerator=cuda"], Machine("a", cpus=8), Machine("b", cpus=8, gpus=2)) == {}


def test_a_cluster_without_a_cpu_neither_times_nor_translates():
    assert {"room for timing", "room for translating"} < set(found([], Machine("head", cpus=0)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["retrain.use_gpu=true"], "retrain trains with 1 worker of 1 GPU each, this machine has room for 0"),
        (["latency.accelerator=cuda"], "latency times on a GPU"),
        (['latency.devices=[{"num_gpus": 1}]'], "latency times on a GPU"),
        (["search.worker_gpus=1"], "got search.worker_gpus 1, and this machine has no such one"),
        (["evaluate.use_gpu=true"], "evaluate.use_gpu asks for a GPU, this machine has none"),
    ],
)
def test_a_gpu_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str], words: str):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    settings = [part for change in changes for part in ("--set", change)]
    result = CliRunner().invoke(app, ["run", TINY, "--local", "--run", str(tmp_path / "r"), *settings])
    assert isinstance(result.exception, CheckError)
    assert words in str(result.exception)
    assert not (tmp_path / "r").exists()


def test_gpus_are_counted_by_their_device_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert count_gpus(tmp_path) == 0
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert count_gpus(tmp_path) == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert count_gpus(tmp_path) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert count_gpus(tmp_path) == 0


@pytest.mark.parametrize(
    ("devices", "verdicts"),
    [
        ('[{"name": "old", "labels": {"hw": "old"}, "runtime": "packed", "dtype": "bf16"}]', ["failure"]),
        (
            '[{"name": "old", "labels": {"hw": "old"}, "runtime": "packed", "dtype": "bf16"}, {"name": "all"}]',
            ["warning"],
        ),
        ('[{"name": "all", "runtime": "packed", "dtype": "bf16"}]', []),
        ('[{"name": "old", "labels": {"hw": "old"}, "runtime": "onnx", "dtype": "int8"}]', []),
    ],
)
def test_a_runtime_that_a_nodes_processor_cannot_run(devices: str, verdicts: list[str]):
    nodes = (
        Machine("old", cpus=2, isa=("avx2", "avx", "fma"), labels={"hw": "old"}, id="1"),
        Machine("new", cpus=2, isa=("avx512f", "avx512_bf16"), id="2"),
    )
    recipe = load_recipe(TINY, [f"latency.devices={devices}"])
    told = list(check_runtimes(recipe, Situation(ALL, machines=nodes, cluster=True)))
    assert [verdict for verdict, _ in told] == verdicts
    assert all("old" in line and "avx2" in line and "take dtype fp32" in line for _, line in told)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without CPUs, and one node with two."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=2, labels={"hw": "pi"})
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


@pytest.mark.slow
def test_what_a_real_cluster_can_never_give(cluster: Cluster, tmp_path: Path):
    cli = [sys.executable, "-m", "hat_ray.cli"]
    settings = ["--set", "retrain.threads=3", "--set", 'latency.devices=[{"labels": {"hw": "xeon"}}]']
    settings += ["--set", "supernet.mlflow=file:/tmp/never"]
    check = [*cli, "recipe", "check", TINY, "--address", cluster.address, "--json", *settings]
    done = subprocess.run(check, env=os.environ, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2, done.stderr
    wrong = {one["name"]: one for one in json.loads(done.stdout)["checks"] if one["verdict"] != "ok"}
    assert wrong["room for training"]["text"].startswith("retrain trains with 1 worker of 3 CPUs each")
    assert wrong["room for training"]["verdict"] == "failure"
    assert "none for {'labels': {'hw': 'xeon'}}" in wrong["nodes of the devices"]["text"]
    assert wrong["nodes of the devices"]["verdict"] == "warning"
    assert "supernet.mlflow needs the package mlflow" in wrong["MLflow"]["text"]
    place = tmp_path / "run"
    run = [*cli, "run", TINY, "--address", cluster.address, "--run", str(place), "--set", "retrain.threads=3"]
    done = subprocess.run(run, env=os.environ, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2
    assert "hat-ray: error: retrain trains with 1 worker of 3 CPUs each, the cluster has room for 0" in done.stderr
    assert not place.exists()

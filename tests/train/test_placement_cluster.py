"""Which nodes of a real cluster do what: a raylet whose system says that it is a Raspberry Pi, and servers beside it.

Raylets of other loopback addresses stand in for other machines. Work notes the kind of node that it ran on.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from hat_ray.cluster.doctor import examine_cluster
from hat_ray.cluster.execution import RayExecution
from hat_ray.core.placement import ClusterConfig
from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import HatRayError
from hat_ray.latency.quantities import LATENCY
from hat_ray.model.config import ModelConfig
from hat_ray.pipeline.execution import SearchPlan
from hat_ray.search.config import SearchConfig
from hat_ray.search.reach import resolve_limits
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_macs
from hat_ray.storage.folder import Folder
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import TrainJob
from hat_ray.train.state import TrainResult
from hat_ray.train.workers import Workers
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
KIND = "KIND_OF_NODE"
PI = """
import pathlib
import platform

real = pathlib.Path.read_text


def read_text(self, *arguments, **settings):
    is_model = str(self) == "/proc/device-tree/model"
    return "Raspberry Pi 4 Model B Rev 1.4" if is_model else real(self, *arguments, **settings)


pathlib.Path.read_text = read_text
platform.machine = lambda: "aarch64"
"""
CONFIG = TrainConfig(updates=4, max_tokens=300, lr=1e-3, warmup_updates=2, validate_every=2, tensorboard=False)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head and a server with one CPU each, and a Raspberry Pi with four."""
    pi = tmp_path_factory.mktemp("pi")
    (pi / "sitecustomize.py").write_text(PI)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # one process less to start
        patch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "240")  # on a busy machine PyTorch is imported slowly
        started = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "include_dashboard": False, "env_vars": {KIND: "head"}},
        )
        try:
            environment = {KIND: "pi", "PYTHONPATH": str(pi)}
            started.add_node(num_cpus=4, node_ip_address="127.0.0.2", labels={"hw": "pi4"}, env_vars=environment)
            add_server(started, "127.0.0.3")
            started.wait_for_nodes(timeout=240)
            ray.init(address=started.address, log_to_driver=False, logging_level="ERROR")
            yield started
        finally:
            ray.shutdown()
            started.shutdown()


def add_server(cluster: Cluster, address: str) -> None:
    cluster.add_node(
        num_cpus=1,
        node_ip_address=address,
        labels={"pool": "servers"},
        resources={"translator": 1},
        env_vars={KIND: "server"},
    )


def execution(**rules: object) -> RayExecution:
    return RayExecution(config=ClusterConfig.model_validate(rules))


class Noting(TrainJob):
    """A training whose workers note beside its folder where they are; in a group of two they wait to be ended."""

    def run(self, progress: Progress = no_progress, workers: Workers | None = None) -> TrainResult:
        size = 1 if workers is None else workers.world_size
        note(Path(self.folder.uri).with_suffix(f".{size}"))
        while size == 2:
            time.sleep(1)
        return super().run(progress, workers)


def note(place: Path) -> None:
    with place.open("a") as file:
        file.write(f"{os.environ[KIND]}\n")


def noted(place: Path) -> list[str]:
    return sorted(place.read_text().split()) if place.exists() else []


class Score:
    """Scores by size, and notes where."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __call__(self, architecture: Architecture) -> float:
        note(self._place)
        return 1 / count_macs(architecture, 30)


def macs(architectures: Sequence[Architecture]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array([count_macs(one, 30) / 1e6 for one in architectures], dtype=np.float64)


def test_a_board_neither_scores_nor_searches_nor_trains_unless_a_rule_names_it(
    cluster, tiny_space, corpus_folder, tmp_path
):
    where = [partial(os.getenv, KIND)] * 8
    assert set(execution().do(where)) <= {"head", "server"}
    assert set(execution(score={"labels": {"hw": "pi4"}}).do(where)) == {"pi"}
    assert set(execution(score={"resource": "translator"}).do(where)) == {"server"}

    config = SearchConfig(
        algorithm_options={"population": 6, "parents": 3},
        evaluations=20,
        max_batch=2,
        workers=3,
        limits_fraction=(0.5,),
    )
    predictions = {"macs": {LATENCY: macs}}
    limits = resolve_limits(tiny_space, predictions, config)
    plan = SearchPlan(tiny_space, predictions, limits, config, Folder.at(tmp_path / "search"), 1)
    found = execution(search={"labels": {"pool": "servers"}}).search(plan, Score(tmp_path / "scored"))
    assert set(noted(tmp_path / "scored")) == {"server"}
    assert len(found.candidates) == config.evaluations

    one = Noting(
        tiny_space.smallest(), tiny_space, corpus_folder, ModelConfig(), CONFIG, Folder.at(tmp_path / "one"), 1
    )
    jobs = [replace(one, folder=Folder.at(tmp_path / name)) for name in ("one", "two", "three")]
    assert len(execution().train_subs(jobs)) == 3
    rungs = [replace(one, folder=Folder.at(tmp_path / name)) for name in ("rung-1", "rung-2")]
    assert len(execution(train={"labels": {"hw": "!pi4", "pool": "servers"}}).fine_tune(rungs)) == 2
    alone = [noted(tmp_path / f"{name}.1") for name in ("one", "two", "three")]
    assert all(kinds in (["head"], ["server"]) for kinds in alone)
    assert [noted(tmp_path / f"{name}.1") for name in ("rung-1", "rung-2")] == [["server"], ["server"]]


def test_a_group_of_ray_train_has_the_size_that_its_nodes_allow_and_grows_with_them(
    cluster, tiny_space, corpus_folder, tmp_path
):
    """Ray Train itself would count the board's CPUs, and wait for workers that may not start there."""
    config = CONFIG.model_copy(update={"workers": 3, "min_workers": 1, "accumulate": 3})
    folder = Folder.at(tmp_path / "super")
    job = Noting(None, tiny_space, corpus_folder, ModelConfig(), config, folder, 1)

    with ThreadPoolExecutor(1) as helper:  # Ray adds nodes in the main thread only
        training = helper.submit(execution().train_super, job)
        wait_for(lambda: training.done() or len(noted(tmp_path / "super.2")) == 2, seconds=600)
        add_server(cluster, "127.0.0.4")
        result = training.result(600)
    assert result.updates == config.updates
    assert set(noted(tmp_path / "super.2")) == {"head", "server"}
    assert noted(tmp_path / "super.3")[-3:] == ["head", "server", "server"]


def test_a_rule_that_no_node_fits_is_refused_in_one_line(cluster, tiny_space, corpus_folder, tmp_path):
    folder = Folder.at(tmp_path / "never")
    job = TrainJob(None, tiny_space, corpus_folder, ModelConfig(), CONFIG, folder, 1)
    with pytest.raises(HatRayError) as refused:
        execution(train={"labels": {"pool": "gpus"}}).train_super(job)
    assert str(refused.value).startswith(
        "cluster.train must fit a node of the cluster, got {'labels': {'pool': 'gpus'}}"
    )
    assert str(refused.value).endswith("or change cluster.train")
    assert "\n" not in str(refused.value)


def test_the_doctor_names_the_work_that_each_node_is_fit_for(cluster):
    rules = ClusterConfig.model_validate({"train": {"labels": {"pool": "servers"}}})
    seen = [found.seen for found in examine_cluster(rules) if found.name.startswith("node ")]
    [pi] = [line for line in seen if "hw=pi4" in line]
    board = "it is a board, Raspberry Pi 4 Model B Rev 1.4"
    assert (
        f"; times; does not train: cluster.train is {{'labels': {{'pool': 'servers'}}}}; does not search: {board}" in pi
    )
    assert all("; trains, searches, scores and times" in line for line in seen if "pool=servers" in line)

"""Trainings side by side, one task each, on nodes of which one is drained: its task begins again on another one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.cluster_utils import Cluster

from hat_ray.cluster.training.tasks import train_many
from hat_ray.model.config import ModelConfig
from hat_ray.storage.folder import Folder
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import TrainJob
from tests.clusters import head_without_cpus
from tests.drain import drain
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

CONFIG = TrainConfig(
    updates=3000,
    max_tokens=300,
    lr=1e-3,
    warmup_updates=5,
    validate_every=3000,
    checkpoint_every=3000,
    max_failures=0,  # to leave is none
)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with head_without_cpus(monkeypatch) as started:
        yield started


def test_a_task_whose_node_is_drained_resumes_on_another_one(cluster, tiny_space, corpus_folder, tmp_path):
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    places = Folder.at(tmp_path / "drained"), Folder.at(tmp_path / "alone")
    job = TrainJob(tiny_space.smallest(), tiny_space, corpus_folder, ModelConfig(), CONFIG, places[0], seed=1)

    def working() -> list[str]:
        nodes = get_cluster_status(cluster.address).active_nodes
        return [str(node.node_id) for node in nodes if node.used_resources().get("CPU", 0) > 0]

    shown: list[int] = []
    with ThreadPoolExecutor() as pool:
        training = pool.submit(train_many, [job], lambda done, *_: shown.append(done))
        wait_for(lambda: bool(shown) and shown[-1] >= 5, "the training made no progress")
        [first] = working()
        drain(cluster.address, first)
        wait_for(lambda: working() not in ([first], []) or training.done(), "the task stayed where it was")
        assert not training.done(), "it left before its end"
        [result] = training.result(timeout=600)
    assert shown == sorted(shown), "nothing was trained again"
    alone = replace(job, folder=places[1]).run(lambda *_: None)
    assert result.history[-1].valid_loss_bits == alone.history[-1].valid_loss_bits
    assert places[0].read_bytes("model.safetensors") == places[1].read_bytes("model.safetensors")

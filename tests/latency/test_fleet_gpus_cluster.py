"""Real clusters whose nodes have GPUs by Ray's count: which of them are timed, where, and by how many actors."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from hat_ray.cluster.doctor import examine_cluster
from hat_ray.cluster.preflight import cluster_machines
from hat_ray.cluster.timing.fleet import measure_fleet
from hat_ray.errors import LatencyError
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.model.config import ModelConfig
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from tests.latency.timings import timed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason="for a PyTorch that sees no GPU"),
]
SPACE = PRESETS["toy"]
QUICK = {
    **{"source_length": 4, "target_length": 3, "warmup": 1, "min_repetitions": 5, "max_repetitions": 5},
    **{"canary_tolerance": 50.0, "calibration_s": 0.1, "visits": 1, "chunk": 1},
}
GPUS_OF_A_CPU = """
import sys

if any("default_worker" in part for part in sys.orig_argv):
    import types, torch

    real = torch.nn.Module.to
    torch.nn.Module.to = lambda self, device, *rest: real(self, "cpu", *rest)
    properties = types.SimpleNamespace(name="Paper GPU", total_memory=1 << 33, major=8, minor=0)
    torch.cuda.is_available = lambda: True
    torch.cuda.current_device = lambda: 0
    torch.cuda.get_device_properties = lambda index: properties
    torch.cuda.reset_peak_memory_stats = lambda: None
    torch.cuda.max_memory_allocated = lambda: 1 << 20
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    environment = pytest.MonkeyPatch()
    environment.setenv("RAY_worker_niceness", "0")
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        ray.init(address=started.address, log_to_driver=False)
        yield started
    finally:
        ray.shutdown()
        started.shutdown()
        environment.undo()


def job(root: Path, **settings: object) -> TimingJob:
    config = LatencyConfig.model_validate({**QUICK, **settings})
    return TimingJob(SPACE, ModelConfig(), 64, config, Folder.at(root))


def test_a_node_whose_gpu_pytorch_cannot_use_is_timed_on_its_cpu(cluster: Cluster, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1, num_gpus=1)
    try:
        cluster.wait_for_nodes(timeout=240)
        report = measure_fleet(job(tmp_path / "auto"), choose_architectures(SPACE, 2, seed=1))
        assert [(one.device.accelerator, one.device.runtime, one.timed) for one in report.devices] == [("", "onnx", 2)]
        assert report.failures == ()
        with pytest.raises(LatencyError, match="torch sees none here"):
            measure_fleet(job(tmp_path / "cuda", accelerator="cuda"), choose_architectures(SPACE, 2, seed=1))
        [result] = [one for one in examine_cluster() if "GPU" in one.seen]
        assert result.verdict == "advice"
        assert "1 CPUs, 1 GPUs by Ray's count, device " in result.seen
        assert f"torch {torch.__version__} was built for " in result.seen
        [machine] = [one for one in cluster_machines(ask=True) if one.gpus]
        assert machine.counts_energy is not False  # of its GPU a node is not asked: not known
    finally:
        cluster.remove_node(node)


def test_each_gpu_of_a_node_gets_an_actor_and_its_share_of_the_cpus(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(GPUS_OF_A_CPU)
    node = cluster.add_node(num_cpus=4, num_gpus=2, env_vars={"PYTHONPATH": str(tmp_path)})
    actors: list[float] = []
    try:
        cluster.wait_for_nodes(timeout=240)
        report = measure_fleet(
            job(tmp_path / "table", devices=[{"name": "paper", "num_gpus": 1}]),
            choose_architectures(SPACE, 40, seed=1),
            lambda done, total, figures: actors.append(figures["devices"]),
        )
    finally:
        cluster.remove_node(node)
    assert [(one.device.accelerator, one.timed) for one in report.devices] == [("Paper GPU", 40)]
    assert report.failures == ()
    assert set(timed(tmp_path / "table").values()) == {1}
    assert max(actors) == 2

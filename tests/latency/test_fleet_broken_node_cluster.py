"""A cluster with a node that cannot even tell what it is: its PyTorch does not load."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from hat_ray.cluster.timing.fleet import measure_fleet
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.table.table import read_table
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.model.config import ModelConfig
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder

QUICK = {
    **{"source_length": 4, "target_length": 3, "warmup": 1, "min_repetitions": 5, "max_repetitions": 5},
    **{"canary_tolerance": 50.0, "calibration_s": 0.1},
}

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    broken = tmp_path / "broken" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')\n")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        started.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(broken.parent)})
        ray.init(address=started.address, log_to_driver=False)
        yield
    finally:
        ray.shutdown()
        started.shutdown()


def test_it_is_left_out_and_told_and_the_others_time(cluster: None, tmp_path: Path) -> None:
    architectures = choose_architectures(TOY, 3, seed=1)
    config = LatencyConfig.model_validate(QUICK)
    report = measure_fleet(TimingJob(TOY, ModelConfig(), 64, config, Folder.at(tmp_path / "table")), architectures)
    assert {row.architecture for row in read_table(tmp_path / "table")} == set(architectures)
    assert [device.timed for device in report.devices] == [3]
    assert len(report.failures) == 1
    assert "libgomp.so.1" in report.failures[0]

"""A sweep on a real Ray cluster with two unlike devices: both have every point and stand side by side."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from hat_ray.api import run_recipe
from hat_ray.latency.sweep import plan_sweep
from hat_ray.latency.table.table import read_table
from hat_ray.recipe import load_recipe
from hat_ray.report.render import read_report
from hat_ray.report.topics.sweep import sweep_figures
from hat_ray.storage.folder import Folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TINY = str(Path(__file__).parent / "tiny.yaml")
SMALL = [
    *("corpus.toy.train_pairs=200", "corpus.vocab_size=300", "latency.max_repetitions=5", "latency.warmup=1"),
    *("latency.budget_s=0.1", "latency.patience_s=0", "latency.calibration_s=0.1", "latency.canary_tolerance=50"),
    "latency.devices=[{name: board, labels: {hw: board}}, {name: server, resource: server}]",
]


@pytest.fixture
def two_devices() -> Iterator[str]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1, labels={"hw": "board"})
        cluster.add_node(num_cpus=1, resources={"server": 1})
        cluster.wait_for_nodes(timeout=240)
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_each_device_times_every_architecture_once_and_both_share_the_panels(two_devices: str, tmp_path: Path):
    recipe = load_recipe(TINY, SMALL)
    run_recipe(recipe, str(tmp_path / "r"), address=two_devices, only="sweep")
    plan = plan_sweep(recipe.space.build())
    rows = read_table(tmp_path / "r" / "sweep" / "table", every_measurement=True)
    timed = Counter((row.device.name, row.architecture) for row in rows)
    assert timed == {(name, architecture): 1 for name in ("board", "server") for architecture in plan.architectures}
    result = read_report(Folder.at(tmp_path / "r" / "report")).sweep
    assert result is not None
    assert sorted(device.title.partition(":")[0] for device in result.devices) == ["board", "server"]
    for device in result.devices:
        assert len(result.on(device.slug)) == len(plan.dimensions)
    (figure,) = sweep_figures(result)
    assert len(figure.traces) == 2 * len(plan.dimensions)
    assert figure.layout["showlegend"]

"""A whole recipe on nodes of which one is killed in each piece of work, and replaced: nothing is lost or done twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from hat_ray.api import run_recipe
from hat_ray.core.progress import Progress
from hat_ray.latency.table.table import read_table
from hat_ray.recipe import load_recipe
from hat_ray.report.render import read_report
from hat_ray.storage.folder import Folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TINY = str(Path(__file__).parent / "tiny.yaml")
SETTINGS = [
    *("supernet.updates=60", "supernet.checkpoint_every=10", "supernet.validate_every=30"),
    *("latency.chunk=4", "latency.flush_s=0.5", "latency.devices=[{name: board, labels: {hw: board}}]"),
    *("search.evaluations=40", "search.workers=2", "retrain.updates=40", "retrain.checkpoint_every=10"),
]


class Spot:
    """A head without CPUs, and two nodes that are killed and replaced in turns."""

    def __init__(self) -> None:
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self._nodes = [self._added(), self._added()]
        self.killed: list[str] = []
        self.cluster.wait_for_nodes(timeout=240)
        self.address = self.cluster.address

    def _added(self) -> Any:
        return self.cluster.add_node(num_cpus=2, labels={"hw": "board"})

    @contextmanager
    def progress(self, label: str) -> Iterator[Progress]:
        """Kill a node once a piece of work has done a third."""

        def show(done: int, total: int, _figures: object, /) -> None:
            if label not in self.killed and 3 * done >= total:
                self.killed.append(label)
                self.cluster.remove_node(self._nodes.pop(0), allow_graceful=False)
                self._nodes.append(self._added())

        yield show


@pytest.fixture
def spot(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spot]:
    monkeypatch.setenv("RAY_worker_niceness", "0")
    started = Spot()
    try:
        yield started
    finally:
        ray.shutdown()
        started.cluster.shutdown()


def test_a_recipe_whose_nodes_are_killed_in_every_stage_ends_as_an_undisturbed_one(spot: Spot, tmp_path: Path) -> None:
    recipe = load_recipe(TINY, SETTINGS)
    place = str(tmp_path / "disturbed")
    records = {one.stage: one for one in run_recipe(recipe, place, address=spot.address, progress=spot.progress)}
    assert len(spot.killed) >= 5, "a node was killed in each piece of work"

    for stage in ("corpus", "supernet"):
        run_recipe(recipe, str(tmp_path / "alone"), only=stage)
    run, alone = Folder.at(place), Folder.at(tmp_path / "alone")
    assert run.read_bytes("supernet/supernet.safetensors") == alone.read_bytes("supernet/supernet.safetensors")
    [device] = records["latency"].output["devices"]
    rows = read_table(run.child("latency/table"), device=device)
    assert len(rows) == len({row.architecture for row in rows}) >= recipe.latency.samples
    chosen = read_report(run.child("report")).chosen
    assert chosen
    assert all(latency.measured_ms for model in chosen for latency in model.latency.values())

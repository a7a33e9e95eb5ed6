"""One whole small recipe in one process, with everything on the GPU that may be there."""

import time
from pathlib import Path

import pytest

from hat_ray.api import run_recipe
from hat_ray.latency.table.table import read_table
from hat_ray.pipeline.stage_table import STAGES
from hat_ray.recipe import load_recipe
from tests.gpu.place import Place, Table

pytestmark = pytest.mark.gpu
TINY = str(Path(__file__).parents[1] / "pipeline" / "tiny.yaml")
ON_GPU = [
    *("supernet.use_gpu=true", "supernet.precision=bf16", "retrain.use_gpu=true", "retrain.precision=bf16"),
    *("search.worker_gpus=1", "evaluate.use_gpu=true", "latency.accelerator=cuda"),
]


def test_a_whole_recipe(place: Place, table: Table, tmp_path: Path) -> None:
    recipe = load_recipe(TINY, ON_GPU if place.full else [])
    began = time.perf_counter()
    records = run_recipe(recipe, str(tmp_path / "run"), local=True)
    assert [record.stage for record in records] == [stage.name for stage in STAGES]
    [device] = {row.device for row in read_table(tmp_path / "run" / "latency" / "table")}
    assert bool(device.accelerator) is place.full
    table.add("a whole recipe", f"tiny, {len(records)} stages", f"{time.perf_counter() - began:.1f} s")
    table.add("a whole recipe", "its device", device.slug)

"""A whole run that several files look at."""

from pathlib import Path

import pytest

from hat_ray.pipeline.all import run_recipe
from hat_ray.recipe import load_recipe

TINY = str(Path(__file__).parent / "tiny.yaml")
TWO_RUNTIMES = 'latency.devices=[{"name": "here"}, {"name": "here", "runtime": "onnx"}]'


@pytest.fixture(scope="session")
def two_runtimes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of two runtimes of this machine under one limit."""
    place = tmp_path_factory.mktemp("runs") / "tiny"
    run_recipe(load_recipe(TINY, [TWO_RUNTIMES, "search.limits_ms=[1000]"]), str(place), local=True)
    return place

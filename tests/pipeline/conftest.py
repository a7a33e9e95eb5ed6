"""A whole run that several files look at."""

from pathlib import Path

import pytest

from hat_ray.api import run_recipe
from hat_ray.pipeline.stage_table import STAGES
from hat_ray.recipe import Recipe, load_recipe
from tests.made_once import made_once

TINY = str(Path(__file__).parent / "tiny.yaml")
Made = tuple[Recipe, Path]
"""A recipe and the folder of its finished run."""


def winner(run: Path) -> Path:
    """Return the folder of a run's first trained model."""
    return next(path.parent for path in sorted(run.glob("retrain/*/about.json")))


TWO_RUNTIMES = 'latency.devices=[{"name": "here", "runtime": "eager"}, {"name": "here", "runtime": "onnx"}]'


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A whole run, its recipe and its folder."""
    recipe = load_recipe(TINY)

    def make(place: Path) -> None:
        records = run_recipe(recipe, str(place), local=True)
        assert [record.stage for record in records] == [stage.name for stage in STAGES]

    return recipe, made_once(tmp_path_factory, "tiny", make)


@pytest.fixture(scope="session")
def two_runtimes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of two runtimes of this machine under one limit."""
    recipe = load_recipe(TINY, [TWO_RUNTIMES, "search.limits_ms=[1000]"])
    return made_once(tmp_path_factory, "two-runtimes", lambda place: run_recipe(recipe, str(place), local=True))

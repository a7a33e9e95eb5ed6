"""Quantities of a package that is not hat-ray, registered by entry points and used in `search.limits`."""

import json
from pathlib import Path

import pytest
import yaml
from foreign_package import install

from tests.contracts.test_foreign_algorithm import TINY, hat_ray

POINTS = """[hat_ray.quantities]
layers = my_quantities:LAYERS
heat = my_quantities:HEAT
torn = my_quantities:Gone
"""
SOURCE = Path(__file__).with_name("foreign_quantities.py")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(tmp_path / "site", "my_quantities", SOURCE.read_text(), POINTS)
    return tmp_path / "site"


def recipe_with(place: Path, **bounds: float) -> str:
    recipe = yaml.safe_load(TINY.read_text())
    recipe["latency"] |= {"runtime": "onnx", "samples": 16}
    recipe["search"] |= {"limits": [bounds], "refine_rounds": 1, "evaluations": 40}
    (place / "mine.yaml").write_text(yaml.safe_dump(recipe))
    return str(place / "mine.yaml")


def test_a_recipe_is_checked_with_the_quantities_of_installed_packages(site: Path, tmp_path: Path) -> None:
    done = hat_ray(site, "recipe", "check", recipe_with(tmp_path, latency_ms=1000, layers=3))
    assert done.returncode == 0, done.stderr
    refused = hat_ray(site, "recipe", "check", recipe_with(tmp_path, latency_ms=1000, layer=3))
    assert refused.returncode == 2
    assert "did you mean layers?" in " ".join((refused.stdout + refused.stderr).split())


@pytest.mark.slow
def test_a_search_keeps_limits_on_them(site: Path, tmp_path: Path) -> None:
    recipe, run = recipe_with(tmp_path, latency_ms=1000, layers=2, heat=20.4, peak_mb=500), str(tmp_path / "run")
    for stage in (["corpus"], ["train", "super"], ["latency", "measure"], ["predict", "fit"], ["search"]):
        done = hat_ray(site, *stage, recipe, "--local", "--run", run)
        assert done.returncode == 0, done.stderr[-2000:]
    told = hat_ray(site, "predict", "score", run).stdout
    assert "heat (heat): mean error" in told
    assert "peak_mb (peak memory): mean error" in told
    output = json.loads((tmp_path / "run" / "search" / "stage.json").read_text())["output"]
    (winner,) = output["winners"]
    encoder, decoder = winner["architecture"]["encoder"], winner["architecture"]["decoder"]
    assert len(encoder["ffn_dims"]) + len(decoder["ffn_dims"]) == 2
    assert 20 + sum(decoder["ffn_dims"]) / 100 <= 20.4
    measured = {name: one["measured"] for name, one in winner["quantities"].items()}
    assert measured["heat"] == pytest.approx(20 + sum(decoder["ffn_dims"]) / 100)
    assert measured["layers"] == 2
    assert measured["peak_mb"] <= 500

"""Several runtimes of one machine in one recipe: timed, searched under one limit, and told which of them wins."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.api import run_recipe
from hat_ray.cli import app
from hat_ray.latency.lookup.slugs import settings_of
from hat_ray.pipeline.models import retrained_model, served_model
from hat_ray.pipeline.run_folder import Run
from hat_ray.recipe import load_recipe
from hat_ray.runtime.ctranslate2.spec import why_not_expressible
from hat_ray.storage.folder import Folder
from tests.pipeline.conftest import TINY

STAGES = ("latency", "search", "evaluate")
SETTINGS = ["eager fp32, 1 thread", "onnx fp32, 1 thread"]


@pytest.mark.slow
def test_one_limit_for_two_runtimes_of_one_machine(two_runtimes: Path) -> None:
    recipe = load_recipe(str(two_runtimes / "recipe.yaml"), [])
    run = Run.open(str(two_runtimes), recipe)
    records = {stage: record.output for stage in STAGES if (record := run.record(stage))}
    slugs = list(records["latency"]["devices"])
    assert [settings_of(slug) for slug in slugs] == SETTINGS
    assert all(device["rows"] >= recipe.latency.samples for device in records["latency"]["devices"].values())
    limits = [{"device": slug, "bounds": {"latency_ms": 1000.0}} for slug in slugs]
    assert records["search"]["limits"] == limits
    measured = [set(model["measured"]) for model in records["evaluate"]["models"].values()]
    assert measured == [set(slugs)] * len(measured)
    shown = CliRunner().invoke(app, ["search", "show", str(two_runtimes), "--json"])
    [contest] = json.loads(shown.stdout)["best_runtimes"]
    assert contest["bounds"] == {"latency_ms": 1000.0}
    assert {entry["device"] for entry in contest["entries"]} == set(slugs)
    assert (
        "best runtime under 1,000 ms on here-" in CliRunner().invoke(app, ["search", "show", str(two_runtimes)]).stdout
    )
    page = Folder.at(two_runtimes / "report").read_text("report.html")
    assert all(title in page for title in ("eager", "onnx"))


@pytest.mark.slow
def test_a_run_times_searches_for_and_serves_ctranslate2(tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2", reason="needs hat-ray[ctranslate2]")
    settings = ["space.runtime=ctranslate2", "latency.runtime=ctranslate2", "latency.dtype=int8"]
    recipe, place = load_recipe(TINY, settings), str(tmp_path / "run")
    run_recipe(recipe, place, local=True)
    [(slug, device)] = Run.open(place, recipe).record("latency").output["devices"].items()
    assert settings_of(slug) == "ctranslate2 int8, 1 thread"
    assert device["rows"] >= recipe.latency.samples
    winner, _ = retrained_model(recipe, place, None)
    assert why_not_expressible(winner.architecture) is None
    lines = ["the dog runs", "", "a cat sees the dog"]
    ours, theirs = (
        served_model(place, recipe, None, runtime, dtype).translate(lines)
        for runtime, dtype in (("ctranslate2", "fp32"), ("eager", "fp32"))
    )
    assert [line == "" for line in ours] == [line == "" for line in theirs] == [False, True, False]

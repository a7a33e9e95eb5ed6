"""A run under limits on several quantities: from the recipe to models and rivals that keep every bound."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.latency.model_size import MODEL_MB
from hat_ray.latency.quantities import LATENCY as LATENCY_MS
from hat_ray.pipeline.context import timing_job
from hat_ray.pipeline.execution import LocalExecution
from hat_ray.pipeline.run_folder import Run
from hat_ray.pipeline.stage import Context
from hat_ray.pipeline.stages.latency import LATENCY
from hat_ray.pipeline.stages.search import SEARCH
from hat_ray.pipeline.stages.train import RETRAIN
from hat_ray.recipe import load_run_recipe
from hat_ray.report.reading import bound_figures
from hat_ray.report.render import read_report
from hat_ray.search.limits import Verdict
from hat_ray.storage.folder import Folder

TINY = str(Path(__file__).parent / "tiny.yaml")
LIMITS = "search.limits=[{latency_ms: 100000, p90_ms: 100000, model_mb: 0.12}, {model_mb: 0.16}]"
EAGER = "latency.runtime=eager"  # the limits are sizes of its files


@pytest.mark.slow
def test_winners_and_rivals_keep_every_bound_and_the_page_shows_each(tmp_path: Path) -> None:
    place = tmp_path / "run"
    done = CliRunner().invoke(app, ["run", TINY, "--local", "--run", str(place), "--set", LIMITS, "--set", EAGER])
    assert done.exit_code == 0, done.output
    context = Context(Run(Folder.at(place), load_run_recipe(Folder.at(place))), LocalExecution())
    (device,) = context.require(LATENCY).devices.values()
    profile = timing_job(context, context.folder("latency")).profile(device.device)
    for winner in context.require(SEARCH).winners:
        size = MODEL_MB.compute([winner.architecture], profile)[0]
        assert size == pytest.approx(winner.quantities["model_mb"].measured)
        assert size <= winner.limit.by_quantity["model_mb"]
        assert winner.verdict is Verdict.KEPT
    selected = context.require(RETRAIN).selected
    assert {one.kind for one in selected} == {"winner", "random", "largest"}
    for one in selected:
        if one.limit is not None:
            assert MODEL_MB.compute([one.architecture], profile)[0] <= one.limit.by_quantity["model_mb"]
    shown = CliRunner().invoke(app, ["search", "show", str(place)]).stdout
    assert "winner under 100,000 ms, model 0.12 MB, p90 100,000 ms on " in shown
    winners = json.loads(CliRunner().invoke(app, ["search", "show", str(place), "--json"]).stdout)["winners"]
    assert winners[1]["limit"]["bounds"] == {"model_mb": 0.16}
    page = Folder.at(place / "report").read_text("report.html")
    assert "Limits on " in page
    assert "90th percentile of the latency" in page
    data = read_report(Folder.at(place / "report"))
    limited = [model for model in data.chosen if model.limit is not None]
    assert {model.kind for model in limited} == {"winner", "random"}
    for model in limited:
        slug = str(model.device)
        figures = bound_figures(model, slug)
        assert {one.name: one.most for one in figures} == model.limit.by_quantity if model.limit else {}
        assert all(one.predicted is not None and one.measured is not None for one in figures)
        assert all(one.low is None or one.low <= (one.predicted or 0) <= (one.high or 0) for one in figures)
        assert (figures[0].low is not None) == (figures[0].name == LATENCY_MS)

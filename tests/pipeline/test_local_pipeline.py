"""A whole recipe in one process, without Ray: what it makes, and that it is not made twice."""

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from hat_ray.api import Run, run_recipe
from hat_ray.cli import app
from hat_ray.cli.commands.models import model_choice
from hat_ray.core.progress import no_progress
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import HatRayError
from hat_ray.model.checkpoints.native import load_sub
from hat_ray.pipeline.context import scorer_of
from hat_ray.pipeline.execution import LocalExecution, SearchPlan
from hat_ray.pipeline.run_folder import Run as RunFolder
from hat_ray.pipeline.stage import Context
from hat_ray.pipeline.stage_table import STAGES
from hat_ray.recipe import Recipe, load_recipe
from hat_ray.report.render import read_report
from hat_ray.space.cost import cost
from hat_ray.storage.folder import Folder
from tests.command import hat_ray
from tests.report.browsing import assert_links_lead, assert_quiet, show, start_browser
from tests.waiting import wait_for

TINY = str(Path(__file__).parent / "tiny.yaml")
CLI = [sys.executable, "-m", "hat_ray.cli"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_scoring_and_translating_on_a_gpu_that_is_not_there_are_refused(made: tuple[Recipe, Path], tmp_path: Path):
    recipe, place = made
    context = Context(RunFolder(Folder.at(place), recipe), LocalExecution())
    search = recipe.search.model_copy(update={"worker_gpus": 1.0})
    plan = SearchPlan(recipe.space.build(), {}, [], search, Folder.at(tmp_path), 1)
    with pytest.raises(HatRayError, match=r"search\.worker_gpus is set, but PyTorch sees no CUDA device here"):
        context.execution.search(plan, scorer_of(context), no_progress)
    evaluate = recipe.evaluate.model_copy(update={"use_gpu": True})
    folder = next(
        one for one in Folder.at(place / "retrain").list() if (place / "retrain" / one / "train.json").exists()
    )
    with pytest.raises(HatRayError, match=r"evaluate\.use_gpu is set, but PyTorch sees no CUDA device here"):
        context.execution.evaluate(
            [context.folder("retrain").child(folder)], context.folder("corpus"), evaluate, no_progress
        )


def test_the_report_holds_every_model_with_every_figure(made: tuple[Recipe, Path]):
    recipe, place = made
    data = read_report(Folder.at(place / "report"))
    kinds = [model.kind for model in data.chosen]
    assert kinds.count("winner") == len(recipe.search.limits_fraction)
    assert kinds.count("random") == len(recipe.search.limits_fraction)
    assert kinds.count("largest") == 1
    device = data.devices[0].slug
    for model in data.chosen:
        assert model.params == cost(model.architecture).params
        latency = model.latency[device]
        losses = model.inherited_loss_bits, model.trained_loss_bits
        for value in (latency.predicted_ms, latency.measured_ms, *losses, model.bleu):
            assert value is not None
    evaluated = json.loads((place / "evaluate" / "stage.json").read_text())["output"]["models"]
    for model in data.chosen:  # as the quiet device takes it: limits and predictions are about that
        latency, told = model.latency[device], evaluated[model.architecture.id]["measured"][device]
        assert latency.measured_ms == told["corrected_ms"]
        drift = told["corrected_ms"] / told["latency_ms"]
        assert (latency.p10_ms, latency.p90_ms) == pytest.approx((told["p10_ms"] * drift, told["p90_ms"] * drift))
    assert all(before == "winner" for before, kind in pairwise(kinds) if kind == "random")
    for winner in json.loads((place / "search" / "winners.json").read_text())["winners"]:
        assert winner["measured_ms"] <= winner["limit"]["bounds"]["latency_ms"]
    assert len(data.candidates) == len({candidate.architecture for candidate in data.candidates})
    rounds = recipe.search.refine_rounds + 1  # one more follows where a timing moved the rows' scale in the last
    more = rounds * recipe.search.evaluations_refining
    assert recipe.search.evaluations <= len(data.candidates) <= recipe.search.evaluations + more
    page = (place / "report" / "report.html").read_text()
    assert "tiny" in page


def test_the_page_opens_in_a_browser_without_a_network_and_answers_the_pointer(
    made: tuple[Recipe, Path], tmp_path: Path
):
    report = made[1] / "report"
    ids = {candidate.architecture.id for candidate in read_report(Folder.at(report)).candidates}
    browser = start_browser(tmp_path / "profile")
    try:
        for width in (1400, 400):
            show(browser, report / "report.html", width=width)
            assert_quiet(browser, report / "report.html")
            assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
            told = browser.execute_async_script(
                "const done = arguments[0], plot = document.getElementById('frontier-0');"
                "plot.scrollIntoView(); Plotly.Fx.hover(plot, [{curveNumber: 1, pointNumber: 0}]);"
                "setTimeout(() => done(plot.querySelector('.hoverlayer').textContent), 500);"
            )
            assert any(id in told for id in ids)
        figures = browser.execute_script("return document.querySelectorAll('.plot').length")
        links = browser.execute_script("return document.querySelectorAll('a[download]').length")
        assert links >= figures > 5
        assert_links_lead(browser, links)
    finally:
        browser.quit()


def test_a_random_rival_is_predicted_to_be_no_faster_than_its_winner(made: tuple[Recipe, Path]):
    data = read_report(Folder.at(made[1] / "report"))
    for rival in (model for model in data.chosen if model.kind == "random"):
        winner = next(m for m in data.chosen if m.kind == "winner" and m.limit == rival.limit)
        assert rival.latency[rival.device].predicted_ms >= winner.latency[rival.device].predicted_ms


def test_a_second_run_skips_everything(made: tuple[Recipe, Path]):
    recipe, place = made
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.name == "stage.json"}
    run_recipe(recipe, str(place), local=True)
    assert before == {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.name == "stage.json"}


def test_a_changed_setting_redoes_only_what_depends_on_it(made: tuple[Recipe, Path]):
    _, place = made
    before = {path: path.stat().st_mtime_ns for path in place.glob("*/stage.json")}
    run_recipe(load_recipe(TINY, ["report.translations=2"]), str(place), local=True)
    after = {path: path.stat().st_mtime_ns for path in place.glob("*/stage.json")}
    assert {path.parent.name for path in after if after[path] != before[path]} == {"report"}


def test_models_translate_and_predictors_answer_after_the_run(made: tuple[Recipe, Path], tmp_path: Path):
    recipe, place = made
    lines = ["the dog sees a cat .", "", "a man sleeps ."]
    translated = Run(recipe, Folder.at(place)).model().translate(lines)
    assert len(translated) == 3
    assert translated[1] == ""
    winner = read_report(Folder.at(place / "report")).chosen[0]
    predicted = Run(recipe, Folder.at(place)).predict(winner.architecture)
    assert {slug: one.predicted_ms for slug, one in predicted.items()} == {
        slug: latency.predicted_ms for slug, latency in winner.latency.items()
    }
    assert all(one.low_ms < one.predicted_ms < one.high_ms and one.unseen is None for one in predicted.values())
    model = load_sub(Folder.at(place / "retrain" / winner.architecture.id), "model")
    assert model.architecture == winner.architecture


def test_what_a_model_says_of_the_training_set_becomes_a_corpus(made: tuple[Recipe, Path], tmp_path: Path):
    recipe, place = made
    winner = read_report(Folder.at(place / "report")).chosen[0].architecture.id
    out = tmp_path / "distilled"
    result = CliRunner().invoke(
        app, ["distil", str(place), "--model", winner, "--out", str(out), "--beam", "1", "--json"]
    )
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    sources, targets = (Path(summary[side]).read_text().splitlines() for side in ("source", "target"))
    assert len(sources) == len(targets) == summary["lines"] == recipe.corpus.toy.train_pairs
    greedy = load_recipe(TINY, ["evaluate.beam=1"])
    assert Run(greedy, Folder.at(place)).model(winner).translate(sources) == targets


def test_a_text_is_translated_for_training_by_every_place_that_translates(made: tuple[Recipe, Path], tmp_path: Path):
    place = made[1]
    folder = next(path.parent for path in sorted(place.glob("retrain/*/about.json")))
    sources = list(Corpus.load(Folder.at(place / "corpus")).test.source_text or ())[:5]
    (tmp_path / "text").write_text("\n".join(sources) + "\n", encoding="utf-8")
    exported = str(tmp_path / "exported")
    assert CliRunner().invoke(app, ["export", str(folder), "--out", exported, "--sentences", "5"]).exit_code == 0
    for number, named in enumerate((str(folder), exported, str(place))):
        out = tmp_path / f"out-{number}"
        command = ["distil", named, "--out", str(out), "--source", str(tmp_path / "text"), "--threads", "1"]
        for beam in (1, 3):  # another search replaces what stands there
            result = CliRunner().invoke(app, [*command, "--beam", str(beam), "--json"])
            assert result.exit_code == 0, result.output
            model = model_choice(named, None, beam, None, None, None).open(1)
            assert Path(json.loads(result.stdout)["target"]).read_text().split("\n")[:-1] == model.translate(sources)
            assert (out / "train.source").read_text().split("\n")[:-1] == sources
    for named in (str(folder), exported):
        refused = CliRunner().invoke(app, ["distil", named, "--out", str(tmp_path / "none")])
        assert isinstance(refused.exception, HatRayError)
        assert str(refused.exception).endswith("no training text: name the sentences to translate with --source")
        assert not (tmp_path / "none").exists()


def test_a_model_is_exported_translates_and_is_scored_from_the_command_line(made: tuple[Recipe, Path], tmp_path: Path):
    recipe, place = made
    test = Corpus.load(Folder.at(place / "corpus")).test
    sources, references = list(test.source_text or ())[:6], list(test.target_text or ())[:6]
    (tmp_path / "reference").write_text("\n".join(references) + "\n", encoding="utf-8")
    out, text = str(tmp_path / "out"), "\n".join(sources) + "\n"
    command = ["export", str(place), "--out", out, "--sentences", "6", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["parity"]["sentences"] == 6
    expected = Run(recipe, Folder.at(place)).model().translate(sources)
    for arguments in ([out], [str(place), "--runtime", "onnx"], [str(place), "--threads", "1"]):
        result = CliRunner().invoke(app, ["translate", *arguments], input=text)
        assert result.exit_code == 0, result.output
        assert result.stdout.split("\n")[:-1] == expected
    scored = ["translate", out, "--score", str(tmp_path / "reference"), "--json"]
    figures = json.loads(CliRunner().invoke(app, scored, input=text).stdout)
    assert figures["text"]["bleu_signature"].startswith("nrefs:1|")
    assert figures["sentences"] == 6
    assert min(figures["sentences_per_second"], figures["peak_memory_bytes"]) > 0
    failed = CliRunner().invoke(app, [*command[:2], "--out", f"{out}2", *command[4:], "--max-bleu-loss", "-1"])
    assert "at most -1 BLEU may be lost" in str(failed.exception)
    assert not Path(f"{out}2").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_and_finishes(tmp_path: Path):
    command = [*CLI, "run", TINY, "--local", "--run", str(tmp_path / "r"), "--json"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        table = tmp_path / "r" / "latency" / "table"
        wait_for(lambda: first.poll() is not None or table.exists())
        assert first.poll() is None
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait(timeout=240)
    supernet = (tmp_path / "r" / "supernet" / "stage.json").stat().st_mtime_ns
    second = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert second.returncode == 0, second.stderr
    assert set(json.loads(second.stdout)["stages"]) == {stage.name for stage in STAGES}
    assert (tmp_path / "r" / "supernet" / "stage.json").stat().st_mtime_ns == supernet


def test_an_unreachable_limit_is_answered_with_what_can_be_reached(made: tuple[Recipe, Path]):
    _, place = made
    limits = ["--set", "search.limits_ms=[0.001]"]
    result = hat_ray("search", TINY, "--local", "--run", place, *limits, cwd=place.parent)
    assert result.returncode == 2, result.stderr
    assert "the fastest architecture timed so far takes" in result.stderr
    assert "Traceback" not in result.stderr

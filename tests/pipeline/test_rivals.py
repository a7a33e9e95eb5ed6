"""Rivals of the winners in a run: matched by timing, trained with several seeds, compared and shown."""

import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from hat_ray.api import run_recipe
from hat_ray.core.codec import from_json, write
from hat_ray.errors import HatRayError
from hat_ray.evaluate.evaluate import EvaluateOutput
from hat_ray.latency.table.table import read_table
from hat_ray.pipeline.execution import LocalExecution
from hat_ray.pipeline.run_folder import Run
from hat_ray.pipeline.stage import Context
from hat_ray.pipeline.trained.rivals import RIVALS, select_models
from hat_ray.recipe import Recipe, load_recipe
from hat_ray.report.render import read_report
from hat_ray.search.selection import OF_EVERY_SPACE, RetrainOutput, Selection
from hat_ray.storage.folder import Folder
from hat_ray.train.config import RetrainConfig
from tests.pipeline.conftest import TINY

ALL = "retrain.baselines=[largest, random, scaled-depth, scaled-width, deep-shallow, deep-shallow-ssru]"
QUICK = ("latency.budget_s=0.1", "latency.patience_s=0.1", "latency.calibration_s=0.1")


def test_rivals_keep_their_limit_as_timed_and_a_second_choice_times_nothing(
    made: tuple[Recipe, Path], tmp_path: Path
) -> None:
    place = tmp_path / "run"
    shutil.copytree(made[1], place)
    table = Folder.at(place / "latency" / "table")
    context = Context(Run(Folder.at(place), load_recipe(TINY, [ALL, *QUICK])), LocalExecution())
    chosen = select_models(context, Folder.at(tmp_path / "first"))
    by_hand = [one for one in chosen.selected if one.kind in OF_EVERY_SPACE]
    limits = [one.limit for one in chosen.selected if one.kind == "winner"]
    asked = {(kind, limit) for kind in OF_EVERY_SPACE for limit in limits}
    assert {(one.kind, one.limit) for one in by_hand} | {(one.kind, one.limit) for one in chosen.missing} == asked
    assert len(by_hand) + len(chosen.missing) == len(asked)
    rows = read_table(table, every_measurement=True)
    timed = {row.architecture for row in rows}
    space = context.recipe.space.build()
    for one in by_hand:
        assert one.matching is not None
        assert one.limit is not None
        assert one.matching.measured
        assert one.matching.latency_ms <= one.limit.ms
        assert one.architecture in timed
        assert (one.matching.outside is None) == space.contains(one.architecture)
    write(Folder.at(tmp_path / "first"), RIVALS, Selection(chosen.selected[:1]))
    resumed = select_models(context, Folder.at(tmp_path / "first"))
    assert resumed.selected == chosen.selected[:1], "what a killed stage chose stays"
    (tmp_path / "first" / RIVALS).unlink()
    again = select_models(context, Folder.at(tmp_path / "first"))
    assert len(read_table(table, every_measurement=True)) == len(rows), "timed before a kill, not timed again"
    assert [(one.kind, one.architecture) for one in again.selected] == [
        (one.kind, one.architecture) for one in chosen.selected
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_trains_every_rival_with_every_seed_and_shows_them(tmp_path: Path) -> None:
    place = str(tmp_path / "run")
    settings = [ALL, *QUICK, "retrain.seeds=2", "retrain.random_rivals=2", "retrain.init=inherited"]
    recipe = load_recipe(TINY, [*settings, "search.limits_fraction=[0.9]", "evaluate.sentences=8"])
    records = {one.stage: one for one in run_recipe(recipe, place, local=True)}
    output = from_json(RetrainOutput, records["retrain"].output, "output")
    scored = from_json(EvaluateOutput, records["evaluate"].output, "output")
    space = recipe.space.build()
    kinds = [one.kind for one in output.selected]
    assert kinds.count("random") == 2
    assert {*kinds} >= {"winner", "largest", "random"}
    assert all(space.contains(one.architecture) for one in output.selected), "a rival outside could not inherit"
    for one in output.selected:
        model = output.models[one.architecture.id]
        assert [training.seed for training in model.repeats] == [0, 1]
        assert [training.folder for training in model.repeats] == [one.architecture.id, f"{one.architecture.id}-s1"]
        assert model.start == "inherited"
        first, second = (training.loss_bits for training in model.repeats)
        assert first != second, "another seed"
        assert [*scored.models[one.architecture.id].others] == [f"{one.architecture.id}-s1"]
    winner = output.selected[0].architecture.id
    others = {one.architecture.id for one in output.selected} - {winner}
    assert {one.rival for one in scored.comparisons} == others
    assert all(one.winner == winner and len(one.p_values) == 2 for one in scored.comparisons)
    data = read_report(Folder.at(f"{place}/report"))
    assert {model.kind for model in data.chosen} == {*kinds}
    assert all(model.bleu_spread is not None and model.size_mb for model in data.chosen)
    assert data.ledger is not None
    trained = next(line for line in data.ledger.lines if line.stage == "retrain")
    assert f"training of {len(output.models)} models in {2 * len(output.models)} trainings" in trained.counted
    assert "timings" in trained.counted
    before = json.dumps([one.output for one in records.values()])
    assert json.dumps([one.output for one in run_recipe(recipe, place, local=True)]) == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("retrain.baselines=[largest, largest]", "baselines must differ, got"),
        ("retrain.baselines=[narrower]", "'scaled-width'"),
        ("retrain.random_rivals=0", "greater than or equal to 1"),
        ("retrain.seeds=0", "greater than or equal to 1"),
        ("retrain.largest_baseline=false", "largest_baseline"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(setting: str, message: str) -> None:
    with pytest.raises(HatRayError) as error:
        load_recipe(TINY, [setting])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_setting_at_its_default_changes_no_fingerprint() -> None:
    assert "seeds" not in RetrainConfig().result_settings()
    assert RetrainConfig(seeds=2).result_settings()["seeds"] == 2
    with pytest.raises(ValidationError):
        RetrainConfig(random_rivals=0)

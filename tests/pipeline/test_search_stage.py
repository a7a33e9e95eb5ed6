"""The search stage: winners are timed on their device, and a wrong predictor is found out."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.api import load, run_recipe
from hat_ray.cli import app
from hat_ray.latency.table.table import read_table, write_rows
from hat_ray.recipe import load_recipe
from hat_ray.search.candidates import CandidateTable
from hat_ray.space.hat_yaml import load_architecture
from hat_ray.storage.folder import Folder

TINY = str(Path(__file__).parent / "tiny.yaml")
WIDE = ["space.encoder_ffn_dims=[64,48,32,16]", "space.decoder_ffn_dims=[64,48,32,16]", "latency.samples=14"]


def run_search_stage(place: Path, changes: list[str]) -> dict[str, object]:
    recipe = load_recipe(TINY, [*WIDE, *changes])
    for stage in ("corpus", "supernet", "latency", "predictor"):
        run_recipe(recipe, str(place), local=True, only=stage)
    return run_recipe(recipe, str(place), local=True, only="search")[0].output


def make_deep_ones_fast(table: Path, wrong: Path) -> None:
    """Copy a latency table in which decoders of more than one layer are made to take 40 % of what they do."""
    rows = []
    for row in read_table(table):
        assert row.architecture is not None
        assert row.canary is not None
        factor = 0.4 if row.architecture.decoder.depth > 1 else 1.0
        rows.append(replace(row, canary=replace(row.canary, drift_correction=factor * row.canary.drift_correction)))
    write_rows(wrong, rows)


@pytest.mark.benchmark  # real timings decide: it wants a machine at rest; tests/search/test_rounds.py holds the rules
def test_a_wrong_predictor_is_found_out_and_the_winners_keep_their_limits(tmp_path: Path) -> None:
    recipe = load_recipe(TINY, [*WIDE, f"latency.table={tmp_path}/true"])
    run_recipe(recipe, str(tmp_path / "first"), local=True, only="latency")
    make_deep_ones_fast(tmp_path / "true", tmp_path / "wrong")
    times = [row.corrected_ms for row in read_table(tmp_path / "true")]
    limit_ms = math.sqrt(min(times) * max(times))  # some keep it, the deep ones do not
    changes = [f"latency.table={tmp_path}/wrong", f"search.limits_ms=[{limit_ms}]", "search.refine_evaluations=8"]
    summary = run_search_stage(tmp_path / "run", changes)
    (winner,) = summary["winners"]  # type: ignore[misc]
    assert winner["measured_ms"] <= limit_ms
    assert summary["refitted"] == [winner["limit"]["device"]]
    candidates = CandidateTable(Folder.at(tmp_path / "run" / "search")).read()
    timed = [c for c in candidates if c.measured_ms]
    broken = [c for c in timed if c.measured_ms[winner["limit"]["device"]] > limit_ms]
    assert broken
    assert any(c.architecture.decoder.depth > 1 for c in broken)
    assert max(c.round for c in candidates) >= 1
    rounds = json.loads((tmp_path / "run" / "search" / "rounds.json").read_text())["rounds"]
    assert len(rounds[-1]["measured_ms"][winner["limit"]["device"]]) == len(timed)
    # what was learned answers from now on
    before = json.loads((tmp_path / "run" / "predictor" / f"{winner['limit']['device']}.json").read_text())
    after = json.loads((tmp_path / "run" / "search" / "predictors" / f"{winner['limit']['device']}.json").read_text())
    rows_before, rows_after = len(before["held_out_names"]), len(after["held_out_names"])
    assert rows_before < rows_after <= rows_before + len(timed)  # what is timed after the last fit is not in it
    run = load(tmp_path / "run")
    found = load_architecture(tmp_path / "run" / "search" / winner["hat_yaml"], run.recipe.space.build().qkv_dim)
    told = run.predict(found)
    assert told[winner["limit"]["device"]].predicted_ms == pytest.approx(winner["predicted_ms"])


@pytest.mark.slow
def test_a_second_run_starts_warm_from_the_first_of_the_same_supertransformer(tmp_path: Path) -> None:
    first = run_search_stage(tmp_path / "first", ["search.refine_rounds=0"])
    shutil.copytree(tmp_path / "first", tmp_path / "warm", ignore=shutil.ignore_patterns("search"))
    warm = run_search_stage(
        tmp_path / "warm", ["search.refine_rounds=0", f"search.warm_start=[{tmp_path}/first]", "search.evaluations=6"]
    )
    assert warm["scored"] == first["scored"] + 6  # type: ignore[operator]
    recipe = load_recipe(TINY, [*WIDE, "supernet.updates=14", f"search.warm_start=[{tmp_path}/first]"])
    shutil.copytree(tmp_path / "first", tmp_path / "other", ignore=shutil.ignore_patterns("search", "supernet"))
    for stage in ("corpus", "supernet", "latency", "predictor"):
        run_recipe(recipe, str(tmp_path / "other"), local=True, only=stage)
    refused = CliRunner().invoke(app, ["search", str(tmp_path / "other"), "--local"])
    assert "another SuperTransformer or validation set scored its candidates" in str(refused.exception)
    shown = CliRunner().invoke(app, ["search", "show", str(tmp_path / "warm"), "--json"])
    assert json.loads(shown.stdout)["from_earlier_runs"] == first["scored"]

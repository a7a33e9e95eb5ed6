"""Onboarding a device: times what tells most, stops by itself, goes on where it was, and says what it took."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.api import run_recipe
from hat_ray.cli import app
from hat_ray.latency.table.table import read_table
from hat_ray.pipeline.outline import ONBOARD
from hat_ray.recipe import load_recipe

TINY = str(Path(__file__).parent / "tiny.yaml")
WIDE = [
    *("space.encoder_ffn_dims=[64,48,32,16]", "space.decoder_ffn_dims=[64,48,32,16]", "latency.samples=30"),
    *("latency.min_repetitions=20", "latency.max_repetitions=40"),  # so many that a busy machine's median holds too
]


@pytest.fixture(scope="module")
def onboarded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "tiny"
    records = run_recipe(load_recipe(TINY, [*WIDE, "latency.target_error=0.9"]), str(place), local=True, only=ONBOARD)
    assert [record.stage for record in records] == ["latency", "predictor"]
    (device,) = records[0].output["devices"].values()
    assert device["calibration"]["met"]
    assert device["calibration"]["error"] < 0.9
    assert device["calibration"]["rows"] == device["rows"] < 30
    return place


def test_it_stops_by_itself_and_holds_the_ends_of_the_space(onboarded: Path) -> None:
    space = load_recipe(TINY, WIDE).space.build()
    timed = {row.architecture for row in read_table(onboarded / "latency" / "table")}
    assert {space.smallest(), space.largest()} <= timed


@pytest.mark.slow
def test_an_error_that_cannot_be_reached_ends_at_the_most_rows_and_is_told(
    onboarded: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = load_recipe(TINY, [*WIDE, "latency.target_error=0.0001", f"latency.table={onboarded}/latency/table"])
    before = len(read_table(onboarded / "latency" / "table"))
    records = run_recipe(recipe, str(onboarded.parent / "strict"), local=True, only=ONBOARD)
    (device,) = records[0].output["devices"].values()
    assert device["calibration"]["rows"] == 30 > before  # what the table had was not timed again
    assert not device["calibration"]["met"]
    assert "above the target_error of 0.0 %: raise latency.samples (30), or ask for less" in caplog.text


def test_the_commands_tell_what_it_took_and_how_good_it_is(onboarded: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    # the run remembers its settings: nothing is timed again
    again = runner.invoke(app, ["latency", "onboard", str(onboarded), "--error", "90%", "--local"])
    assert again.exit_code == 0, again.output
    assert "rows, error" in again.stdout
    told = runner.invoke(app, ["predict", "score", str(onboarded)])
    assert told.exit_code == 0, told.output
    assert "mean error" in told.stdout
    assert "error by decoder layers: 1:" in told.stdout
    of_run = json.loads(runner.invoke(app, ["predict", "score", str(onboarded), "--json"]).stdout)
    of_table = json.loads(runner.invoke(app, ["predict", "score", f"{onboarded}/latency/table", "--json"]).stdout)
    assert of_run["predictors"][0]["space_id"] == of_table["predictors"][0]["space_id"]


@pytest.mark.parametrize("error", ["5 percent", "0", "120%"])
def test_an_ill_written_error_is_refused(error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["latency", "onboard", "toy", "--error", error, "--local"])
    assert result.exit_code != 0
    assert "a share is written as 5% or 0.05" in (result.output + str(result.exception))
    assert list(tmp_path.iterdir()) == []

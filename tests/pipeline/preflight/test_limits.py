"""Limits below what a table has timed are told before anything is trained; `doctor` tells a recipe's checks too."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.cli import app

TINY = str(Path(__file__).parents[1] / "tiny.yaml")


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has timed three architectures."""
    place = tmp_path_factory.mktemp("runs") / "tiny"
    command = ["latency", "measure", TINY, "--local", "--run", str(place), "--set", "latency.samples=3"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.exception
    return place


def warnings(place: Path, *settings: str) -> list[str]:
    options = [part for change in settings for part in ("--set", change)]
    told = json.loads(
        CliRunner().invoke(app, ["recipe", "check", TINY, "--json", "--run", str(place), *options]).stdout
    )
    return [check["told"] for check in told["checks"] if check["name"] == "limits within reach" and check["told"]]


def test_a_limit_below_the_fastest_that_was_timed(timed: Path, tmp_path: Path):
    [told] = warnings(timed, "search.limits_ms=[0.0001, 100000]")
    assert "got 0.0001 ms on " in told
    assert "takes " in told
    assert not warnings(timed, "search.limits_ms=[100000]")
    assert not warnings(timed, "search.limits_ms=[0.0001]", "latency.beam=4"), "another workload says nothing"
    table = f"latency.table={timed / 'latency' / 'table'}"
    assert len(warnings(tmp_path / "new", "search.limits_ms=[0.0001]", table)) == 1


def test_the_doctor_tells_whether_a_recipe_can_be_done_here(tmp_path: Path):
    command = ["doctor", TINY, "--json", "--run", str(tmp_path / "r"), "--set", "latency.samples=9"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    rows = findings["recipe tiny: rows for the predictor"]
    assert (rows["verdict"], "got 9" in rows["seen"]) == ("missing", True)
    assert findings["recipe tiny: batches"]["verdict"] == "good"
    assert findings["recipe tiny: run folder"]["verdict"] == "good"

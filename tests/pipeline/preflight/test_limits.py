"""Limits below what a table has timed are told before anything is trained; `doctor` tells a recipe's checks too."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.latency.table.table import read_table, write_rows
from hat_ray.recipe import load_recipe

TINY = str(Path(__file__).parents[1] / "tiny.yaml")


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has timed three architectures."""
    place = tmp_path_factory.mktemp("runs") / "tiny"
    command = ["latency", "measure", TINY, "--local", "--run", str(place), "--set", "latency.samples=3"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.exception
    table = place / "latency" / "table"
    rows = read_table(table)
    shutil.rmtree(table)
    write_rows(table, [replace(row, canary=None) for row in rows])  # a busy machine's correction decides nothing here
    return place


def findings(place: Path, *settings: str) -> list[tuple[str, str]]:
    """Return what is said of the limits: each verdict with its line."""
    options = [part for change in settings for part in ("--set", change)]
    told = json.loads(
        CliRunner().invoke(app, ["recipe", "check", TINY, "--json", "--run", str(place), *options]).stdout
    )
    checks = [check for check in told["checks"] if check["name"] == "limits within reach" and check["text"]]
    return [(check["verdict"], check["text"]) for check in checks]


def test_a_limit_below_all_that_the_run_timed_is_refused(timed: Path):
    same = "latency.samples=3"
    [(verdict, told)] = findings(timed, "search.limits_ms=[0.0001, 100000]", same)
    assert verdict == "failure"
    assert "must be within reach, got 0.0001 ms on " in told
    fastest = float(told.partition("takes ")[2].partition(" ms")[0])
    assert fastest == pytest.approx(min(row.latency_ms for row in read_table(timed / "latency" / "table")), rel=1e-3)
    assert not findings(timed, "search.limits_ms=[100000]", same)
    [(_, told)] = findings(timed, "search.limits=[{latency_ms: 0.0001, model_mb: 5}, {model_mb: 5}]", same)
    assert told.startswith("search.limits must be within reach, got 0.0001 ms on ")
    [(verdict, _)] = findings(timed, f"search.limits_ms=[{0.97 * fastest}]", same)
    assert verdict == "warning", "the next timing may keep it"
    [(verdict, _)] = findings(timed, f"search.limits_ms=[{0.94 * fastest}]", same)
    assert verdict == "failure"


def test_a_limit_that_may_be_kept_elsewhere_is_only_doubtful(timed: Path, tmp_path: Path):
    [(verdict, _)] = findings(timed, "search.limits_ms=[0.0001]")
    assert verdict == "warning", "more samples are still to be timed, on whatever devices"
    assert not findings(timed, "search.limits_ms=[0.0001]", "latency.beam=4"), "another workload says nothing"
    table = f"latency.table={timed / 'latency' / 'table'}"
    [(verdict, _)] = findings(tmp_path / "new", "search.limits_ms=[0.0001]", table)
    assert verdict == "warning", "the devices of a shared table may be another team's"


def test_a_limit_is_doubtful_where_the_smallest_architecture_was_not_timed(timed: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(timed, run)
    table = run / "latency" / "table"
    smallest = load_recipe(TINY).space.build().smallest()
    rows = [row for row in read_table(table) if row.architecture != smallest]
    assert len(rows) == 2
    shutil.rmtree(table)
    write_rows(table, rows)
    [(verdict, _)] = findings(run, "search.limits_ms=[0.0001]", "latency.samples=3")
    assert verdict == "warning"


def test_the_doctor_tells_whether_a_recipe_can_be_done_here(tmp_path: Path):
    command = ["doctor", TINY, "--json", "--run", str(tmp_path / "r"), "--set", "latency.samples=9"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    rows = findings["recipe tiny: rows for the predictor"]
    assert (rows["verdict"], "got 9" in rows["seen"]) == ("missing", True)
    assert findings["recipe tiny: batches"]["verdict"] == "good"
    assert findings["recipe tiny: run folder"]["verdict"] == "good"

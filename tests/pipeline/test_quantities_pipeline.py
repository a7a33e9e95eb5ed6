"""A run whose settings name quantities times, fits and judges them, and does so again where another is named."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.api import run_recipe
from hat_ray.cli import app
from hat_ray.errors import CheckError
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import read_table
from hat_ray.latency.timing.sensors.energy import cpu_meter
from hat_ray.pipeline.outline import ONBOARD
from hat_ray.pipeline.run_folder import StageRecord
from hat_ray.recipe import load_recipe
from tests.pipeline.conftest import TINY

ONNX = ["latency.runtime=onnx", "latency.samples=12"]


def run(place: Path, *settings: str) -> list[StageRecord]:
    return run_recipe(load_recipe(TINY, [*ONNX, *settings]), str(place), local=True, only=ONBOARD)


def test_named_quantities_are_measured_fitted_and_judged(tmp_path: Path) -> None:
    latency, predictor = run(tmp_path, "latency.quantities=[p90_ms,peak_mb,model_mb]")
    rows = read_table(tmp_path / "latency" / "table")
    assert all(dict(row.quantities)["peak_mb"] > 10 for row in rows)
    (assessment,) = predictor.output["assessments"].values()
    assert [one["name"] for one in assessment["quantities"]] == ["p90_ms", "peak_mb"]
    assert assessment["quantities"][1]["quality"]["mape"] < 20
    files = {file.name for file in (tmp_path / "predictor").iterdir()}
    (slug,) = predictor.output["assessments"]
    assert {f"{slug}.json", f"{slug}.p90-ms.json", f"{slug}.peak-mb.json"} <= files
    told = CliRunner().invoke(app, ["predict", "score", str(tmp_path)])
    assert told.exit_code == 0, told.output
    assert "  peak_mb (peak memory): mean error" in told.stdout

    again = run(tmp_path, "latency.quantities=[p90_ms,peak_mb,model_mb]")
    assert [one.fingerprint for one in again] == [latency.fingerprint, predictor.fingerprint]
    fewer = run(tmp_path, "latency.quantities=[peak_mb]")
    assert fewer[0].fingerprint == latency.fingerprint, "percentiles are recorded anyway: nothing is timed again"
    assert fewer[1].fingerprint != predictor.fingerprint


@pytest.mark.slow
def test_another_quantity_is_measured_without_timing_anything_again(tmp_path: Path) -> None:
    first, _ = run(tmp_path)
    timings = {(row.architecture, row.context.utc_time, row.latency_ms) for row in timed(tmp_path)}
    sessions = {row.context.session_id for row in timed(tmp_path)}
    second, predictor = run(tmp_path, "latency.quantities=[peak_mb]")
    assert second.id != first.id
    assert {(row.architecture, row.context.utc_time, row.latency_ms) for row in timed(tmp_path)} == timings
    (assessment,) = predictor.output["assessments"].values()
    assert [(one["name"], one["quality"]["rows"]) for one in assessment["quantities"]] == [
        ("peak_mb", len({one for one, _, _ in timings}))
    ]
    peaks = {dict(row.quantities)["peak_mb"] for row in timed(tmp_path) if row.quantities}
    again, _ = run(tmp_path, "latency.quantities=[peak_mb,p90_ms]", "search.limits=[{peak_mb: 900, latency_ms: 900}]")
    assert again.id != second.id
    assert {dict(row.quantities)["peak_mb"] for row in timed(tmp_path) if row.quantities} == peaks, "measured once"
    run(tmp_path, "latency.quantities=[peak_mb]", "latency.canary_tolerance=0.2")
    assert {row.context.session_id for row in timed(tmp_path)}.isdisjoint(sessions), "another protocol: all is timed"


def timed(place: Path) -> list[LatencyRow]:
    return read_table(place / "latency" / "table", every_measurement=True)


@pytest.mark.slow
def test_onboarding_measures_what_rows_lack_also_where_the_latency_is_known_well(tmp_path: Path) -> None:
    run(tmp_path, "latency.target_error=0.95")
    timed = {row.architecture for row in read_table(tmp_path / "latency" / "table")}
    table = f"latency.table={tmp_path}/latency/table"
    _, predictor = run(tmp_path / "again", "latency.target_error=0.95", "latency.quantities=[peak_mb]", table)
    (assessment,) = predictor.output["assessments"].values()
    assert assessment["quantities"][0]["quality"]["rows"] >= len(timed)


def test_a_quantity_that_nobody_reports_here_ends_the_run_in_one_line_before_anything_is_begun(tmp_path: Path) -> None:
    if cpu_meter().read() is not None:
        pytest.skip("this machine counts energy")
    for setting, key in (
        ("latency.quantities=[energy_j]", "latency.quantities"),
        ("search.limits=[{latency_ms: 90, energy_j: 3}]", "search.limits"),
    ):
        words = rf"^{key} must bound what the device measures; energy_j is not known of \S+: let the [^\n]+$"
        with pytest.raises(CheckError, match=words):
            run_recipe(load_recipe(TINY, [setting]), str(tmp_path / "run"), local=True)
        assert not (tmp_path / "run").exists()
        told = CliRunner().invoke(app, ["recipe", "check", TINY, "--set", setting])
        assert f"WARNING quantities of the devices: {key} must bound" in told.stdout

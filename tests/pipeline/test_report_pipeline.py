"""What the report stage gathers beside the figures: the ledger, the largest architecture, runs held against another."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.core.codec import FORMAT, SEAL
from hat_ray.errors import RunError
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import read_table
from hat_ray.pipeline.run_folder import Run, StageRecord
from hat_ray.pipeline.stages.cost import stage_at
from hat_ray.recipe import load_recipe
from hat_ray.report.data import ReportData
from hat_ray.report.render import read_report
from hat_ray.search.candidates import CandidateTable
from hat_ray.search.selection import RetrainOutput
from hat_ray.storage.folder import Folder
from hat_ray.train.state import TrainResult

TINY = str(Path(__file__).parent / "tiny.yaml")


def record(stage: str, finished: str, seconds: float) -> StageRecord:
    return StageRecord(stage, "", "", {}, {}, 1, {}, finished, seconds, {})


def test_a_timing_belongs_to_the_stage_within_whose_time_it_was_made() -> None:
    records = {
        "latency": record("latency", "2026-03-01T10:10:00+00:00", 600.0),
        "search": record("search", "2026-03-01T10:30:00+00:00", 600.0),
    }
    assert stage_at(records, "2026-03-01T10:05:00Z") == "latency"
    assert stage_at(records, "2026-03-01T10:25:00Z") == "search"
    assert stage_at(records, "2026-03-01T10:15:00Z") is None
    assert stage_at(records, "2026-02-01T10:05:00Z") is None
    assert stage_at({}, "2026-03-01T10:05:00Z") is None


@pytest.fixture(scope="module")
def made(two_runtimes: Path) -> Path:
    return two_runtimes


@pytest.fixture(scope="module")
def data(made: Path) -> ReportData:
    return read_report(Folder.at(made / "report"))


def seconds_of(rows: Sequence[LatencyRow]) -> float:
    """Return the seconds of all translations that rows are made of, warm-up and disturbed ones included."""
    return sum(
        row.total.mean_ms / 1000 * ((row.repetitions or 0) + (row.warmups or 0) + (row.disturbed or 0))
        for row in rows
        if row.total
    )


@pytest.mark.slow
def test_the_ledger_counts_what_the_stages_kept(made: Path, data: ReportData) -> None:
    run = Run(Folder.at(made), load_recipe(TINY))
    ledger = data.ledger
    assert ledger is not None
    lines = {line.stage: line for line in ledger.lines}
    assert list(lines) == ["corpus", "supernet", "latency", "predictor", "search", "retrain", "evaluate"]
    for stage, line in lines.items():
        kept = run.record(stage)
        assert kept is not None
        assert line.wall_s == kept.seconds
    supernet, retrain = run.output("supernet", TrainResult), run.output("retrain", RetrainOutput)
    assert supernet is not None
    assert retrain is not None
    assert lines["supernet"].core_s == pytest.approx(2 * supernet.seconds)  # two workers
    trained = sum(one.seconds for model in retrain.models.values() for one in model.trainings)
    scored = CandidateTable(Folder.at(made / "search")).read()
    assert lines["search"].core_s >= sum(one.seconds for one in scored)
    rows = read_table(Folder.at(made / "latency" / "table"), every_measurement=True)
    assert sum(one.rows for one in ledger.timed) == len(rows)
    translated = seconds_of(rows)
    assert sum(one.seconds for one in ledger.timed) == pytest.approx(translated)
    records = {stage: record for stage in lines if (record := run.record(stage)) is not None}
    at_retrain = [row for row in rows if stage_at(records, row.context.utc_time) == "retrain"]
    assert lines["retrain"].core_s == pytest.approx(trained + seconds_of(at_retrain))
    assert ledger.work.candidates == len(scored)
    assert ledger.work.models == len(retrain.models)


@pytest.mark.slow
def test_a_limit_of_two_runtimes_tells_the_winner_on_the_page(made: Path, data: ReportData) -> None:
    [contest] = data.runtimes
    assert contest.limit.ms == 1000.0
    assert {one.limit.device for one in contest.entries} == {device.slug for device in data.devices}
    assert contest.entries[0].loss_bits == min(one.loss_bits for one in contest.entries)
    page = (made / "report" / "report.html").read_text()
    assert "Which runtime wins each limit" in page
    assert f"{contest.entries[0].settings} wins" in page


@pytest.mark.slow
def test_the_largest_architecture_is_predicted_for_every_device(data: ReportData) -> None:
    largest = data.first("largest")
    assert largest is not None
    for device in data.devices:
        assert device.largest_ms == largest.latency[device.slug].predicted_ms


@pytest.mark.slow
def test_runs_of_one_text_compare_and_a_report_of_another_format_is_refused(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(made, other, ignore=shutil.ignore_patterns("supernet", "retrain", "corpus", "trained"))
    out = tmp_path / "both.html"
    result = CliRunner().invoke(app, ["report", str(made), str(other), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert [caution["about"] for caution in value["cautions"]] == ["copy"]
    assert len(value["devices"]) == 2
    assert value["recipe_differences"] == {}
    assert value["runs"][0]["energy_kwh"] > 0
    assert out.stat().st_size > 1_000_000

    old = json.loads((other / "report" / "report.json").read_text())
    del old[SEAL]
    (other / "report" / "report.json").write_text(json.dumps(old | {FORMAT: ReportData.FORMAT - 1}))
    refused = CliRunner().invoke(app, ["report", str(made), str(other), "--out", str(out), "--json"])
    assert isinstance(refused.exception, RunError)
    assert f"this hat-ray reads format {ReportData.FORMAT}" in str(refused.exception)
    assert "write the report again" in str(refused.exception)
    assert "\n" not in str(refused.exception)

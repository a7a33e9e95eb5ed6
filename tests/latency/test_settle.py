"""Rows of one device on one scale, whatever level their sessions took for quiet when they were written."""

from dataclasses import replace
from pathlib import Path

import pytest

from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.detection import detect
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import read_table, scan_table, write_rows
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.latency.timing.record import Canary
from hat_ray.latency.timing.session import TimingSession
from hat_ray.model.config import ModelConfig
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder

SPACE = PRESETS["toy"]


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> LatencyRow:
    config = LatencyConfig(
        source_length=3,
        target_length=2,
        min_repetitions=5,
        max_repetitions=5,
        calibration_s=0.1,
        budget_s=0.1,
        patience_s=0,
    )
    job = TimingJob(SPACE, ModelConfig(), 64, config, Folder.at(tmp_path_factory.mktemp("table")))
    return TimingSession(job, detect(accelerator="cpu")).time(SPACE.largest())


def at_speed(row: LatencyRow, number: int, factor: float, quiet_ms: float | None, session: str) -> LatencyRow:
    """Return the row as a device would write it that is `factor` slower and takes `quiet_ms` for its quiet canary."""
    assert row.total is not None
    assert row.total.p50_ms is not None
    total = replace(row.total, p50_ms=10.0 * number * factor)
    canary = Canary(2 * factor, 2 * factor, (quiet_ms or 2.0) / (2 * factor), quiet_ms)
    context = replace(row.context, session_id=session)
    architecture = choose_architectures(SPACE, 10, seed=0)[number]
    return replace(row, architecture=architecture, total=total, canary=canary, context=context)


def test_sessions_that_saw_less_of_the_quiet_device_are_brought_to_the_one_that_saw_most(
    row: LatencyRow, tmp_path: Path
) -> None:
    rows = [
        at_speed(row, 1, 1.3, 2.6, "never quiet"),
        at_speed(row, 2, 1.3, 2.6, "never quiet"),
        at_speed(row, 3, 1.2, 2.4, "wiser with time"),
        at_speed(row, 4, 1.1, 2.0, "wiser with time"),
        at_speed(row, 5, 1.4, 2.0, "wiser with time"),
    ]
    write_rows(tmp_path, rows)
    told = {row.architecture: row.corrected_ms for row in read_table(tmp_path)}
    assert told == {row.architecture: pytest.approx(10 * n) for n, row in enumerate(rows, 1)}
    assert sorted(row.latency_ms for row in read_table(tmp_path)) == [13, 26, 36, 44, 70]
    columns = scan_table(tmp_path, columns=["architecture_id", "latency_corrected_ms"], best_only=True)
    assert columns.column_names == ["architecture_id", "latency_corrected_ms"]
    assert sorted(columns.column(1).to_pylist()) == pytest.approx([10, 20, 30, 40, 50])
    [only] = [row for row in read_table(tmp_path, session_id="never quiet") if row.latency_ms == 13]
    assert only.corrected_ms == pytest.approx(10), "rows of other sessions tell the level, too"


def test_workloads_and_rows_without_a_quiet_level_are_left_apart(row: LatencyRow, tmp_path: Path) -> None:
    longer = replace(row.workload, target_length=9)
    rows = [
        at_speed(row, 1, 1.0, 2.0, "a"),
        replace(at_speed(row, 2, 1.5, 3.0, "a"), workload=longer),
        at_speed(row, 3, 1.5, None, "old"),
        replace(at_speed(row, 4, 1.0, 2.0, "b"), canary=None),
    ]
    write_rows(tmp_path, rows)
    told = sorted(row.corrected_ms for row in read_table(tmp_path))
    assert told == pytest.approx(sorted([10, 30, 30, 40]))

"""Rows that cannot be measurements: refused where they would come in, named where they are, and used nowhere."""

import logging
import math
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hat_ray.cli import main
from hat_ray.errors import LatencyError
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.table.compact import compact
from hat_ray.latency.table.exchange import export_csvs, import_csv, import_table
from hat_ray.latency.table.hat_csv import export_hat_csv
from hat_ray.latency.table.parts import part_names
from hat_ray.latency.table.summary import describe_table
from hat_ray.latency.table.table import read_table, scan_table, write_rows
from hat_ray.latency.table.validate import validate
from hat_ray.latency.timing.measurement import JUDGED, NUMBERS
from hat_ray.latency.timing.workload import Workload
from hat_ray.predictor.rows import read_rows
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from tests.latency.test_lake_commands import DEVICE, SPACE, a_row

HEADER = export_hat_csv([])
GOOD = "640,6,2048.0,4.0,512,3,1024.0,4.0,4.0,2.0,5.5,120.5,0.1,0.5"
RACK = DeviceInfo("rack-7", "Xeon", "x86_64", 4, 1, None, None, (), "", None, "", "eager", "fp32", "none", "Linux")


def bring_in(path: Path, lake: Path) -> None:
    import_csv(lake, path, space_id=PRESETS["hat-latency"].id, device=RACK, workload=Workload())


def with_cell(column: int, cell: str) -> str:
    cells = GOOD.split(",")
    cells[column] = cell
    return ",".join(cells)


@pytest.mark.parametrize(
    ("column", "cell", "rule"),
    [
        (0, "nan", "encoder_embed_dim must be finite, got nan"),
        (0, "640.5", "encoder_embed_dim must be a whole number, got 640.5"),
        (1, "0", "encoder_layer_num must be from 1 to 1000000, got 0"),
        (2, "-512", "encoder_ffn_embed_dim_avg must be from 1 to 1000000, got -512"),
        (6, "1e308", "decoder_ffn_embed_dim_avg must be from 1 to 1000000, got 1e+308"),
        (9, "-inf", "decoder_arbitrary_ende_attn_avg must be finite, got -inf"),
        (10, "0", "latency_mean_encoder must be more than 0, got 0"),
        (10, "-5.5", "latency_mean_encoder must be more than 0, got -5.5"),
        (11, "inf", "latency_mean_decoder must be finite, got inf"),
        (11, "9e7", "latency_mean_decoder must be at most 86400000, a day, got 9e+07"),
        (11, "86399999", "encoder and decoder together must be at most 86400000, a day, got 8.64e+07"),
        (12, "-0.1", "latency_std_encoder must not be negative, got -0.1"),
        (13, "NaN", "latency_std_decoder must be finite, got nan"),
        (11, "=1+1", "could not convert string to float: '=1+1'"),
        (11, "@SUM(A1)", "could not convert string to float: '@SUM(A1)'"),
    ],
)
def test_a_csv_file_with_one_row_that_is_no_measurement_is_refused_whole_by_line_and_rule(
    tmp_path: Path, column: int, cell: str, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, lake = tmp_path / "mine.csv", tmp_path / "lake"
    path.write_text(HEADER + "\n".join([GOOD, with_cell(column, cell), GOOD]))
    with pytest.raises(SystemExit) as left:
        main(["latency", "import", str(lake), str(path), "--name", "rack-7"])
    told = capsys.readouterr().err
    assert left.value.code == 2
    assert f"{path} line 3" in told
    assert rule in told
    assert len(told.strip().splitlines()) == 1
    assert not lake.exists()


def test_a_device_without_scatter_and_a_slow_one_are_measurements(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(HEADER + "\n".join([with_cell(12, "0.0"), with_cell(11, "80000000.5")]) + "\n")
    bring_in(path, tmp_path / "lake")
    assert [row.decoder.mean_ms for row in read_table(tmp_path / "lake")] == [120.5, 80000000.5]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}{GOOD}\n".encode())
    bring_in(path, tmp_path / "lake")
    export_csvs(tmp_path / "lake", tmp_path / "out")
    assert (tmp_path / "out" / "mine.csv").read_text() == f"{HEADER}{GOOD}\n"


@pytest.mark.parametrize("source", ["=1+1.csv", "../../x.csv", "/x.csv", "a/b.csv", "@x.csv", "x\n.csv", "-x.csv"])
def test_what_an_imported_file_was_called_comes_out_as_a_name_only_where_it_is_one(tmp_path: Path, source: str) -> None:
    (tmp_path / "mine.csv").write_text(f"{HEADER}{GOOD}\n")
    bring_in(tmp_path / "mine.csv", tmp_path / "lake")
    [name] = part_names(tmp_path / "lake")
    folder = Folder.at(tmp_path / "lake")
    folder.write_table(name, with_values(folder.read_table(name), "source", source))
    [written] = export_csvs(folder, tmp_path / "out" / "deep")
    assert written == f"{PRESETS['hat-latency'].id}-{RACK.slug}.csv"
    assert [path.name for path in (tmp_path / "out").rglob("*.csv")] == [written]


def test_the_small_inputs_that_users_bring(shared: Path, tmp_path: Path) -> None:
    for name in ("nan", "inf", "neg", "huge", "formula"):
        with pytest.raises(LatencyError, match=rf"{name}\.csv line 2"):
            bring_in(shared / "cases" / "tables" / f"{name}.csv", tmp_path / "lake")
    assert not (tmp_path / "lake").exists()
    bring_in(shared / "cases" / "tables" / "bom.csv", tmp_path / "lake")
    assert len(read_table(tmp_path / "lake")) > 10


def test_a_pipe_or_a_device_is_no_csv_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    (tmp_path / "folder.csv").mkdir()
    for name, why in {"fifo": "a FIFO", "zero": "a device", "folder": "a folder", "loop": "itself"}.items():
        with pytest.raises(LatencyError, match=f"{name}.csv.*{why}"):
            bring_in(tmp_path / f"{name}.csv", tmp_path / "lake")
    with pytest.raises(LatencyError, match="does not exist"):
        bring_in(tmp_path / "gone.csv", tmp_path / "lake")


def with_values(table: pa.Table, column: str, *values: object) -> pa.Table:
    index = table.schema.get_field_index(column)
    field = table.schema.field(index)
    return table.set_column(index, field, pa.array(values, field.type))


def spoil(folder: Folder, name: str, column: str, value: float) -> None:
    """Write a number into a part's second row, as another program could."""
    table = folder.read_table(name)
    values = table.column(column).to_pylist()
    values[1] = value
    folder.write_table(name, with_values(table, column, *values))


NO_MEASUREMENTS = (math.nan, math.inf, -1.0, 1e300)
SPOILT = [("latency_ms", value) for value in (*NO_MEASUREMENTS, 0.0)]
SPOILT += [(column, NO_MEASUREMENTS[i % len(NO_MEASUREMENTS)]) for i, column in enumerate(JUDGED)]


@pytest.mark.parametrize(("column", "value"), SPOILT)
def test_a_reader_never_sees_such_a_row(
    tmp_path: Path, column: str, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [a_row(seed) for seed in range(6)]
    first, second = (write_rows(tmp_path, half)[0] for half in (rows[:3], rows[3:]))
    spoil(Folder.at(tmp_path), second, column, value)
    expected = [*rows[:4], rows[5]]
    with caplog.at_level(logging.WARNING):
        assert read_table(tmp_path) == expected
    assert f"{second}: 1 of its rows are no measurements" in caplog.text
    assert first not in caplog.text
    assert scan_table(tmp_path, columns=["utc_time"]).column(0).to_pylist() == [
        row.context.utc_time for row in expected
    ]
    fitted = read_rows(Folder.at(tmp_path), SPACE.id, DEVICE.slug)
    assert sorted(fitted.total_ms) == pytest.approx(sorted(row.corrected_ms for row in expected))
    [shown] = describe_table(tmp_path)
    assert (shown.rows, shown.measurements) == (5, 5)
    assert shown.slowest_ms == pytest.approx(max(row.corrected_ms for row in expected))


def test_validate_names_every_number_that_was_not_measured(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    whole = write_rows(tmp_path, [a_row(seed) for seed in range(3)])[0]
    for column in NUMBERS:
        name = f"{whole.rpartition('/')[0]}/part-{column}.parquet"
        folder.write_bytes(name, folder.read_bytes(whole))
        spoil(folder, name, column, math.nan)
    found = {(problem.file, problem.rule, problem.rows) for problem in validate(tmp_path).problems}
    place = whole.rpartition("/")[0]
    for column in NUMBERS:
        assert (f"{place}/part-{column}.parquet", f"{column} must be finite", (1,)) in found
    assert not [problem for problem in found if problem[0] == whole]


def test_a_repetition_that_took_no_time_is_named(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    [name] = write_rows(tmp_path, [a_row(seed) for seed in range(3)])
    table = folder.read_table(name)
    samples = [[1.0, 2.0, 3.0], [1.0, math.nan, 3.0], [1.0, 2.0, -3.0]]
    folder.write_table(name, with_values(table, "decoder_samples_ms", *samples))
    found = {problem.rule: problem.rows for problem in validate(tmp_path).problems}
    assert found["decoder_samples_ms must be finite"] == (1,)
    assert found["decoder_samples_ms must not be negative"] == (2,)


def test_compaction_leaves_such_a_file_alone_and_joins_the_others(tmp_path: Path) -> None:
    names = [write_rows(tmp_path, [a_row(seed), a_row(seed + 10)])[0] for seed in range(4)]
    folder = Folder.at(tmp_path)
    spoil(folder, names[2], "latency_ms", math.nan)
    before, bad = read_table(tmp_path), folder.read_bytes(names[2])
    assert len(before) == 7
    compact(tmp_path)
    left = part_names(tmp_path)
    assert len(left) == 2
    assert folder.read_bytes(names[2]) == bad
    [joined] = [name for name in left if name != names[2]]
    assert np.isfinite(folder.read_table(joined).column("latency_ms").to_numpy()).all()
    assert read_table(tmp_path) == before


def test_import_takes_nothing_of_a_file_with_such_a_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [write_rows(tmp_path / "board", [a_row(seed), a_row(seed + 10)])[0] for seed in range(3)]
    spoil(Folder.at(tmp_path / "board"), names[1], "encoder_p10_ms", -1.0)
    with caplog.at_level(logging.WARNING):
        told = import_table(tmp_path / "lake", tmp_path / "board")
    assert (told.files, told.rows, told.skipped) == (2, 4, (names[1],))
    assert f"{names[1]} is skipped: row 1 is no measurement: encoder_p10_ms must not be negative" in caplog.text
    assert part_names(tmp_path / "lake") == [names[0], names[2]]

"""`hat-ray latency show|compact|import|export|validate` on real lakes."""

import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hat_ray.cli import main
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.table.exchange import export_csvs, import_csv, import_table
from hat_ray.latency.table.hat_csv import export_hat_csv, published
from hat_ray.latency.table.parts import part_names
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import read_table, write_rows
from hat_ray.latency.timing.record import Canary, MeasurementContext
from hat_ray.latency.timing.statistics import spread
from hat_ray.latency.timing.workload import Workload
from hat_ray.space.features import hat_features
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder

SPACE = PRESETS["toy"]
DEVICE = DeviceInfo("rack-7", "Xeon", "x86_64", 4, 1, None, None, (), "", None, "", "eager", "fp32", "none", "Linux")
LINE = "640,6,2048.0,4.0,512,3,1024.0,4.0,4.0,2.0,5.5,120.5,0.1,0.5\n"


def a_row(seed: int) -> LatencyRow:
    architecture = SPACE.sample(random.Random(seed))
    samples = tuple(float(ms) for ms in (seed + 1, seed + 2, seed + 4))
    return LatencyRow(
        space_id=SPACE.id,
        architecture=architecture,
        hat_features=tuple(hat_features([architecture])[0].tolist()),
        workload=Workload(),
        device=DEVICE,
        encoder=spread(samples),
        decoder=spread(samples),
        total=spread([2 * ms for ms in samples]),
        encoder_samples_ms=samples,
        decoder_samples_ms=samples,
        repetitions=3,
        warmups=3,
        disturbed=0,
        relative_error=0.01,
        canary=Canary(10.0, 12.0, 0.95),
        context=MeasurementContext("host", "session", f"2026-01-31T12:00:{seed:02}Z", ()),
    )


def hat_ray(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any, str]:
    """Run a command in this process; return its exit code, what its JSON says, and what it says to people."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(["latency", *map(str, arguments)])
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return int(left.value.code or 0), json.loads(told.out) if "--json" in arguments else told.out, told.err


@pytest.mark.parametrize("tables", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_hats_tables_come_out_as_they_went_in_compacted_or_not(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tables: int
) -> None:
    paths = sorted((shared / "hat" / "latency_dataset").glob("*.csv"))[:tables]
    assert len(paths) == tables
    lake = tmp_path / "lake"
    code, told, _ = hat_ray(capsys, "import", lake, *paths, "--json")
    assert (code, [each["rows"] for each in told["sources"].values()]) == (0, [2000] * tables)
    again = hat_ray(capsys, "import", lake, *paths, "--json")[1]
    assert [(each["rows"], each["known"]) for each in again["sources"].values()] == [(0, 1)] * tables
    hat_ray(capsys, "compact", lake)
    assert hat_ray(capsys, "import", lake, *paths, "--json")[1] == again
    assert hat_ray(capsys, "export", lake, tmp_path / "out", "--json")[1]["files"] == {p.name: 2000 for p in paths}
    for path in paths:
        assert (tmp_path / "out" / path.name).read_text() == path.read_text()
    groups = hat_ray(capsys, "show", lake, "--json")[1]["groups"]
    assert len(groups) == (1 if tables == 1 else 3)
    assert sum(group["rows"] for group in groups) == sum(group["measurements"] for group in groups) == 2000 * tables
    code, told, _ = hat_ray(capsys, "validate", lake, "--json")
    assert (code, told["problems"], told["rows"]) == (0, [], 2000 * tables)


def test_measured_rows_go_out_as_csv_and_that_comes_back_equal(tmp_path: Path) -> None:
    rows = [a_row(seed) for seed in range(4)]
    rows += [replace(rows[0], workload=Workload(target_length=9))]
    write_rows(tmp_path / "lake", rows)
    first = export_csvs(tmp_path / "lake", tmp_path / "csv")
    assert list(first) == [f"{SPACE.id}-{DEVICE.slug}.csv", next(name for name in first if "target-length-9" in name)]
    assert list(first.values()) == [4, 1]
    for name in first:
        path = tmp_path / "csv" / name
        assert path.read_text() == export_hat_csv(
            [row for row in rows if (row.workload == Workload()) == (first[name] == 4)]
        )
        import_csv(tmp_path / "other", path, space_id=SPACE.id, device=DEVICE, workload=Workload())
    export_csvs(tmp_path / "other", tmp_path / "again")
    for name in first:
        assert (tmp_path / "again" / name).read_text() == (tmp_path / "csv" / name).read_text()


def test_a_csv_of_an_unknown_device_needs_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(export_hat_csv([]) + LINE)
    code, _, told = hat_ray(capsys, "import", tmp_path / "lake", path)
    assert (code, "pass --name and --model" in told) == (2, True)
    assert hat_ray(capsys, "import", tmp_path / "lake", path, "--name", "rack-7", "--threads", "4")[0] == 0
    [row] = read_table(tmp_path / "lake")
    assert (row.device.name, row.device.threads, row.latency_ms) == ("rack-7", 4, 126.0)
    assert published(path) is None
    path.write_text(export_hat_csv([]))
    assert hat_ray(capsys, "import", tmp_path / "lake", path, "--name", "rack-7")[0] == 2


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("missing", "does not exist"),
        ("fifo", "is a FIFO"),
        ("folder", "is a folder"),
        ("binary", "is a gzip file"),
        ("no utf-8", "line 1: the byte 0xff is not UTF-8"),
        ("other", "is not a latency table of HAT's"),
    ],
)
def test_a_fault_of_the_file_is_named_before_a_missing_name(
    kind: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.csv"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes({"binary": b"\x1f\x8b\x08x", "no utf-8": b"\xff,1\n", "other": b"a,b\n1,2\n"}[kind])
    code, _, told = hat_ray(capsys, "import", tmp_path / "lake", path)
    assert (code, fault in told, "--name" in told) == (2, True, False), told
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("command", [["import", "lake", "@"], ["show", "@"], ["validate", "@"], ["export", "@", "out"]])
def test_a_table_that_is_no_folder_is_named_for_what_it_is(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    for place, kind in (("/dev/zero", "a device"), ("fifo", "a FIFO")):
        code, _, told = hat_ray(capsys, *(place if part == "@" else part for part in command))
        assert (code, f"{kind} stands where a folder should be" in told) == (2, True), told
    assert [path.name for path in tmp_path.iterdir()] == ["fifo"]


def test_another_lake_is_imported_once_however_it_was_compacted_or_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board, lake = tmp_path / "board", tmp_path / "lake"
    for seed in range(4):
        write_rows(board, [a_row(seed)])
    write_rows(lake, [a_row(9)])
    told = import_table(lake, board)
    assert (told.files, told.rows, told.known) == (4, 4, 0)
    expected = read_table(lake, every_measurement=True)
    assert len(expected) == 5
    write_rows(board, [a_row(5)])
    hat_ray(capsys, "compact", board)
    assert import_table(lake, board).files == 1
    assert import_table(lake, board).files == 0
    hat_ray(capsys, "compact", lake)
    assert len(part_names(lake)) == 1
    assert import_table(lake, board).files == 0
    shutil.copytree(board, lake, dirs_exist_ok=True)
    rows = read_table(lake, every_measurement=True)
    assert sorted(row.context.utc_time[-3:-1] for row in rows) == ["00", "01", "02", "03", "05", "09"]
    code, _, refusal = hat_ray(capsys, "import", lake, tmp_path / "nowhere")
    assert (code, "does not exist" in refusal) == (2, True)
    assert import_table(f"file://{tmp_path}/third", f"file://{lake}").rows >= 6
    assert len(read_table(tmp_path / "third", every_measurement=True)) == 6


def test_what_is_damaged_is_not_imported(tmp_path: Path) -> None:
    name = write_rows(tmp_path / "board", [a_row(1)])[0]
    folder, place = Folder.at(tmp_path / "board"), name.rpartition("/")[0]
    folder.write_bytes(f"{place}/part-truncated.parquet", folder.read_bytes(name)[:-50])
    told = import_table(tmp_path / "lake", folder)
    assert (told.rows, told.skipped) == (1, (f"{place}/part-truncated.parquet",))
    assert part_names(tmp_path / "lake") == [name]


def _with(table: pa.Table, column: str, *values: object) -> pa.Table:
    index = table.schema.get_field_index(column)
    field = table.schema.field(index)
    return table.set_column(index, field, pa.array(values, field.type))


def test_validate_names_each_bad_file_and_each_row_that_breaks_a_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write_rows(tmp_path, [a_row(seed) for seed in range(3)])[0]
    folder, place = Folder.at(tmp_path), name.rpartition("/")[0]
    code, told, _ = hat_ray(capsys, "validate", tmp_path, "--json")
    assert (code, told["files"], told["rows"], told["problems"]) == (0, 1, 3, [])
    table, whole = folder.read_table(name), folder.read_bytes(name)
    json_text = table.column("architecture_json").to_pylist()
    spoilt = {
        "negative": ("encoder_mean_ms", (1.0, -1.0, 1.0), [1], "encoder_mean_ms must be more than 0"),
        "infinite": ("latency_ms", (1.0, float("inf"), float("nan")), [1, 2], "latency_ms must be finite"),
        "order": ("total_p10_ms", (1e6, 0.0, 1e6), [0, 2], "total_p10_ms must be at most total_p50_ms"),
        "time": ("utc_time", ("2026-01-31T12:00:00Z", "now", "2026-01-31T12:00:00Z"), [1], "utc_time must read like"),
        "id": ("architecture_id", ("0" * 12, *table.column("architecture_id").to_pylist()[1:]), [0], "architecture_id"),
        "text": ("architecture_json", (*json_text[:2], "{}"), [2], "'encoder'"),
        "count": ("repetitions", (3, 3, 4), [2], "encoder_samples_ms must be as many as repetitions"),
        "features": (f"hat_{'encoder_embed_dim'}", (1.0,) * 3, [0, 1, 2], "ten averages must be those"),
        "drift": ("drift_correction", (0.5,) * 3, [0, 1, 2], "latency_corrected_ms must follow"),
    }
    for base, (column, values, _, _) in spoilt.items():
        folder.write_table(f"{place}/part-{base}.parquet", _with(table, column, *values))
    folder.write_bytes(f"{place}/part-truncated.parquet", whole[:-50])
    folder.write_table(f"{place}/part-foreign.parquet", pa.table({"x": [1]}))
    folder.write_bytes("stray.parquet", whole)
    folder.write_bytes(f"{place.partition('/')[0]}/device=else/part-misplaced.parquet", whole)
    code, told, _ = hat_ray(capsys, "validate", tmp_path, "--json")
    assert code == 2
    for base, (_, _, rows, rule) in spoilt.items():
        found = [each for each in told["problems"] if each["file"] == f"{place}/part-{base}.parquet"]
        assert any(rule in each["rule"] and each["rows"] == rows for each in found), (base, found)
    whole_files = {each["file"].rpartition("/")[2]: each["rule"] for each in told["problems"] if not each["rows"]}
    assert "not a latency table of hat-ray" in whole_files["part-foreign.parquet"]
    assert "as its folder says" in whole_files["part-misplaced.parquet"]
    assert "must stand in space=<id>/device=<slug>/" in whole_files["stray.parquet"]
    assert whole_files["part-truncated.parquet"]
    assert "must stand once" in whole_files[place.rpartition("/")[2]]
    code, out, _ = hat_ray(capsys, "validate", tmp_path)
    assert code == 2
    assert "part-negative.parquet rows 1 (1 in all): encoder_mean_ms must be more than 0" in out
    assert not [name for name in told["problems"] if name["file"] == name]


def test_an_empty_place_and_one_that_does_not_exist_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for command in (
        ["export", "{}", tmp_path / "y"],
        ["validate", "{}"],
        ["show", "{}"],
        ["import", tmp_path / "y", "{}"],
    ):
        for place, rule in (("empty", "holds no latency"), ("gone", "does not exist"), ("file", "a file stands where")):
            arguments = [tmp_path / place if part == "{}" else part for part in command]
            code, _, told = hat_ray(capsys, *arguments)
            assert (code, rule in told, len(told.strip().splitlines())) == (2, True, 1), (command, place, told)
    code, told, _ = hat_ray(capsys, "compact", tmp_path / "empty", "--json")
    assert (code, told["files_before"]) == (0, 0)
    code, _, told = hat_ray(capsys, "compact", tmp_path / "gone")
    assert (code, "does not exist" in told) == (2, True)
    assert not (tmp_path / "y").exists()

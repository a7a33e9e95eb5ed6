"""Parts of a latency table and CSV files that are cut, changed or of other types: named and skipped, or refused."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hat_ray.errors import HatRayError
from hat_ray.latency.table.compact import compact
from hat_ray.latency.table.exchange import export_csvs, import_csv, import_table
from hat_ray.latency.table.hat_csv import export_hat_csv
from hat_ray.latency.table.parts import part_names
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.summary import describe_table
from hat_ray.latency.table.table import read_table, write_rows
from hat_ray.latency.table.validate import validate
from hat_ray.latency.timing.workload import Workload
from hat_ray.predictor.rows import read_rows
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from tests.bounded import bounded
from tests.damage import damaged
from tests.latency.test_lake_commands import DEVICE, LINE, SPACE, a_row

GOOD = [a_row(seed) for seed in (1, 2, 3)]
VICTIM = [a_row(seed) for seed in (4, 5, 6, 7)]
OTHERS = (None, True, -1, 0, 2**40, 1.5, "", "x", "{}", [], ["x"], [1.5], b"\xff")


def _swapped(table: pa.Table, rng: random.Random) -> pa.Table:
    """Return a table with another type, other values, or nothing, in the place of a column; or columns in disorder."""
    column = rng.randrange(table.num_columns)
    name, kind = table.column_names[column], rng.randrange(4)
    if kind == 0:
        return table.drop_columns([name])
    if kind == 1:
        return table.select(rng.sample(table.column_names, table.num_columns))
    if kind == 2:
        return table.set_column(column, name, pa.array([rng.choice(OTHERS)] * len(table)))
    values = table.column(name).to_pylist()
    values[rng.randrange(len(values))] = rng.choice(OTHERS)
    try:
        field = table.schema.field(column).with_nullable(True)
        return table.set_column(column, field, pa.array(values, field.type))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return table.drop_columns([name])


def damage(folder: Folder, name: str, whole: bytes, rng: random.Random) -> None:
    if rng.random() < 0.4:
        folder.write_table(name, _swapped(folder.read_table(name), rng))
    else:
        folder.write_bytes(name, damaged(whole, rng), durable=False)


def _row_ids(rows: list[LatencyRow]) -> set[str]:
    return {row.context.utc_time for row in rows}


def _use(lake: Path, work: Path) -> None:
    """Do all that is done with a table; each may refuse it in one line."""
    actions: list[Callable[[], Any]] = [
        lambda: describe_table(lake),
        lambda: validate(lake),
        lambda: read_rows(Folder.at(lake), SPACE.id, DEVICE.slug),
        lambda: import_table(work / "copy", lake),
        lambda: export_csvs(lake, work / "out"),
        lambda: compact(lake),
    ]
    for action in actions:
        try:
            action()
        except HatRayError as error:
            if len(str(error).splitlines()) != 1:
                raise AssertionError(str(error)) from error


@pytest.mark.parametrize("seeds", [25, pytest.param(250, marks=pytest.mark.slow)])
@pytest.mark.parametrize("compacted", [False, True], ids=["written", "compacted"])
def test_a_damaged_part_harms_no_other(tmp_path: Path, seeds: int, compacted: bool) -> None:
    source = tmp_path / "source"
    for row in VICTIM:
        write_rows(source, [row])
    if compacted:
        compact(source)
        [victim] = part_names(source)
    else:
        victim = write_rows(tmp_path / "single", VICTIM)[0]
        source = tmp_path / "single"
    whole = Folder.at(source).read_bytes(victim)
    good = _row_ids(GOOD)

    def use_all() -> list[int]:
        refused = 0
        for seed in range(seeds):
            work = tmp_path / f"{seed}"
            lake = work / "lake"
            write_rows(lake, GOOD)
            folder = Folder.at(lake)
            folder.write_bytes(victim, whole, durable=False)
            damage(folder, victim, whole, random.Random(seed))
            try:
                rows = read_table(lake)
                assert good <= _row_ids(rows), f"seed {seed}: rows of a sound part are missing"
                assert all(row in rows for row in GOOD), f"seed {seed}"
                refused += len(rows) < len(GOOD) + len(VICTIM)
                _use(lake, work)
                assert all(row in read_table(lake) for row in GOOD), f"seed {seed}: after compaction"
            except Exception as error:
                raise AssertionError(f"seed {seed}") from error
        return [refused]

    [refused] = bounded(use_all, more_bytes=1 << 30, seconds=60 + seeds)
    assert refused > seeds / 3


@pytest.mark.parametrize(
    ("found", "changed"), [(b"schema_version", b"schema_vers1on"), (b"2", b"3")], ids=["key", "value"]
)
def test_a_footer_that_contradicts_itself_is_damage(tmp_path: Path, found: bytes, changed: bytes) -> None:
    """A footer holds its metadata twice, the second time in base64: here the plain one is damaged."""
    write_rows(tmp_path, GOOD)
    for row in VICTIM:
        write_rows(tmp_path / "source", [row])
    compact(tmp_path / "source")
    [victim] = part_names(tmp_path / "source")
    whole = Folder.at(tmp_path / "source").read_bytes(victim)
    place = whole.index(b"hat_ray.schema_version")
    entry = whole[place : place + 30]
    assert found in entry
    damaged_part = whole[:place] + entry.replace(found, changed) + whole[place + 30 :]
    Folder.at(tmp_path).write_bytes(victim, damaged_part, durable=False)
    before = read_table(tmp_path)
    assert _row_ids(before) == _row_ids(GOOD)
    compact(tmp_path)
    assert read_table(tmp_path) == before


CELLS = (
    "",
    "x",
    "nan",
    "-inf",
    "1e999",
    "-1",
    "0",
    "1e308",
    "=1+1",
    '"',
    '"a\n',
    "\x00",
    "\ud7ff",
    "9" * 5000,
    "1_0",
    ",",
)


def _damaged_csv(text: str, rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return damaged(text.encode(), rng)
    lines = text.splitlines()
    place = rng.randrange(len(lines))
    cells = lines[place].split(",")
    cells[rng.randrange(len(cells))] = rng.choice(CELLS)
    lines[place] = ",".join(cells)
    encoding = rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"])
    return rng.choice(["\n", "\r\n", "\r"]).join(lines).encode(encoding)


@pytest.mark.parametrize("seeds", [80, pytest.param(500, marks=pytest.mark.slow)])
def test_a_damaged_csv_file_is_taken_whole_or_refused_in_one_line(tmp_path: Path, seeds: int) -> None:
    text = export_hat_csv([]) + LINE * 8
    settings: dict[str, Any] = {"space_id": PRESETS["hat-latency"].id, "device": DEVICE, "workload": Workload()}

    def import_all() -> list[int]:
        refused = 0
        for seed in range(seeds):
            path, lake = tmp_path / f"{seed}.csv", tmp_path / f"{seed}"
            path.write_bytes(_damaged_csv(text, random.Random(seed)))
            try:
                told = import_csv(lake, path, **settings)
            except HatRayError as error:
                refused += 1
                if len(str(error).splitlines()) != 1 or len(str(error)) > 1000 or lake.exists():
                    raise AssertionError(f"seed {seed}: {error}") from error
            except BaseException as error:
                raise AssertionError(f"seed {seed}") from error
            else:
                assert validate(lake).problems == (), seed
                assert len(read_table(lake)) == told.rows, seed
        return [refused]

    [refused] = bounded(import_all, more_bytes=1 << 29, seconds=30 + seeds)
    assert seeds / 4 < refused < seeds

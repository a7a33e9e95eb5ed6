"""Check a latency table: every file, and every rule that a row must keep (`rules`). Nothing is changed.

The rules that every row of a latency table keeps.

A row is read, made a `LatencyRow` and written again: each column that follows from others (architecture's id, device's
slug, latency and corrected latency) must come out as it stands there.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import SpaceError
from hat_ray.latency.table.best import KEY_COLUMNS
from hat_ray.latency.table.part_file import PartGoneError, read_part
from hat_ray.latency.table.parts import is_part, list_parts, look
from hat_ray.latency.table.row import SCHEMA, LatencyRow, from_table, to_table
from hat_ray.latency.table.scan import UNREADABLE, first_line, scan
from hat_ray.latency.timing.measurement import NUMBERS, broken_numbers, broken_samples
from hat_ray.space.features import hat_features
from hat_ray.storage.folder import Folder

_SLICE = 5_000
"""Rows made objects at once."""

_DERIVED = ("architecture_id", "architecture_json", "device_slug", "latency_ms", "latency_corrected_ms")
_AT_LEAST_ONE = ("batch", "beam", "source_length", "target_length", "repetitions")
_ORDERED = [
    (f"{part}_{low}_ms", f"{part}_{high}_ms")
    for part in ("encoder", "decoder", "total")
    for low, high in (("p10", "p50"), ("p50", "p90"))
]
_UTC = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$"


def broken_rules(table: pa.Table) -> dict[str, list[int]]:
    """Check rows against every rule; return the rules that are broken and the rows that break them, from 0."""
    broken: dict[str, list[int]] = defaultdict(list)
    for rule, numbers in (*broken_numbers(table), *broken_samples(table)):
        broken[rule] += np.flatnonzero(numbers).tolist()
    for rule, mask in _column_rules(table):
        broken[rule] += np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False)).tolist()
    for first in range(0, len(table), _SLICE):
        for rule, row in _row_rules(table.slice(first, _SLICE)):
            broken[rule].append(first + row)
    return {rule: rows for rule, rows in broken.items() if rows}


def _column_rules(table: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """Yield rules, and where they are broken."""
    columns = {name: table.column(name) for name in table.column_names}
    for name, column in columns.items():
        if pa.types.is_floating(column.type) and name not in NUMBERS:
            yield f"{name} must be finite", pc.invert(pc.is_finite(column))
    for name in columns.keys() & _AT_LEAST_ONE:
        yield f"{name} must be at least 1", pc.less(columns[name], 1)
    for low, high in _ORDERED:
        if {low, high} <= columns.keys():
            yield f"{low} must be at most {high}", pc.greater(columns[low], columns[high])
    for name in ("encoder_samples_ms", "decoder_samples_ms", "total_samples_ms"):
        if {name, "repetitions"} <= columns.keys():
            lengths = pc.list_value_length(columns[name])
            told = pc.and_(pc.greater(lengths, 0), pc.not_equal(lengths, columns["repetitions"]))
            yield f"{name} must be as many as repetitions", told
    yield "utc_time must read like 2026-01-31T12:00:00Z", pc.invert(pc.match_substring_regex(columns["utc_time"], _UTC))


def _row_rules(table: pa.Table) -> Iterator[tuple[str, int]]:
    """Yield the rules that a row as a whole breaks."""
    made: list[tuple[int, LatencyRow]] = []
    try:
        made = list(enumerate(from_table(table)))
    except (SpaceError, ValueError, TypeError, LookupError):
        for i in range(len(table)):
            try:
                made.append((i, from_table(table.slice(i, 1))[0]))
            except (SpaceError, ValueError, TypeError, LookupError) as error:
                yield first_line(error), i
    again = to_table(row for _, row in made)
    was = table.take([i for i, _ in made])
    for name in set(_DERIVED) & set(table.column_names):
        for (i, _), here, there in zip(made, again.column(name).to_pylist(), was.column(name).to_pylist(), strict=True):
            if not _same(here, there):
                yield f"{name} must follow from the other columns", i
    yield from _other_rules(made)


def _other_rules(made: list[tuple[int, LatencyRow]]) -> Iterator[tuple[str, int]]:
    for i, row in made:
        if row.architecture is None and (not row.origin.source or row.origin.source_row is None):
            yield "a row without architecture must name its source and source_row", i
    known = [(i, row) for i, row in made if row.architecture is not None]
    features = hat_features([row.architecture for _, row in known if row.architecture]) if known else np.zeros((0, 10))
    for (i, row), expected in zip(known, features, strict=True):
        if not np.allclose(row.hat_features, expected, rtol=1e-6):
            yield "HAT's ten averages must be those of the architecture", i


def _same(here: object, there: object) -> bool:
    if isinstance(here, float) and isinstance(there, float):
        return bool(np.isclose(here, there, rtol=1e-9, atol=0, equal_nan=True))
    return here == there


IDENTITY = (*KEY_COLUMNS, "host", "session_id", "utc_time", "latency_ms")


@dataclass(frozen=True)
class TableProblem:
    """Something wrong: a file, or rows of it that break one rule."""

    file: str
    rule: str
    rows: tuple[int, ...] = ()
    """The rows that break it, counted from 0 in the file; empty: the file as a whole."""


@dataclass(frozen=True)
class TableCheck:
    """Result of a check: counts and problems."""

    files: int
    rows: int
    leftovers: int
    """Temporary files of writers that were killed or still write: readers pass over them, `compact` deletes old ones.
    """
    problems: tuple[TableProblem, ...]


def validate(root: Folder | str | Path, progress: Progress = no_progress) -> TableCheck:
    """Check a table; parts that are compacted meanwhile are checked where their rows went."""
    folder = Folder.at(root)
    folder.require()
    walk = _walk(folder)
    names, problems = walk.parts, walk.problems
    places = sorted({name.rpartition("/")[0] for name in names})
    rows, seen = 0, set[str]()
    for place in places:
        while new := [name for name in list_parts(folder, place) if name not in seen]:
            for name in new:
                seen.add(name)
                count, wrong = _check(folder, name)
                problems += wrong
                rows += count
                progress(len(seen), max(len(names), len(seen)), {"rows": float(rows), "wrong": float(len(problems))})
        problems += _doubles(folder, place)
    return TableCheck(len(seen) + walk.strangers, rows, walk.leftovers, tuple(problems))


def _check(folder: Folder, name: str) -> tuple[int, list[TableProblem]]:
    """Return the number of a file's rows, and its problems."""
    try:
        table = read_part(folder, name).table
    except PartGoneError:
        return 0, []
    except UNREADABLE as error:
        return 0, [TableProblem(name, first_line(error))]
    return len(table), [TableProblem(name, rule, tuple(rows)) for rule, rows in broken_rules(table).items()]


@dataclass
class _Walk:
    """All entries below a table's root."""

    parts: list[str] = field(default_factory=list)
    leftovers: int = 0
    problems: list[TableProblem] = field(default_factory=list)
    strangers: int = 0


def _walk(folder: Folder) -> _Walk:
    """Look everywhere once, however links lead back, and open nothing."""
    walk, todo, been = _Walk(), [""], set[str]()
    while todo:
        above = todo.pop()
        place = folder.child(above) if above else folder
        real = os.path.realpath(place.root) if place.is_local else place.root
        if real in been:
            walk.problems.append(TableProblem(above, "each folder must stand once, got a link that leads back"))
            continue
        been.add(real)
        seen = look(place)
        names = {name: f"{above}/{name}" if above else name for name in (*seen.files, *seen.folders)}
        todo += [names[name] for name in reversed(seen.folders)]
        for name, kind in (seen.others or {}).items():
            walk.problems.append(TableProblem(f"{above}/{name}".lstrip("/"), f"a table holds plain files, got {kind}"))
        for name in filter(is_part, seen.folders):
            walk.problems.append(TableProblem(names[name], "a part must be a plain file, got a folder"))
        for name in seen.files:
            _note(walk, names[name])
    return walk


def _note(walk: _Walk, name: str) -> None:
    above, _, base = name.rpartition("/")
    if is_part(base) and _is_in_place(name):
        walk.parts.append(name)
    elif is_part(base):
        walk.strangers += 1
        walk.problems.append(TableProblem(name, "a part must stand in space=<id>/device=<slug>/"))
    elif base.startswith(("space=", "device=")[above.count("=") : above.count("=") + 1]):
        walk.problems.append(TableProblem(name, "a folder must stand here, got a file"))
    walk.leftovers += base.startswith(".") and base.endswith(".tmp")


def _is_in_place(name: str) -> bool:
    space, _, rest = name.partition("/")
    device, _, base = rest.partition("/")
    return space.startswith("space=") and device.startswith("device=") and "/" not in base and bool(base)


def _doubles(folder: Folder, place: str) -> list[TableProblem]:
    """Find measurements that stand twice, such as in a part that was copied under another name."""
    schema = pa.schema([SCHEMA.field(name) for name in IDENTITY])
    frame = scan(folder, [place], schema)[0].to_pandas()
    count = int(frame.duplicated().sum())
    return [TableProblem(place, f"each measurement must stand once, got {count} again")] if count else []

"""The rules that every row of a latency table keeps.

A row is read, made a `LatencyRow` and written again: each column that follows from others (architecture's id, device's
slug, latency and corrected latency) must come out as it stands there.
"""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hat_ray.errors import SpaceError
from hat_ray.latency.measurement import NUMBERS, broken_numbers, broken_samples
from hat_ray.latency.row import LatencyRow
from hat_ray.latency.scan import first_line
from hat_ray.latency.schema import from_table, to_table
from hat_ray.space.features import hat_features

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
    for name in ("encoder_samples_ms", "decoder_samples_ms"):
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

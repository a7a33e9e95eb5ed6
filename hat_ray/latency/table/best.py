"""The timing that counts among several of one thing: of each session the latest, and of these the smallest relative
error.

Ties go to the later time across sessions, and within a session to the row that stands later; whatever is
still equal goes to the row that stands first.
"""

from dataclasses import fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hat_ray.latency.timing.workload import Workload

KEY_COLUMNS = ("architecture_id", "source", "source_row", *(field.name for field in fields(Workload)))
"""With space and device, which a partition shares: `LatencyRow.key` as columns."""

BEST_COLUMNS = (*KEY_COLUMNS, "session_id", "utc_time", "relative_error")


def best_measurements(table: pa.Table) -> NDArray[np.int64]:
    """Return the rows, ascending, of the best measurement of each thing, from one partition's `BEST_COLUMNS`."""
    things = codes_of(_key_columns(table), len(table))
    again = np.bincount(things)[things] > 1 if len(things) else np.zeros(0, dtype=bool)
    single, several = np.flatnonzero(~again), np.flatnonzero(again)
    if not len(several):
        return single
    kept = _best_of_several(table.select(["session_id", "utc_time", "relative_error"]).take(several), things[several])
    return np.sort(np.concatenate([single, several[kept]]))


def _best_of_several(table: pa.Table, things: NDArray[np.int64]) -> NDArray[np.int64]:
    place = np.arange(len(table))
    sessions, times = codes_of([table.column("session_id")], len(table)), _ranks(table.column("utc_time"))
    order = np.lexsort((place, times, sessions, things))
    latest = order[_last_of_each(things[order], sessions[order])]
    errors = np.nan_to_num(pc.fill_null(table.column("relative_error"), np.inf).to_numpy(), nan=np.inf, posinf=np.inf)
    order = latest[np.lexsort((-latest, times[latest], -errors[latest], things[latest]))]
    return order[_last_of_each(things[order])]


def _last_of_each(*groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the last of each run of equal values."""
    ends = np.ones(len(groups[0]), dtype=bool)
    ends[:-1] = np.any([np.diff(group) != 0 for group in groups], axis=0)
    return ends


def _key_columns(table: pa.Table) -> list[pa.ChunkedArray]:
    """Return the columns that identify things; an import's line only where there is no architecture."""
    columns = [table.column(name) for name in KEY_COLUMNS]
    unnamed = columns[0].is_null()
    if columns[0].null_count:
        return [columns[0], *(pc.if_else(unnamed, column, None) for column in columns[1:3]), *columns[3:]]
    return [columns[0], *columns[3:]]


def codes_of(columns: list[pa.ChunkedArray], rows: int) -> NDArray[np.int64]:
    """Return one small number a row: equal where all columns are equal, nulls included."""
    codes, count = np.zeros(rows, dtype=np.int64), 1
    for column in columns:
        values = pc.dictionary_encode(column, null_encoding="encode").combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # nothing, or too much for one chunk
            values = values.unify_dictionaries().combine_chunks()
        if len(values.dictionary) < 2:
            continue
        codes = codes * len(values.dictionary) + values.indices.to_numpy(zero_copy_only=False)
        count *= len(values.dictionary)
        if count > 4 * rows:
            known, codes = np.unique(codes, return_inverse=True)
            count = len(known)
    return codes


def _ranks(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return each text's place among the distinct texts, ascending."""
    values = pc.dictionary_encode(column).combine_chunks()
    order = np.argsort(np.array(values.dictionary.to_pylist(), dtype=object), kind="stable")
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    indices: NDArray[np.int32] = values.indices.to_numpy(zero_copy_only=False)
    return ranks[indices]

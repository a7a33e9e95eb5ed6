"""One scale for all rows of a device: the quiet level of its quietest session.

A row is corrected to the canary's time on the quiet device *as its session knew it by then*. Sessions end
wiser than they begin, and some never meet a quiet moment. So reading brings all rows of a device and workload to
one level: of each session and host the median of its rows' levels, and of these the smallest. The files stay as they
are; `latency_ms` is never touched.
"""

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hat_ray.latency.table.best import codes_of
from hat_ray.latency.timing.workload import Workload

CORRECTED_COLUMNS = ("drift_correction", "latency_corrected_ms")
"""Columns that `to_quiet_level` changes."""

_WORKLOAD = [field.name for field in fields(Workload)]
_SESSION = ["session_id", "host"]
_QUIET = "canary_quiet_ms"

LEVEL_COLUMNS = (*_WORKLOAD, *_SESSION, _QUIET)
"""Columns that the levels are computed from."""

Levels = Mapping[tuple[object, ...], float]
"""The quiet canary's milliseconds by the workload's values."""


def quiet_levels(table: pa.Table) -> Levels:
    """Return the quiet canary's milliseconds by workload, from one partition's `LEVEL_COLUMNS`."""
    timed = table.select(list(LEVEL_COLUMNS)).filter(pc.is_valid(table.column(_QUIET)))
    groups, workloads = _groups(timed)
    sessions = codes_of([pa.chunked_array([groups]), *(timed.column(name) for name in _SESSION)], len(timed))
    frame = pd.DataFrame({"group": groups, "session": sessions, _QUIET: timed.column(_QUIET).to_numpy()})
    by_session = frame.groupby("session").agg({"group": "first", _QUIET: "median"})
    levels = by_session.groupby("group")[_QUIET].min()
    return {workloads[group]: level for group, level in zip(levels.index.tolist(), levels.tolist(), strict=True)}


def to_quiet_level(table: pa.Table, levels: Levels) -> pa.Table:
    """Bring those of `CORRECTED_COLUMNS` that a table has to the levels; rows without a canary stay as they are."""
    quiet = table.column(_QUIET)
    if not levels or quiet.null_count == len(table):
        return table
    groups, workloads = _groups(table)
    level = np.array([levels.get(workloads[group], np.nan) for group in sorted(workloads)])[groups]
    factor = pc.fill_null(pc.divide(pa.array(level, from_pandas=True), quiet.combine_chunks()), 1.0)
    for name in CORRECTED_COLUMNS:
        place = table.schema.get_field_index(name)
        if place >= 0:
            table = table.set_column(place, table.schema.field(place), pc.multiply(table.column(name), factor))
    return table


def _groups(table: pa.Table) -> tuple[NDArray[np.int64], dict[int, tuple[object, ...]]]:
    """Return each row's workload as a number from 0 on, and the values that each number stands for."""
    codes = codes_of([table.column(name) for name in _WORKLOAD], len(table))
    _, first, groups = np.unique(codes, return_index=True, return_inverse=True)
    records = table.select(_WORKLOAD).take(first).to_pylist()
    return groups, {i: tuple(record[name] for name in _WORKLOAD) for i, record in enumerate(records)}

"""One scale for all rows of a device: what the quietest session says a quiet device is.

A row is corrected to how fast the canary was on the quiet device *as far as its session had seen by then*. Sessions end
wiser than they begin, and some never meet a quiet moment. So whoever reads brings all rows of a device and workload to
one level: of each session and host the median of what its rows say, and of these the smallest. The files stay as they
are; `latency_ms` is never touched.
"""

from collections.abc import Sequence
from dataclasses import fields

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hat_ray.latency.translation import Workload

SETTLED_COLUMNS = ("drift_correction", "latency_corrected_ms")
"""What settling changes."""

_WORKLOAD = [field.name for field in fields(Workload)]
_SESSION = ["session_id", "host"]
_QUIET = "canary_quiet_ms"

LEVEL_COLUMNS = (*_WORKLOAD, *_SESSION, _QUIET)
"""What the levels are read from."""


def quiet_levels(table: pa.Table) -> "pd.Series[float]":
    """Return the quiet canary's milliseconds by workload, from one partition's `LEVEL_COLUMNS`."""
    told = table.select(list(LEVEL_COLUMNS)).filter(pc.is_valid(table.column(_QUIET)))
    frame = _frame(told, LEVEL_COLUMNS)
    by_session = frame.groupby([*_WORKLOAD, *_SESSION], observed=True, dropna=False)[_QUIET].median()
    levels: pd.Series[float] = by_session.groupby(level=_WORKLOAD, dropna=False).min()
    return levels


def settle(table: pa.Table, levels: "pd.Series[float]") -> pa.Table:
    """Bring those of `SETTLED_COLUMNS` that a table has to the levels; rows without a canary stay as they are."""
    quiet = table.column(_QUIET)
    if levels.empty or quiet.null_count == len(table):
        return table
    frame = _frame(table, _WORKLOAD)
    level = frame.merge(levels.rename("level").reset_index(), how="left", on=_WORKLOAD)["level"]
    factor = pc.fill_null(pc.divide(pa.array(level, from_pandas=True), quiet.combine_chunks()), 1.0)
    for name in SETTLED_COLUMNS:
        place = table.schema.get_field_index(name)
        if place >= 0:
            table = table.set_column(place, table.schema.field(place), pc.multiply(table.column(name), factor))
    return table


def _frame(table: pa.Table, columns: Sequence[str]) -> pd.DataFrame:
    frame: pd.DataFrame = table.select(list(columns)).to_pandas(strings_to_categorical=True)
    for name in _WORKLOAD:  # categories of two tables merge as what they stand for
        if isinstance(frame[name].dtype, pd.CategoricalDtype):
            frame[name] = frame[name].astype(object)
    return frame

"""Summary of a latency table's content."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hat_ray.latency.table.best import BEST_COLUMNS, best_measurements, codes_of
from hat_ray.latency.table.parts import list_parts, partition_values, partitions
from hat_ray.latency.table.quiet_level import LEVEL_COLUMNS
from hat_ray.latency.table.row import SCHEMA
from hat_ray.latency.table.table import scan_at_quiet_level
from hat_ray.storage.folder import Folder

_COLUMNS = dict.fromkeys([*BEST_COLUMNS, *LEVEL_COLUMNS, "latency_corrected_ms", "drift_correction"])


@dataclass(frozen=True)
class TableGroup:
    """The rows of one space on one device: of each thing the best measurement."""

    space_id: str
    device: str
    rows: int
    fastest_ms: float
    slowest_ms: float
    median_relative_error: float | None
    """Of the rows' medians; None where only averages are known."""
    worst_drift: float | None
    """Largest distance of a drift correction from 1; None where no canary was timed."""
    sessions: int
    measurements: int
    """Timings, those included that a better one of the same thing stands for; one that is written again with more
    quantities counts once."""
    files: int
    """Many small ones are slow to read: `hat-ray latency compact` joins them."""
    latest_utc: str


def describe_table(
    root: Folder | str | Path, space_id: str | None = None, device: str | None = None
) -> list[TableGroup]:
    """Summarise a latency table by space and device; raises NotFoundError when there is none."""
    folder = Folder.at(root)
    folder.require()
    places = partitions(folder, space_id, device)
    tables = scan_at_quiet_level(folder, places, pa.schema([SCHEMA.field(name) for name in _COLUMNS]), {})
    return [_group(folder, place, table) for place, table in zip(places, tables, strict=True) if len(table)]


def _group(folder: Folder, place: str, table: pa.Table) -> TableGroup:
    best = table.take(best_measurements(table))
    times = best.column("latency_corrected_ms").to_numpy()
    errors, drifts = (best.column(name).drop_null().to_numpy() for name in ("relative_error", "drift_correction"))
    space, device = partition_values(place)
    return TableGroup(
        space_id=space,
        device=device,
        rows=len(best),
        fastest_ms=float(times.min()),
        slowest_ms=float(times.max()),
        median_relative_error=float(np.median(errors)) if len(errors) else None,
        worst_drift=float(np.abs(drifts - 1).max()) if len(drifts) else None,
        sessions=pc.count_distinct(best.column("session_id")).as_py(),
        measurements=len(np.unique(codes_of([table.column(name) for name in BEST_COLUMNS], len(table)))),
        files=len(list_parts(folder, place)),
        latest_utc=pc.max(table.column("utc_time")).as_py(),
    )

"""What a latency table holds, in a few lines."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hat_ray.latency.table import scan_table
from hat_ray.storage import Folder

_COLUMNS = ("space_id", "device_slug", "session_id", "latency_corrected_ms", "relative_error", "drift_correction")


@dataclass(frozen=True)
class TableGroup:
    """The rows of one space on one device: the best measurement of each thing."""

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


def describe_table(
    root: Folder | str | Path, space_id: str | None = None, device: str | None = None
) -> list[TableGroup]:
    """Summarise a latency table by space and device."""
    frame = scan_table(root, space_id, device, _COLUMNS, best_only=True).to_pandas()
    return [_group(rows) for _, rows in frame.groupby(["space_id", "device_slug"], sort=True)]


def _group(rows: pd.DataFrame) -> TableGroup:
    errors, drifts = rows["relative_error"].dropna(), (rows["drift_correction"].dropna() - 1).abs()
    return TableGroup(
        space_id=str(rows["space_id"].iloc[0]),
        device=str(rows["device_slug"].iloc[0]),
        rows=len(rows),
        fastest_ms=float(rows["latency_corrected_ms"].min()),
        slowest_ms=float(rows["latency_corrected_ms"].max()),
        median_relative_error=float(errors.median()) if len(errors) else None,
        worst_drift=float(drifts.max()) if len(drifts) else None,
        sessions=int(rows["session_id"].nunique()),
    )

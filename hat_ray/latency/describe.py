"""What a latency table holds, in a few lines."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from hat_ray.latency.row import LatencyRow
from hat_ray.latency.table import read_table
from hat_ray.storage import Folder


@dataclass(frozen=True)
class TableGroup:
    """The rows of one space on one device."""

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


def describe_table(root: Folder | str) -> list[TableGroup]:
    """Summarise a latency table by space and device."""
    groups: dict[tuple[str, str], list[LatencyRow]] = defaultdict(list)
    for row in read_table(root):
        groups[row.space_id, row.device.slug].append(row)
    return [_group(space, device, rows) for (space, device), rows in sorted(groups.items())]


def _group(space_id: str, device: str, rows: list[LatencyRow]) -> TableGroup:
    times = [row.corrected_ms for row in rows]
    errors = [row.relative_error for row in rows if row.relative_error is not None]
    drifts = [abs(row.canary.drift_correction - 1) for row in rows if row.canary is not None]
    return TableGroup(
        space_id=space_id,
        device=device,
        rows=len(rows),
        fastest_ms=min(times),
        slowest_ms=max(times),
        median_relative_error=median(errors) if errors else None,
        worst_drift=max(drifts) if drifts else None,
        sessions=len({row.circumstances.session_id for row in rows}),
    )

"""Which measurement counts, decided row by row: what `best_measurements` does on columns, as an oracle."""

import math
from collections.abc import Iterable

from hat_ray.latency.table.row import LatencyRow


def best_of_each(rows: Iterable[LatencyRow]) -> list[LatencyRow]:
    """Keep the best measurement of each thing, in the rows' order."""
    rows = list(rows)
    latest: dict[tuple[object, ...], int] = {}
    for i, row in enumerate(rows):
        what = (row.key, row.context.session_id)
        known = latest.get(what)
        if known is None or row.context.utc_time >= rows[known].context.utc_time:
            latest[what] = i
    best: dict[tuple[object, ...], int] = {}
    for i in sorted(latest.values()):
        known = best.get(rows[i].key)
        if known is None or _merit(rows[i]) > _merit(rows[known]):
            best[rows[i].key] = i
    return [rows[i] for i in sorted(best.values())]


def _merit(row: LatencyRow) -> tuple[float, str]:
    error = row.relative_error
    return (-math.inf if error is None or math.isnan(error) else -error), row.context.utc_time

"""How often a table's architectures were timed."""

from collections import Counter
from pathlib import Path

from hat_ray.latency.table.table import read_table


def timed(root: Path) -> Counter[tuple[str, str]]:
    """Count timings by name of the device and id of the architecture.

    A row with more visits goes on with the timing of the row before it; one with as many or fewer timed it again.
    """
    found: Counter[tuple[str, str]] = Counter()
    visits: dict[tuple[str, str], int] = {}
    rows = [row for row in read_table(root, every_measurement=True) if row.architecture is not None]
    for row in sorted(rows, key=lambda row: row.context.utc_time):
        assert row.architecture is not None
        assert row.visits is not None
        key = row.device.name, row.architecture.id
        found[key] += row.visits <= visits.get(key, row.visits)
        visits[key] = row.visits
    return found

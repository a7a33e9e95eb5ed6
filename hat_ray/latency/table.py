"""The latency table: a Hive-partitioned Parquet data set that many writers and teams share.

    <root>/space=<space id>/device=<device slug>/part-<uuid>.parquet

Decisions
- A part appears whole or not at all, and nobody ever changes one: writers need no lock and cannot hurt each other.
- A file that is truncated, foreign or newer than this hat-ray is named in a warning and skipped whole.
- The same thing timed twice is kept twice in the files; reading resolves it to the better measurement.
- The file repeats its partition's values under other names (`space_id`, `device_slug`), so that it still tells what it
  is when it is copied elsewhere, and so that the two do not clash in readers that add the partition's columns.
"""

import logging
import math
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from hat_ray.errors import SpaceError
from hat_ray.latency.row import LatencyRow
from hat_ray.latency.schema import SCHEMA, from_table, to_table, why_foreign, why_invalid
from hat_ray.storage import Folder

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


def write_rows(root: Folder | str | Path, rows: Iterable[LatencyRow]) -> list[str]:
    """Append rows, one new part for each space and device; return the parts' names below the root."""
    groups: dict[str, list[LatencyRow]] = defaultdict(list)
    for row in rows:
        groups[f"space={row.space_id}/device={row.device.slug}"].append(row)
    names = []
    for partition, group in groups.items():
        name = f"{partition}/part-{uuid.uuid4().hex}.parquet"
        Folder.at(root).write_table(name, to_table(group))
        names.append(name)
    return names


def read_table(
    root: Folder | str | Path,
    space_id: str | None = None,
    device: str | None = None,
    *,
    session_id: str | None = None,
    every_measurement: bool = False,
) -> list[LatencyRow]:
    """Read rows, of one space, device (its slug) or session where given; empty when there are none.

    Of several rows with one `key` only the best is returned, the one with the smallest relative error, unless
    `every_measurement`. The order is stable: by file name and place in the file.
    """
    rows = [row for part in _each_part(root, space_id, device, from_table, None) for row in part]
    if session_id is not None:
        rows = [row for row in rows if row.circumstances.session_id == session_id]
    return rows if every_measurement else best_of_each(rows)


def scan_table(
    root: Folder | str | Path,
    space_id: str | None = None,
    device: str | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Read columns (default: all) of every measurement as one Arrow table, without making rows of it."""
    schema = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
    schema = schema.remove_metadata()
    parts = list(_each_part(root, space_id, device, lambda table: _fill(table, schema), schema.names))
    return pa.concat_tables(parts) if parts else schema.empty_table()


def best_of_each(rows: Iterable[LatencyRow]) -> list[LatencyRow]:
    """Keep the best measurement of each thing: a session's latest, and of sessions the smallest relative error."""
    best: dict[tuple[object, ...], LatencyRow] = {}
    for row in rows:
        known = best.get(row.key)
        if known is None or _is_better(row, known):
            best[row.key] = row
    return list(best.values())


def _is_better(row: LatencyRow, known: LatencyRow) -> bool:
    """Within a session the later row is the better one: it was timed again for a reason."""
    here, there = row.circumstances, known.circumstances
    if here.session_id == there.session_id:
        return here.utc_time >= there.utc_time
    return (-_error(row), here.utc_time) > (-_error(known), there.utc_time)


def _error(row: LatencyRow) -> float:
    return math.inf if row.relative_error is None else row.relative_error


def part_names(root: Folder | str | Path, space_id: str | None = None, device: str | None = None) -> list[str]:
    """List the parts below a root; folders of other spaces and devices are not looked into."""
    folder = Folder.at(root)
    return [
        f"{space}/{device_name}/{name}"
        for space in _partitions(folder, "space", space_id)
        for device_name in _partitions(folder.child(space), "device", device)
        for name in folder.child(space, device_name).list()
        if name.endswith(".parquet") and not name.startswith((".", "_"))
    ]


def _partitions(folder: Folder, key: str, value: str | None) -> list[str]:
    if value is not None:
        return [f"{key}={value}"]
    return [name for name in folder.list() if name.startswith(f"{key}=")]


def _each_part(
    root: Folder | str | Path,
    space_id: str | None,
    device: str | None,
    convert: Callable[[pa.Table], _T],
    columns: Sequence[str] | None,
) -> Iterator[_T]:
    folder = Folder.at(root)
    for name in part_names(folder, space_id, device):
        try:
            yield convert(_read_part(folder, name, columns))
        except FileNotFoundError:  # compacted by somebody else since it was listed
            logger.info("latency part %s/%s is gone", folder, name)
        except (pa.ArrowException, SpaceError, OSError, ValueError, TypeError) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            logger.warning("latency part %s/%s is skipped: %s", folder, name, lines[0])


def _read_part(folder: Folder, name: str, columns: Sequence[str] | None) -> pa.Table:
    """Read one part; raises ValueError when it is not what its name says."""
    with folder.file_system.open_input_file(folder.path(name)) as source, pq.ParquetFile(source) as file:
        reason = why_foreign(file.schema_arrow)
        if reason:
            raise ValueError(reason)
        wanted = None if columns is None else [*columns, "space_id", "device_slug"]
        table = file.read(columns=wanted)
    reason = why_invalid(table) or _why_misplaced(table, name)
    if reason:
        raise ValueError(reason)
    return table


def _why_misplaced(table: pa.Table, name: str) -> str | None:
    space, device = (part.partition("=")[2] for part in name.split("/")[:2])
    for column, value in (("space_id", space), ("device_slug", device)):
        found = set(table.column(column).unique().to_pylist())
        if found - {value}:
            return f"its {column} must be {value} as its folder says, got {sorted(found - {value})[0]}"
    return None


def _fill(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Bring a part's columns into the schema's order; what it lacks is null."""
    columns = [
        table.column(field.name) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)

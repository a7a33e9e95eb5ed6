"""The latency table: a Hive-partitioned Parquet data set that many writers and teams share.

    <root>/space=<space id>/device=<device slug>/part-<uuid>.parquet

Decisions
- A part appears whole or not at all, and none ever changes: writers need no lock and cannot hurt each other.
- `compact` moves the rows of many parts into few; what a reader gets stays the same, to the order of the rows.
- The same thing timed twice is kept twice in the files; reading resolves it to the better measurement, on columns.
- Reading brings the rows of a device and workload to one quiet level (`to_quiet_level`).
- The file repeats its partition's values under other names (`space_id`, `device_slug`), so that it still shows what it
  is when it is copied elsewhere, and so that the two do not clash in readers that add the partition's columns.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pyarrow as pa

from hat_ray.errors import SpaceError
from hat_ray.latency.table.best import BEST_COLUMNS, best_measurements
from hat_ray.latency.table.part_file import KeptParts, PartGoneError, read_part
from hat_ray.latency.table.parts import Spaces, list_parts, new_part_name, part_names, partition_values, partitions
from hat_ray.latency.table.quiet_level import CORRECTED_COLUMNS, LEVEL_COLUMNS, quiet_levels, to_quiet_level
from hat_ray.latency.table.row import SCHEMA, LatencyRow, from_table, to_table
from hat_ray.latency.table.scan import UNREADABLE, first_line, scan
from hat_ray.latency.timing.measurement import JUDGED
from hat_ray.latency.timing.workload import Workload
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder

__all__ = [
    "keep",
    "part_names",
    "partition_of",
    "read_table",
    "scan_at_quiet_level",
    "scan_table",
    "workloads_in",
    "write_rows",
]

_COLUMNS = SCHEMA.remove_metadata()
_LEVELS = pa.schema([_COLUMNS.field(name) for name in LEVEL_COLUMNS])
_FIGURES = tuple(name for name in _COLUMNS.names if not name.endswith("_samples_ms"))
_ROW_ERRORS = (SpaceError, ValueError, TypeError, LookupError)

logger = logging.getLogger(__name__)


def partition_of(row: LatencyRow) -> str:
    """Return the folder that a row stands in."""
    return f"space={row.space_id}/device={row.device.slug}"


def write_rows(root: Folder | str | Path, rows: Iterable[LatencyRow]) -> list[str]:
    """Append rows, one new part for each space and device; return the parts' names below the root."""
    groups: dict[str, list[LatencyRow]] = defaultdict(list)
    for row in rows:
        groups[partition_of(row)].append(row)
    names = [f"{partition}/{new_part_name()}" for partition in groups]
    for name, group in zip(names, groups.values(), strict=True):
        Folder.at(root).write_table(name, to_table(group))
    return names


def keep(root: Folder | str | Path) -> KeptParts:
    """Return a table to read several times: all its columns but the samples, each file opened once."""
    return KeptParts(Folder.at(root), _FIGURES)


def read_table(
    root: Folder | str | Path | KeptParts,
    space_id: Spaces = None,
    device: str | None = None,
    *,
    session_id: str | None = None,
    workload: Workload | None = None,
    every_measurement: bool = False,
) -> list[LatencyRow]:
    """Read rows, of one space, device (its slug), session or workload where given; empty when there are none.

    Of several rows with one `key` only the best is returned (see `resolve`), unless `every_measurement`; of a list of
    spaces also where they are of different ones. The order is
    stable: by the name of the part that a row was written in and its place there. A row takes a fifth of a millisecond:
    where columns are enough, `scan_table` is a thousand times faster. Rows of `keep` come without samples.
    """
    folder, kept = _of(root)
    schema = _COLUMNS if kept is None else pa.schema([_COLUMNS.field(name) for name in kept.columns])
    where = (asdict(workload) if workload else {}) | ({"session_id": session_id} if session_id is not None else {})
    places = partitions(folder, space_id, device)

    def rows(bad: Iterable[str] = ()) -> list[LatencyRow]:
        tables = scan_at_quiet_level(folder, places, schema, where, bad, kept)
        if not every_measurement:
            tables = _best(_joined(tables, places, space_id))
        return [row for table in tables for row in from_table(table)]

    try:
        return rows()
    except _ROW_ERRORS:  # rare, so found out only now: checking every row at every reading takes minutes
        return rows(_without_rows(folder, places))


def written_rows(
    root: Folder, space_id: Spaces, device: str, where: Mapping[str, object]
) -> dict[Architecture, LatencyRow]:
    """Return the best row of each architecture on a device as it was written, not brought to the quiet level.

    Such a row may be written again, with more in it: reading brings it to the level once.
    """
    places = partitions(root, space_id, device)
    tables = _best(_joined(scan(root, places, _COLUMNS, where), places, space_id))
    rows = (row for table in tables for row in from_table(table))
    return {row.architecture: row for row in rows if row.architecture is not None}


def _of(root: Folder | str | Path | KeptParts) -> tuple[Folder, KeptParts | None]:
    return (root.folder, root) if isinstance(root, KeptParts) else (Folder.at(root), None)


def scan_at_quiet_level(
    folder: Folder,
    places: list[str],
    schema: pa.Schema,
    where: Mapping[str, object],
    bad: Iterable[str] = (),
    kept: KeptParts | None = None,
) -> list[pa.Table]:
    """Scan partitions and bring their rows to one quiet level, which follows from all rows, beyond `where`."""
    if where and kept is None:
        kept = KeptParts(folder, dict.fromkeys([*schema.names, *_LEVELS.names, *where, *JUDGED]))
    tables = scan(folder, places, schema, where, bad, kept)
    levels = scan(folder, places, _LEVELS, bad=bad, kept=kept) if where else tables
    return [to_quiet_level(table, quiet_levels(level)) for table, level in zip(tables, levels, strict=True)]


def _best(tables: Iterable[pa.Table]) -> list[pa.Table]:
    return [table.take(best_measurements(table)) for table in tables]


def _joined(tables: list[pa.Table], places: list[str], spaces: Spaces) -> list[pa.Table]:
    """Join the tables of each device where spaces are named together: an architecture is the same one in each."""
    if spaces is None or isinstance(spaces, str):
        return tables
    by_device: dict[str, list[pa.Table]] = defaultdict(list)
    for table, place in zip(tables, places, strict=True):
        by_device[partition_values(place)[1]].append(table)
    return [pa.concat_tables(several) for several in by_device.values()]


def _without_rows(folder: Folder, places: list[str]) -> list[str]:
    """Name and return the parts with values that no row can be made of."""
    bad = []
    for name in (name for place in places for name in list_parts(folder, place)):
        try:
            table = read_part(folder, name, _COLUMNS).table
        except (PartGoneError, *UNREADABLE):  # the scan names it
            continue
        try:
            from_table(table)
        except _ROW_ERRORS as error:
            bad.append(name)
            logger.warning("latency part %s/%s is skipped: %s", folder, name, first_line(error))
    return bad


def scan_table(
    root: Folder | str | Path | KeptParts,
    space_id: Spaces = None,
    device: str | None = None,
    columns: Sequence[str] | None = None,
    *,
    where: Mapping[str, object] | None = None,
    best_only: bool = False,
) -> pa.Table:
    """Read columns (default: all) as one Arrow table, without making rows of it.

    `where` keeps the rows whose columns equal values (None: are null). Every measurement is returned, or of several of
    one thing only the best, as in `read_table`.
    """
    folder, kept = _of(root)
    names = list(_COLUMNS.names if columns is None else columns)
    corrected = any(name in CORRECTED_COLUMNS for name in names)
    needed = dict.fromkeys([*names, *(BEST_COLUMNS if best_only else ()), *(LEVEL_COLUMNS if corrected else ())])
    schema = pa.schema([_COLUMNS.field(name) for name in needed])
    places = partitions(folder, space_id, device)
    read = scan_at_quiet_level if corrected else scan
    tables = read(folder, places, schema, where or {}, kept=kept)
    if best_only:
        tables = _best(_joined(tables, places, space_id))
    return pa.concat_tables([schema.empty_table(), *tables]).select(names)


def workloads_in(root: Folder | str | Path | KeptParts, spaces: Spaces, device: str) -> list[dict[str, object]]:
    """Return the workloads of a device's rows, each in the form that `scan_table` takes as `where`; most rows first."""
    names = [field.name for field in fields(Workload)]
    groups = scan_table(root, spaces, device, names).group_by(names).aggregate([([], "count_all")])
    found: list[dict[str, object]] = groups.sort_by([("count_all", "descending")]).select(names).to_pylist()
    return found

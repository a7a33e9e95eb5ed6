"""Bring a board's part into a latency table.

Decisions
- A part is checked line by line, then its rows become one file of the table, but for those that the table has: a part
  that is imported twice counts once, and one that has grown since brings what is new.
- Ids and features are computed from the architectures: nothing that decides where a row belongs is taken on trust.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from hat_ray.core.codec import from_json
from hat_ray.errors import LatencyError
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.kit.part import SUFFIX, read_part
from hat_ray.latency.kit.plan import PLAN
from hat_ray.latency.table.exchange import Imported
from hat_ray.latency.table.parts import WRITTEN
from hat_ray.latency.table.row import LatencyRow, to_table
from hat_ray.latency.table.table import partition_of, scan_table
from hat_ray.latency.table.validate import IDENTITY
from hat_ray.latency.timing.measurement import require_measurements
from hat_ray.latency.timing.record import Record
from hat_ray.latency.timing.workload import Workload
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import hat_features
from hat_ray.storage.folder import Folder

_SPACE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REMEDY = "take a part that measure.py wrote"


@dataclass(frozen=True)
class _Header:
    """The first line of a part; `part.py` reads its other entries."""

    kit: str
    space_id: str
    workload: Workload
    device: DeviceInfo
    architectures: int


@dataclass(frozen=True)
class Brought:
    """Outcome of importing a part."""

    imported: Imported
    device: str
    """The id of the device, by which recipes name it."""
    rows: int
    """Architectures that the part has rows of."""
    planned: int
    """Architectures of the kit."""


def is_part(source: str) -> bool:
    """Return whether a source is a part, or a kit's folder with its parts."""
    return source.endswith(SUFFIX) or (Path(source) / PLAN).is_file()


def parts_in(source: str) -> list[Path]:
    """Return the parts that a source means: itself, or those of a kit's folder; raises LatencyError for none."""
    place = Path(source)
    if not place.is_dir():
        return [place]
    found = sorted(place.glob(f"*{SUFFIX}"))
    if not found:
        raise LatencyError(f"{source} is a timing kit without rows: run its measure.py on the board first")
    return found


def import_part(root: Folder | str | Path, path: str | Path, space_id: str = "", device: str | None = None) -> Brought:
    """Import a board's part into a table, where it is of the space and device that are given.

    Raises LatencyError, in one line, where it is no part, was changed, or holds a row that is no measurement.
    """
    content = read_part(path)
    header = from_json(_Header, _known(content.header, _Header), f"{path}, line 1,", _REMEDY)
    slug = header.device.slug
    if not _SPACE.fullmatch(header.space_id):
        raise LatencyError(f"{path} names a space that is none, {header.space_id!r:.80}: {_REMEDY}")
    if (space_id and space_id != header.space_id) or (device and device != slug):
        raise LatencyError(f"{path} is of space {header.space_id} and device {slug}: leave --space and --device out")
    if not content.rows:
        raise LatencyError(f"{path} has no rows yet: run measure.py on the board first")
    rows = [_row(header, row, f"{path}, architecture {name},") for name, row in content.rows.items()]
    table = to_table(rows)
    try:
        require_measurements(table)
    except ValueError as error:  # of a row's numbers
        raise LatencyError(f"{path}: {error}: {_REMEDY}") from error
    folder, place = Folder.at(root), partition_of(rows[0])
    name = f"{WRITTEN}{content.seal[:32]}.parquet"
    fresh = _without_known(folder, header.space_id, slug, table)
    if not len(fresh):
        return Brought(Imported(0, 0, 1), slug, len(rows), header.architectures)
    folder.write_table(f"{place}/{name}", fresh)
    return Brought(Imported(1, len(fresh), 0), slug, len(rows), header.architectures)


def _without_known(folder: Folder, space_id: str, slug: str, table: pa.Table) -> pa.Table:
    """Return the rows that a latency table does not have."""
    columns = list(IDENTITY)
    there = scan_table(folder, space_id, slug, columns).to_pylist()
    known = {tuple(row[name] for name in columns) for row in there}
    own = table.select(columns).to_pylist()
    return table.filter([tuple(row[name] for name in columns) not in known for row in own])


def _row(header: _Header, row: Mapping[str, Any], source: str) -> LatencyRow:
    architecture = Architecture.from_dict(row["architecture"] if isinstance(row.get("architecture"), dict) else {})
    record = from_json(Record, row.get("record"), source, _REMEDY)
    measured: dict[str, Any] = {one.name: getattr(record, one.name) for one in fields(record)}
    return LatencyRow(
        space_id=header.space_id,
        architecture=architecture,
        hat_features=tuple(hat_features([architecture])[0].tolist()),
        workload=header.workload,
        device=header.device,
        **measured,
    )


def _known(value: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    return {one.name: value[one.name] for one in fields(kind) if one.name in value}

"""Many small files of a latency table to few, while others write, read and compact it.

The life of a compaction, in each partition: choose parts, read them, write their rows as one compacted part (aside,
then renamed), read its footer back, and only then delete what it holds. Why no kill and no second compactor can hurt:
- a file is deleted only where one other file that stands holds every written part of it and more, so the files that
  hold a part always include a largest one, which nobody deletes;
- a written part that stands in two files is read from one of them (see `parts`).

Decisions
- A part is rewritten only when the files that join it are at least a tenth of it: hourly compaction costs little.
- Columns that this hat-ray does not know are kept.
- Damaged, foreign and newer files, and those with rows that are no measurements, are left alone: `validate` names them.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import SpaceError
from hat_ray.latency.table.part_file import Lineage, PartGoneError, PartRows, footer, read_part, require_architectures
from hat_ray.latency.table.parts import compacted_name, divide, is_compacted, list_parts, partitions
from hat_ray.latency.table.row import SCHEMA, SCHEMA_VERSION_KEY
from hat_ray.latency.table.scan import UNREADABLE, first_line, in_order, in_parallel, readable_lineages
from hat_ray.latency.timing.measurement import require_measurements
from hat_ray.storage.folder import Folder

logger = logging.getLogger(__name__)

MOST_ROWS = 2_000_000
"""Parts with more rows are not joined any further: a compaction holds them in memory."""

MOST_FILES = 1_000
"""Files that become one at once: joined files are soon written and deleted, also while many write."""

GROWTH = 10
"""A part joins smaller ones whose rows are at least this fraction of its own: one tenth."""

SMALL_ROWS = 50_000
"""Parts this small join whatever there is."""

ROW_GROUP_ROWS = 65_536
"""Rows that a filter reads or leaves out at once."""

LEFTOVER_AGE = timedelta(hours=24)
"""A temporary file this old was left by a writer that was killed: no write takes as long."""


@dataclass(frozen=True)
class Compaction:
    """Outcome of one compaction."""

    files_before: int
    files_after: int
    rows_moved: int
    leftovers: int
    """Temporary files of killed writers that were deleted."""
    left_alone: int
    """Files that cannot be read, are newer than this hat-ray, or have rows that are no measurements."""


def compact(
    root: Folder | str | Path,
    space_id: str | None = None,
    device: str | None = None,
    *,
    leftover_age: timedelta = LEFTOVER_AGE,
    progress: Progress = no_progress,
) -> Compaction:
    """Join small parts; reading gives what it gave before. Safe to kill, and to run while others do anything.

    Raises NotFoundError when there is no such table. When a file cannot be read or written it raises a StorageError,
    and nothing was deleted whose rows do not stand elsewhere.
    """
    folder = Folder.at(root)
    folder.require()
    places = partitions(folder, space_id, device)
    done = []
    for i, place in enumerate(places, 1):
        done.append(_compact_partition(folder, place, leftover_age))
        progress(i, len(places), {"files": float(sum(each.files_after for each in done))})
    totals = zip(*((d.files_before, d.files_after, d.rows_moved, d.leftovers, d.left_alone) for d in done), strict=True)
    return Compaction(*(sum(total) for total in totals)) if done else Compaction(0, 0, 0, 0, 0)


def _compact_partition(folder: Folder, place: str, leftover_age: timedelta) -> Compaction:
    names = list_parts(folder, place)
    readable = readable_lineages(folder, names)
    files = _without_held(folder, readable)  # what a compaction that was killed had no time to delete
    moved, alone = 0, {name for name in names if name not in readable}
    for group in _groups({name: files[name] for name in divide(files)}):
        joined = _join(folder, place, group, alone)
        if joined is not None:
            name, lineage = joined
            moved += sum(lineage.values())
            files = _without_held(folder, {**files, name: lineage})
    leftovers = _delete_leftovers(folder, place, leftover_age)
    return Compaction(len(names), len(list_parts(folder, place)), moved, leftovers, len(alone))


def _groups(files: dict[str, Lineage]) -> list[dict[str, Lineage]]:
    """Choose which parts become one: small ones, and larger ones while what joins them is worth it."""
    groups: list[dict[str, Lineage]] = [{}]
    rows = 0
    for name, lineage in sorted(files.items(), key=lambda file: (sum(file[1].values()), file[0])):
        more = sum(lineage.values())
        full = rows + more > MOST_ROWS or len(groups[-1]) >= MOST_FILES
        if full or more > max(SMALL_ROWS, GROWTH * rows):
            groups.append({})
            rows = 0
        groups[-1][name] = lineage
        rows += more
    return [group for group in groups if len(group) > 1]


def _join(folder: Folder, place: str, files: dict[str, Lineage], alone: set[str]) -> tuple[str, Lineage] | None:
    """Write one part with the rows of others; return its name and content. Files left alone are added to `alone`."""
    parts = _load(folder, divide(files), alone)
    lineage = dict(sorted(item for part in parts for item in _lineage(part).items()))
    name = f"{place}/{compacted_name(lineage)}"
    if len(lineage) < 2:
        return None
    if folder.exists(name) and readable_lineages(folder, [name]):  # another compaction was faster
        return name, lineage
    try:
        table = in_order(parts)
    except (pa.ArrowException, TypeError) as error:  # two writers gave one unknown column two types
        logger.warning("latency parts of %s/%s do not fit together: %s", folder, place, first_line(error))
        return None
    table = SCHEMA.empty_table() if table is None else table
    newest = max((part.table.schema.metadata[SCHEMA_VERSION_KEY] for part in parts), key=int)
    table = table.replace_schema_metadata({**SCHEMA.metadata, SCHEMA_VERSION_KEY: newest})
    with folder.writing(name) as sink, pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        writer.add_key_value_metadata(footer(lineage))
    return name, lineage


def _load(folder: Folder, chosen: dict[str, frozenset[str]], alone: set[str]) -> list[PartRows]:
    """Read whole parts; leave out those that cannot be read, that no row can be made of, and that have gone.

    All of these but the last are added to `alone`.
    """

    def load(name: str) -> PartRows | None:
        try:
            part = read_part(folder, name, without=chosen[name])
            require_measurements(part.table)
            if not is_compacted(name):  # compacted parts were checked before
                require_architectures(part.table)
            return part
        except PartGoneError:
            return None
        except (SpaceError, *UNREADABLE) as error:
            logger.warning("latency part %s/%s is left alone: %s", folder, name, first_line(error))
            alone.add(name)
            return None

    return [part for part in in_parallel(load, list(chosen)) if part is not None]


def _lineage(part: PartRows) -> Lineage:
    """Return the written parts that a part's rows come from."""
    counts = np.bincount(part.marks, minlength=len(part.written)).tolist()
    return {name: rows for name, rows in zip(part.written, counts, strict=True) if rows}


def _without_held(folder: Folder, files: dict[str, Lineage]) -> dict[str, Lineage]:
    """Delete each part that one other holds whole, with more, once that one was read to its end; return the others."""
    held = {name: frozenset(lineage) for name, lineage in files.items()}
    for holder in sorted(filter(is_compacted, files), key=lambda name: -len(files[name])):
        inside = [name for name in held if holder in held and held[name] < held[holder]]
        if inside and _is_sound(folder, holder):
            in_parallel(folder.delete, inside)
            for name in inside:
                del held[name]
    return {name: files[name] for name in held}


def _is_sound(folder: Folder, name: str) -> bool:
    try:
        read_part(folder, name)
    except PartGoneError:
        return False
    except UNREADABLE as error:
        logger.warning("latency part %s/%s is left alone: %s", folder, name, first_line(error))
        return False
    return True


def _delete_leftovers(folder: Folder, place: str, age: timedelta) -> int:
    """Delete old temporary files; return how many. A writer whose file is deleted reports that; it had been silent for
    longer than that age."""
    oldest = datetime.now(UTC) - age
    old = [
        f"{place}/{info.base_name}"
        for info in folder.child(place).entries()
        if info.type == pafs.FileType.File and info.mtime and info.mtime < oldest
        if info.base_name.startswith(".part") and info.base_name.endswith(".tmp")
    ]
    in_parallel(folder.delete, old)
    return len(old)

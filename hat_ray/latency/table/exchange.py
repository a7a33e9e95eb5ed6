"""Import into a latency table and export out of it: HAT's CSV files, and other latency tables.

Decisions
- A file that is imported twice counts once, also when two people import it at the same time: a CSV file becomes a part
  whose name is a hash of its numbers and their description, and another table's parts keep their names.
- A part is copied byte for byte, after every row of it was checked; parts that the table has, compacted or not, are
  not.
- Of a file with one row that is no measurement nothing is taken: who made one such row may have made others.
- CSV files hold numbers only, and a file's name is that of an imported one only where it is a plain name: nothing that
  a spreadsheet would execute, and no path, comes out of a table.
"""

import hashlib
import logging
import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import LatencyError, NotFoundError, SpaceError
from hat_ray.latency.device import DeviceInfo, slugify
from hat_ray.latency.table.hat_csv import export_hat_csv, import_hat_csv
from hat_ray.latency.table.part_file import PartGoneError, read_part, require_architectures
from hat_ray.latency.table.parts import WRITTEN, list_parts, partitions
from hat_ray.latency.table.row import LatencyRow, to_table
from hat_ray.latency.table.scan import UNREADABLE, first_line, readable_lineages
from hat_ray.latency.table.table import partition_of, read_table
from hat_ray.latency.timing.measurement import require_measurements
from hat_ray.latency.timing.workload import Workload
from hat_ray.storage.folder import Folder

logger = logging.getLogger(__name__)

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .+-]{0,199}\.csv", re.ASCII | re.IGNORECASE)
_ROUNDS = 10
"""Times that another table is listed again because it is being compacted."""


@dataclass(frozen=True)
class Imported:
    """Outcome of one import."""

    files: int
    rows: int
    known: int
    """Files that the table had already."""
    skipped: tuple[str, ...] = ()
    """Files that cannot be read, or have rows that cannot be made; each was named in a warning."""


def import_csv(
    root: Folder | str | Path, path: str | Path, *, space_id: str, device: DeviceInfo, workload: Workload
) -> Imported:
    """Import a CSV file of HAT's into a table; raises LatencyError naming file and line when it is not one."""
    rows = import_hat_csv(path, space_id=space_id, device=device, workload=workload)
    if not rows:
        raise LatencyError(f"{path} has no rows below its header")
    told = repr((export_hat_csv(rows), space_id, asdict(device), asdict(workload)))
    name = f"{WRITTEN}{hashlib.sha256(told.encode()).hexdigest()[:32]}.parquet"
    folder, place = Folder.at(root), partition_of(rows[0])
    if name in _written(folder, place):
        return Imported(0, 0, 1)
    folder.write_table(f"{place}/{name}", to_table(rows))
    return Imported(1, len(rows), 0)


def import_table(
    root: Folder | str | Path,
    source: Folder | str | Path,
    space_id: str | None = None,
    device: str | None = None,
    progress: Progress = no_progress,
) -> Imported:
    """Copy another table's parts, of one space or device where given; after a kill the same call resumes."""
    folder, other = Folder.at(root), Folder.at(source)
    other.require()
    places = partitions(other, space_id, device)
    if not any(list_parts(other, place) for place in places):
        raise LatencyError(
            f"{other} holds no latency rows to import: name the root of a latency table, or a CSV file of HAT's"
        )
    done = []
    for i, place in enumerate(places, 1):
        done.append(_import_partition(folder, other, place))
        progress(i, len(places), {"rows": float(sum(each.rows for each in done))})
    return Imported(
        sum(each.files for each in done),
        sum(each.rows for each in done),
        sum(each.known for each in done),
        tuple(name for each in done for name in each.skipped),
    )


def _import_partition(folder: Folder, other: Folder, place: str) -> Imported:
    have = _written(folder, place)
    seen: set[str] = set()
    files = rows = known = 0
    skipped = []
    for _ in range(_ROUNDS):
        new = [name for name in list_parts(other, place) if name not in seen]
        lineages = readable_lineages(other, new)
        for name in sorted(new, key=lambda name: -len(lineages.get(name, ()))):
            seen.add(name)
            if name in lineages and lineages[name].keys() <= have:
                known += 1
                continue
            try:
                copied = _copy(folder, other, name)
            except PartGoneError:
                continue
            except (SpaceError, *UNREADABLE) as error:
                logger.warning("latency part %s/%s is skipped: %s", other, name, first_line(error))
                skipped.append(name)
                continue
            files, rows, have = files + 1, rows + copied, have | lineages.get(name, {}).keys()
        if not new:
            break
    return Imported(files, rows, known, tuple(skipped))


def _copy(folder: Folder, other: Folder, name: str) -> int:
    """Copy one part whose rows are sound; return how many it has."""
    try:
        content = other.read_bytes(name)
    except NotFoundError as error:
        raise PartGoneError(name) from error
    table = read_part(other, name, content=content).table
    require_measurements(table)
    require_architectures(table)
    folder.write_bytes(name, content)
    return len(table)


def _written(folder: Folder, place: str) -> set[str]:
    """Return the written parts that a partition holds, in whatever files."""
    lineages = readable_lineages(folder, list_parts(folder, place))
    return {written for lineage in lineages.values() for written in lineage}


def export_csvs(
    root: Folder | str | Path, out: Folder | str | Path, space_id: str | None = None, device: str | None = None
) -> dict[str, int]:
    """Write HAT's CSV files, one for each imported file and for each device and workload; return names and rows.

    A file that was imported comes out unchanged. Measured rows give the means and deviations of their repetitions, of
    each architecture the best measurement.
    """
    Folder.at(root).require()
    groups: dict[tuple[str, ...], list[LatencyRow]] = defaultdict(list)
    for row in read_table(root, space_id, device):
        groups[row.space_id, row.device.slug, row.origin.source, repr(row.workload)].append(row)
    if not groups:
        raise LatencyError(f"{Folder.at(root)} holds no latency rows to export")
    written: dict[str, int] = {}
    for group in groups.values():
        name = _csv_name(group[0], set(written))
        Folder.at(out).write_text(name, export_hat_csv(group))
        written[name] = len(group)
    return written


def _csv_name(row: LatencyRow, taken: set[str]) -> str:
    """Return the imported file's name, or one of space and device; made longer until it is free."""
    names = [f"{row.space_id}-{row.device.slug}.csv"]
    if _PLAIN_NAME.fullmatch(row.origin.source):
        names = [row.origin.source, f"{row.origin.source.removesuffix('.csv')}-{names[0]}"]
    settings = slugify("-".join(f"{key} {value}" for key, value in asdict(row.workload).items() if value is not None))
    names.append(f"{names[-1].removesuffix('.csv')}-{settings}.csv")
    return next(name for name in names if name not in taken)

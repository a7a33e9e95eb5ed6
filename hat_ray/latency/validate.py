"""Check a latency table: every file, and every rule that a row must keep (`rules`). Nothing is changed."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from hat_ray.latency.part_file import PartGoneError, read_part
from hat_ray.latency.parts import is_part, list_parts
from hat_ray.latency.resolve import KEY_COLUMNS
from hat_ray.latency.rules import broken_rules
from hat_ray.latency.scan import UNREADABLE, first_line, scan
from hat_ray.latency.schema import SCHEMA
from hat_ray.progress import Progress, silent
from hat_ray.storage import Folder

_IDENTITY = (*KEY_COLUMNS, "host", "session_id", "utc_time", "latency_ms")


@dataclass(frozen=True)
class Finding:
    """Something wrong: a file, or rows of it that break one rule."""

    file: str
    rule: str
    rows: tuple[int, ...] = ()
    """The rows that break it, counted from 0 in the file; empty: the file as a whole."""


@dataclass(frozen=True)
class Validation:
    """What was looked at, and what is wrong."""

    files: int
    rows: int
    leftovers: int
    """Temporary files of writers that were killed or still write: readers pass over them, `compact` deletes old ones.
    """
    findings: tuple[Finding, ...]


def validate(root: Folder | str | Path, progress: Progress = silent) -> Validation:
    """Check a lake; what is compacted away meanwhile is checked where it went."""
    folder = Folder.at(root)
    names, strangers, leftovers = _walk(folder)
    findings = [Finding(name, "a part must stand in space=<id>/device=<slug>/") for name in strangers]
    places = sorted({name.rpartition("/")[0] for name in names})
    rows, seen = 0, set[str]()
    for place in places:
        while new := [name for name in list_parts(folder, place) if name not in seen]:
            for name in new:
                seen.add(name)
                count, wrong = _check(folder, name)
                findings += wrong
                rows += count
                progress(len(seen), max(len(names), len(seen)), {"rows": float(rows), "wrong": float(len(findings))})
        findings += _doubles(folder, place)
    return Validation(len(seen) + len(strangers), rows, leftovers, tuple(findings))


def _check(folder: Folder, name: str) -> tuple[int, list[Finding]]:
    """Return how many rows a file has, and what is wrong with it."""
    try:
        table = read_part(folder, name).table
    except PartGoneError:
        return 0, []
    except UNREADABLE as error:
        return 0, [Finding(name, first_line(error))]
    return len(table), [Finding(name, rule, tuple(rows)) for rule, rows in broken_rules(table).items()]


def _walk(folder: Folder) -> tuple[list[str], list[str], int]:
    """Return the parts, the Parquet files that stand elsewhere, and how many temporary files there are."""
    files = [info for info in folder.entries(recursive=True) if info.type == pafs.FileType.File]
    names = sorted(info.path[len(folder.root) :].lstrip("/") for info in files)
    parts = [name for name in names if is_part(name.rpartition("/")[2])]
    inside = [name for name in parts if _is_in_place(name)]
    leftovers = sum(name.rpartition("/")[2].startswith(".") and name.endswith(".tmp") for name in names)
    return inside, [name for name in parts if not _is_in_place(name)], leftovers


def _is_in_place(name: str) -> bool:
    space, _, rest = name.partition("/")
    device, _, base = rest.partition("/")
    return space.startswith("space=") and device.startswith("device=") and "/" not in base and bool(base)


def _doubles(folder: Folder, place: str) -> list[Finding]:
    """Find measurements that stand twice, such as in a part that was copied under another name."""
    schema = pa.schema([SCHEMA.field(name) for name in _IDENTITY])
    frame = scan(folder, [place], schema)[0].to_pandas()
    count = int(frame.duplicated().sum())
    return [Finding(place, f"each measurement must stand once, got {count} again")] if count else []

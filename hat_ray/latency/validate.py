"""Check a latency table: every file, and every rule that a row must keep (`rules`). Nothing is changed."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from hat_ray.latency.listing import look
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
    folder.require()
    walk = _walk(folder)
    names, findings = walk.parts, walk.findings
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
    return Validation(len(seen) + walk.strangers, rows, walk.leftovers, tuple(findings))


def _check(folder: Folder, name: str) -> tuple[int, list[Finding]]:
    """Return how many rows a file has, and what is wrong with it."""
    try:
        table = read_part(folder, name).table
    except PartGoneError:
        return 0, []
    except UNREADABLE as error:
        return 0, [Finding(name, first_line(error))]
    return len(table), [Finding(name, rule, tuple(rows)) for rule, rows in broken_rules(table).items()]


@dataclass
class _Walk:
    """What stands anywhere below a lake's root."""

    parts: list[str] = field(default_factory=list)
    leftovers: int = 0
    findings: list[Finding] = field(default_factory=list)
    strangers: int = 0


def _walk(folder: Folder) -> _Walk:
    """Look everywhere once, however links lead back, and open nothing."""
    walk, todo, been = _Walk(), [""], set[str]()
    while todo:
        above = todo.pop()
        place = folder.child(above) if above else folder
        real = os.path.realpath(place.root) if place.is_local else place.root
        if real in been:
            walk.findings.append(Finding(above, "each folder must stand once, got a link that leads back"))
            continue
        been.add(real)
        seen = look(place)
        names = {name: f"{above}/{name}" if above else name for name in (*seen.files, *seen.folders)}
        todo += [names[name] for name in reversed(seen.folders)]
        for name, kind in (seen.others or {}).items():
            walk.findings.append(Finding(f"{above}/{name}".lstrip("/"), f"a table holds plain files, got {kind}"))
        for name in filter(is_part, seen.folders):
            walk.findings.append(Finding(names[name], "a part must be a plain file, got a folder"))
        for name in seen.files:
            _note(walk, names[name])
    return walk


def _note(walk: _Walk, name: str) -> None:
    above, _, base = name.rpartition("/")
    if is_part(base) and _is_in_place(name):
        walk.parts.append(name)
    elif is_part(base):
        walk.strangers += 1
        walk.findings.append(Finding(name, "a part must stand in space=<id>/device=<slug>/"))
    elif base.startswith(("space=", "device=")[above.count("=") : above.count("=") + 1]):
        walk.findings.append(Finding(name, "a folder must stand here, got a file"))
    walk.leftovers += base.startswith(".") and base.endswith(".tmp")


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

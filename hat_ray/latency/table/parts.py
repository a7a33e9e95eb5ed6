"""The files of a latency table: their names, which of them count, and how one of them is read.

    part-<uuid>.parquet     what one writer appended at once; the uuid starts with the time, so names sort by it
    parts-<hash>.parquet    a compacted part: the rows of several written parts, in the order of their names

Decisions
- A compacted part names in its footer the written parts that it holds, and the rows of each. So no row is ever read
  twice, however compactions, copies of tables and kills overlap: each written part is read from one file only.
- Its name is a hash of theirs: two compactors that do the same work write the same file.
- A listing is not a snapshot: a part that moves into a compacted one while the folder is listed can be missed in both.
  Only what a second look confirms is believed.
- A FIFO, a device, a socket, a link that leads nowhere or back to itself is reported by its kind, and never opened: it
  may never begin or never end.
"""

import errno
import hashlib
import logging
import os
import stat
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs as pafs

from hat_ray.storage.folder import Folder
from hat_ray.storage.patience import patiently
from hat_ray.storage.plain_file import kind_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """The names directly inside a folder, sorted."""

    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    others: Mapping[str, str] | None = None
    """Entries that are neither, with their kind in words."""

    def warn(self, place: Folder) -> None:
        """Log the entries that readers pass over."""
        for name, kind in (self.others or {}).items():
            logger.warning("%s/%s is passed over: it is %s, no plain file", place, name, kind)


def look(place: Folder) -> Listing:
    """List a folder without opening anything in it; a folder that does not exist is empty."""
    kinds = (
        patiently(lambda: _kinds(place.root), place.uri, remote=False) if place.is_local else _kinds_elsewhere(place)
    )
    files = sorted(name for name, kind in kinds.items() if kind is None)
    folders = sorted(name for name, kind in kinds.items() if kind == _FOLDER)
    others = {name: kind for name, kind in sorted(kinds.items()) if kind not in (None, _FOLDER)}
    return Listing(tuple(files), tuple(folders), {name: kind for name, kind in others.items() if kind})


_FOLDER = "a folder"


def _kinds(root: str) -> dict[str, str | None]:
    """Return the kind of each entry of a local folder; None: a plain file."""
    kinds: dict[str, str | None] = {}
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                kind = _kind(entry)
                if kind != "gone":
                    kinds[entry.name] = kind
    except FileNotFoundError:
        return {}
    return kinds


def _kind(entry: "os.DirEntry[str]") -> str | None:
    if entry.is_file(follow_symlinks=False):
        return None
    try:
        mode = entry.stat().st_mode
    except FileNotFoundError:
        return "a link that leads nowhere" if entry.is_symlink() else "gone"
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EACCES, errno.ENOTDIR):
            raise
        return "a link that leads back to itself" if error.errno == errno.ELOOP else "a link that may not be followed"
    return _FOLDER if stat.S_ISDIR(mode) else kind_of(mode)


def _kinds_elsewhere(place: Folder) -> dict[str, str | None]:
    words = {pafs.FileType.File: None, pafs.FileType.Directory: _FOLDER}
    return {info.base_name: words.get(info.type, "neither a file nor a folder") for info in place.entries()}


WRITTEN, COMPACTED = "part-", "parts-"
LOOKS = 50
"""Listings of a folder at most, before it counts as compacted without end."""


def new_part_name() -> str:
    """Return a name for a part to be written: a version 7 uuid, whose first 48 bits are the time in milliseconds."""
    bits = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    bits = bits & ~(0xF << 76) & ~(0x3 << 62) | 7 << 76 | 2 << 62
    return f"{WRITTEN}{uuid.UUID(int=bits).hex}.parquet"


def compacted_name(written: Iterable[str]) -> str:
    """Return the name of the compacted part that holds these written parts."""
    return f"{COMPACTED}{hashlib.sha256(' '.join(sorted(written)).encode()).hexdigest()[:32]}.parquet"


def is_part(name: str) -> bool:
    return name.endswith(".parquet") and not name.startswith((".", "_"))


def is_compacted(name: str) -> bool:
    return name.rpartition("/")[2].startswith(COMPACTED)


Spaces = str | Sequence[str] | None
"""Ids of spaces: one, several, or None for all."""


def partitions(root: Folder | str | Path, spaces: Spaces = None, device: str | None = None) -> list[str]:
    """List the folders of a table that hold parts; folders of other spaces and devices are not opened.

    An entry that is no folder is named in a warning and passed over. A table that does not exist is empty, a bucket
    that does not exist is a NotFoundError.
    """
    folder = Folder.at(root)
    return [
        f"{space}/{device_name}"
        for wanted in ((spaces,) if spaces is None or isinstance(spaces, str) else spaces)
        for space in _values(folder, "space", wanted)
        for device_name in _values(folder.child(space), "device", device)
    ]


def partition_values(place: str) -> tuple[str, str]:
    """Return the space and the device that a partition, or a part's name, stands for."""
    space, device = (folder.partition("=")[2] for folder in place.split("/")[:2])
    return space, device


def part_names(root: Folder | str | Path, space_id: str | None = None, device: str | None = None) -> list[str]:
    """List the parts below a root, compacted ones and those that they replace included."""
    folder = Folder.at(root)
    return [name for place in partitions(folder, space_id, device) for name in list_parts(folder, place)]


def list_parts(folder: Folder, partition: str) -> list[str]:
    """List one partition's parts; no row that is there throughout is missed, also during a compaction."""
    place = folder.child(partition)
    names = [name for name in look(place).files if is_part(name)]
    for _ in range(LOOKS):
        seen = look(place)
        again = [name for name in seen.files if is_part(name)]
        # what vanished during the first look stands in a compacted part that the second one sees
        if all(name in names for name in again if is_compacted(name)):
            break
        names = again
    seen.warn(place)
    for name in filter(is_part, seen.folders):
        logger.warning("%s/%s is passed over: it is a folder, no part", place, name)
    return [f"{partition}/{name}" for name in names]


def divide(lineages: Mapping[str, Iterable[str]]) -> dict[str, frozenset[str]]:
    """Choose the files to read: each with the written parts in it that are read from another file."""
    held = {name: frozenset(written) for name, written in lineages.items()}
    chosen: dict[str, frozenset[str]] = {}
    seen: set[str] = set()
    for name in sorted(held, key=lambda name: (-len(held[name]), name)):
        double = held[name] & seen
        if len(double) < len(held[name]):
            chosen[name] = double
            seen |= held[name]
    return chosen


def _values(folder: Folder, key: str, value: str | None) -> list[str]:
    if value is not None and not folder.is_local:  # an object store has no folder that could be something else
        return [f"{key}={value}"]
    seen = look(folder)
    seen.warn(folder)
    for name in seen.files:
        if name.startswith(f"{key}="):
            logger.warning("%s/%s is passed over: a file stands where a folder should be", folder, name)
    return [name for name in seen.folders if name.startswith(f"{key}=") and value in (None, name[len(key) + 1 :])]

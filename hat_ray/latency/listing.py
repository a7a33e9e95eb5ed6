"""What stands in one folder of a latency table: plain files, folders, and what a reader must not open.

A FIFO, a device, a socket, a link that leads nowhere or back to itself is told by its kind, and never opened: it may
never begin or never end.
"""

import errno
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.fs as pafs

from hat_ray.patience import patiently
from hat_ray.plain_file import kind_of
from hat_ray.storage import Folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """The names directly inside a folder, sorted."""

    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    others: Mapping[str, str] | None = None
    """What is neither, and what it is in words."""

    def warn(self, place: Folder) -> None:
        """Name what readers pass over."""
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
    """Return what each entry of a local folder is; None: a plain file."""
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

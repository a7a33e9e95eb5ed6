"""Temporary folders of this machine that outlive no killed process: the next one removes what a killed one left.

Decisions
- The process that makes a folder holds a lock on it, which the system releases however the process ends. A folder is
  removed only where it has our name and our mark, belongs to this user and nobody holds its lock.
- Where locks do not work (some network file systems) nothing of others is removed.
"""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = ".hat-ray-temporary"
"""An empty file in each of these folders."""


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """Make a folder named after its purpose, hand it out, and delete it; first delete those of killed processes."""
    prefix = f"hat-ray-{purpose}-"
    _remove_abandoned(Path(tempfile.gettempdir()), prefix)
    folder, lock = _make(prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make(prefix: str) -> tuple[Path, int]:
    """Make a folder and hold its lock; another process may remove it before it is locked, so look again."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        lock = os.open(folder, os.O_RDONLY)
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            (folder / MARK).touch()
            return folder, lock
        os.close(lock)


def _remove_abandoned(place: Path, prefix: str) -> None:
    """Delete the folders of killed processes; one that holds nothing yet is deleted only while it stays empty."""
    for folder in place.glob(f"{prefix}*"):
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid != os.getuid():
                    continue
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_marked(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                else:
                    folder.rmdir()
            finally:
                os.close(lock)


def _is_marked(folder: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(folder / MARK).st_mode)
    except FileNotFoundError:
        return False

"""Abilities of local disks alone: flush a file to the disk itself, and give a name to one of many."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tempfile import SpooledTemporaryFile


def missing_folders(folder: Path) -> list[Path]:
    """Return the parents of the folders on a path that do not exist yet, and so will get a new entry."""
    return [one.parent for one in (folder, *folder.parents) if not one.exists()]


def sync(path: str | Path) -> None:
    """Bring a local file or the entries of a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def create(target: Path, content: bytes) -> bool:
    """Write a file, whole, where none of this name stands; return False where one does. One of many wins."""
    new = missing_folders(target.parent)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(aside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        made = _link(aside, target)
    finally:
        aside.unlink(missing_ok=True)
    for folder in (target.parent, *new):
        sync(folder)
    return made


@contextmanager
def content_of(file: "SpooledTemporaryFile[bytes]", in_memory: int) -> Iterator[bytes | mmap]:
    """Hand out what was written to a temporary file; mapped when it is larger than what is kept in memory."""
    size = file.seek(0, os.SEEK_END)
    if size <= in_memory:
        file.seek(0)
        yield file.read()
    else:
        file.flush()
        with mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            yield mapped


def _link(aside: Path, target: Path) -> bool:
    """Give a file a second name, if that is free: one atomic step, also on shared file systems."""
    try:
        os.link(aside, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        try:  # no hard links here (exFAT, some shares): the name is taken first, and the content follows
            with open(target, "xb") as file:
                file.write(aside.read_bytes())
        except FileExistsError:
            return False
    return True

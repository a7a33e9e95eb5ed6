"""Steps on PyArrow's file systems that a `Folder` is made of."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from hat_ray.errors import DamagedError, HatRayError
from hat_ray.storage.plain_file import kind_of

Result = TypeVar("Result")
_TRIES = 10  # of what another process disturbs


def open_uri(uri: str) -> tuple[pafs.FileSystem, str]:
    """Open a URI; small files go to S3 in one request instead of three, where PyArrow (from 21 on) knows how."""
    wishes = ["&allow_delayed_open=true"] if uri.startswith("s3://") and "allow_delayed_open" not in uri else []
    for wish in [*wishes, ""]:
        try:
            file_system, path = pafs.FileSystem.from_uri(uri + (wish if "?" in uri else wish.replace("&", "?")))
            return file_system, path
        except pa.ArrowInvalid:
            if not wish:
                raise
    raise AssertionError(uri)


def relative_name(name: str) -> str:
    """Return a name in its plain spelling; refuse one that is not strictly inside a folder."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\\" in name or "\0" in name:
        raise HatRayError(f"a file name must stay inside its folder, got {name!r}")
    return str(pure)


def open_stream(file_system: pafs.FileSystem, path: str) -> pa.NativeFile:
    """Open a plain file to be read from its beginning."""
    _require_plain(file_system, path)
    return file_system.open_input_stream(path, compression=None)


def open_file(file_system: pafs.FileSystem, path: str) -> pa.NativeFile:
    """Open a plain file to be read in any order."""
    _require_plain(file_system, path)
    return file_system.open_input_file(path)


def _require_plain(file_system: pafs.FileSystem, path: str) -> None:
    """Raise DamagedError for a FIFO, device or socket: opening one may wait for ever, and no signal ends that."""
    if file_system.type_name != "local":
        return
    with suppress(OSError):  # of a file that is not there: opening it raises
        if (kind := kind_of(os.stat(path).st_mode)) and not os.path.isdir(path):
            raise DamagedError(f"{path} is {kind}, where a plain file should be: delete it, or restore the file")


def delete(file_system: pafs.FileSystem, target: str) -> None:
    kind = file_system.get_file_info(target).type
    if kind == pafs.FileType.Directory:
        file_system.delete_dir(target)
    elif kind != pafs.FileType.NotFound:
        file_system.delete_file(target)


def undisturbed(action: Callable[[], Result]) -> Result:
    """Try again what another process disturbs by creating or deleting the same thing at the same moment."""
    for _ in range(_TRIES - 1):
        with suppress(FileNotFoundError):
            return action()
    return action()

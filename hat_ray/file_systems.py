"""Steps on PyArrow's file systems that a `Folder` is made of."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from hat_ray.errors import HatRayError

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

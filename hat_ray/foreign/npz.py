"""NumPy's `.npz` archives from outside, read within bounds and without executing anything, and written as Marian does.

An `.npz` is a zip archive of `.npy` entries: a head in ASCII (type, order, shape), then the numbers.

Decisions
- The claims of an entry's head are compared with the bytes that stand in the archive before memory is taken.
- Object arrays are pickles: they are refused by name, as is every type that is no plain number.
"""

import errno
import lzma
import math
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hat_ray.errors import CheckpointError, in_one_line
from hat_ray.storage.plain_file import printable

Arrays = dict[str, NDArray[np.generic]]

MOST_ENTRIES = 10_000
MOST_SWELLING = 16
"""Compressed numbers take a sixteenth of their room at least; weights hardly shrink at all."""
_HEAD_BYTES = 4_096
_KINDS = "fiub"
_OF_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)
_DAMAGE = (*_OF_ZIP, ValueError, LookupError, TypeError, EOFError, NotImplementedError, RuntimeError)


def read_npz(file: BinaryIO, source: str, size: int) -> Arrays:
    """Read all arrays of an archive of `size` bytes; raise CheckpointError where a claim of it does not hold."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _require_bounds(entries, source, size)
            return {entry.filename.removesuffix(".npy"): _array(archive, entry, source) for entry in entries}
    except (*_DAMAGE, OSError) as error:
        known = (None, errno.EINVAL)  # bzip2's own error; a place before the file's begin
        if isinstance(error, OSError) and error.errno not in known:
            raise
        why = in_one_line(error, 120)
        raise CheckpointError(f"{source} is a damaged .npz archive ({why}): copy it again") from error


def is_npz(file: BinaryIO) -> bool:
    """Report whether a zip archive holds arrays of NumPy, and not PyTorch's pickle."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except _DAMAGE:
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def write_npz(file: IO[bytes], arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write an archive as Marian does: entries stored as they are, in order, the same bytes for the same arrays."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # its time is the first of 1980
            with archive.open(entry, "w", force_zip64=array.nbytes >= zipfile.ZIP64_LIMIT) as place:
                npy.write_array(place, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)


def _require_bounds(entries: list[zipfile.ZipInfo], source: str, size: int) -> None:
    names = {entry.filename for entry in entries}
    if len(entries) > MOST_ENTRIES:
        raise CheckpointError(f"{source} has {len(entries)} arrays, at most {MOST_ENTRIES} are read: name another file")
    if len(names) != len(entries):
        raise CheckpointError(f"{source} holds an array twice: write it again")
    claimed = sum(entry.file_size for entry in entries)
    if claimed > MOST_SWELLING * size:
        raise CheckpointError(
            f"{source} claims {claimed} bytes of arrays in a file of {size}: it is damaged, or made to fill memory"
        )


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, source: str) -> NDArray[np.generic]:
    name = printable(entry.filename.removesuffix(".npy"))
    with archive.open(entry) as file:
        shape, transposed, kind = _head(file, f"{source}: {name}")
        size = entry.file_size - file.tell()
        if math.prod(shape) * kind.itemsize != size:
            raise CheckpointError(
                f"{source}: {name} claims the shape {shape}, its entry has {size} bytes: it is damaged"
            )
        content = file.read()
    if len(content) != size:
        raise CheckpointError(f"{source}: {name} is cut: copy the file again")
    return np.frombuffer(content, dtype=kind).reshape(shape, order="F" if transposed else "C")


def _head(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, "np.dtype[np.generic]"]:
    """Read the head of an entry: its shape, whether it is stored by columns, and its type."""
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in read:
        raise CheckpointError(f"{name} has version {version} of NumPy's format, 1.0 and 2.0 are read: write it again")
    shape, transposed, kind = read[version](file, max_header_size=_HEAD_BYTES)
    if kind.hasobject:
        raise CheckpointError(f"{name} is an object array, which is a pickle: no pickle is read; write plain numbers")
    if kind.byteorder == ">":
        raise CheckpointError(f"{name} has the byte order of big-endian machines: write it on a little-endian one")
    if kind.kind not in _KINDS or kind.subdtype is not None or kind.itemsize > 8:
        raise CheckpointError(f"{name} must hold plain numbers, got {kind!s:.40}: write it again")
    if any(length < 0 for length in shape):
        raise CheckpointError(f"{name} claims the shape {shape}: it is damaged")
    return shape, transposed, kind

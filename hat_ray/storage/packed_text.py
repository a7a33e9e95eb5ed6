"""Text files that may be compressed: unpacked within a bound, whatever a small file would become."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import pyarrow as pa

from hat_ray.errors import HatRayError, in_one_line
from hat_ray.storage.plain_file import LINES_BYTES, decode_text, open_plain, printable

_PACKED: Mapping[bytes, Callable[[BufferedReader], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": lambda file: pa.CompressedInputStream(file, "zstd"),
}
"""What unpacks a file that begins with these bytes."""


def read_lines(path: str | Path, what: str, error: type[HatRayError], most_bytes: int = LINES_BYTES) -> list[str]:
    """Read the lines of a text file, also one of gzip, bzip2, xz or zstd; raises `error` for anything else.

    A line ends at a line feed only; a carriage return before it belongs to it.
    """
    name = f"{what} {printable(str(path), 200)}"
    with open_plain(path, what, error) as file:
        content = _unpacked(file, name, error, most_bytes + 1)
    text = decode_text(content, name, error, most_bytes).removesuffix("\n")
    return [line.removesuffix("\r") for line in text.split("\n")]


def _unpacked(file: BufferedReader, name: str, error: type[HatRayError], most: int) -> bytes:
    """Return a file's bytes, `most` of them, unpacked where it is compressed."""
    head = file.peek(8)
    opener = next((opener for magic, opener in _PACKED.items() if head.startswith(magic)), None)
    if opener is None:
        return file.read(most)
    try:
        with opener(file) as stream:
            return bytes(stream.read(most))
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as failure:
        raise error(f"{name} is damaged and cannot be unpacked ({in_one_line(failure)}): copy it again") from failure

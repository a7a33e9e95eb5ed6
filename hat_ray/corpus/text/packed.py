"""Packed text as a stream of its bytes: gzip, bzip2, xz and zstd, known by their first bytes.

Decisions
- Nothing is held whole, and files of several packed pieces are one text, as the programs that pack make them.
- An xz file that needs more than `_XZ_BYTES` to unpack is refused before memory is taken; zstd's own bound is 128 MiB.
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import Protocol

import pyarrow as pa

HEAD_BYTES = 6
_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
_NAMES = {_GZIP: "gzip", _BZIP2: "bzip2", _XZ: "xz", _ZSTD: "zstd"}
_XZ_BYTES = 1 << 28
_BLOCK_BYTES = 1 << 18

DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)
"""What the libraries raise for damaged files, beside an OSError without a number."""


class Blocks(Protocol):
    """A stream that is read block by block."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""


def packing(head: bytes) -> str | None:
    """Return what a file is packed with, by its first bytes; None for text as it is."""
    return next((name for magic, name in _NAMES.items() if head.startswith(magic)), None)


@contextmanager
def unpacked(file: BufferedReader) -> Iterator[Blocks]:
    """Open the text of a file."""
    kind = packing(file.peek(HEAD_BYTES))
    if kind == "gzip":
        with gzip.open(file) as stream:
            yield stream
    elif kind == "bzip2":
        with bz2.open(file) as stream:
            yield stream
    elif kind == "zstd":
        with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as stream:
            yield stream
    else:
        yield _XzPieces(file) if kind == "xz" else file


class _XzPieces:
    """The text of an xz file, within a bound of memory."""

    def __init__(self, file: BufferedReader) -> None:
        self._file, self._piece, self._rest = file, self._opened(), b""

    def _opened(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_BYTES)

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        while True:
            if self._piece.eof:
                self._rest = (self._piece.unused_data or self._file.read(_BLOCK_BYTES)).lstrip(b"\0")  # padding
                if not self._rest and not self._file.peek(1):
                    return b""
                self._piece = self._opened()
            elif self._piece.needs_input and not self._rest:
                self._rest = self._file.read(_BLOCK_BYTES)
                if not self._rest:
                    raise EOFError("it ends too early")
            block, self._rest = self._piece.decompress(self._rest, size), b""
            if block:
                return block

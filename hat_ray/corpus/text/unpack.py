"""Unpack named members of an archive. Their names come from the recipe, never from the archive.

Decisions
- Every unpacked byte is counted, also of members that are passed over: a small file that unpacks without end is refused
  at the bound.
- Only regular files are unpacked. A link, a device or a folder under a wanted name is refused by its kind.
- Headers that would be read whole into memory (long names, tar's extended attributes) have a bound of their own.
"""

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self, cast

from hat_ray.core.config import nearest_name
from hat_ray.errors import CorpusError
from hat_ray.storage.plain_file import open_plain

_BLOCK_BYTES = 1 << 20
_HARMLESS_BYTES = 64_000_000
"""Bytes that any archive may unpack to."""
_HEADER_BYTES = 1 << 16
_HEADERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"X")
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error),
    *(UnicodeDecodeError, ValueError, OverflowError),
)


@dataclass(frozen=True)
class Bounds:
    """Bytes that an archive may unpack to."""

    max_bytes: int = 100_000_000_000
    max_expansion: float = 100.0
    """Times the archive's own size."""

    def limit(self, packed_bytes: int) -> int:
        return min(self.max_bytes, max(_HARMLESS_BYTES, round(self.max_expansion * packed_bytes)))


def unpack(archive: Path, names: Sequence[str], folder: Path, bounds: Bounds | None = None) -> None:
    """Write the named members into `folder`, each whole or not at all; raises CorpusError when one is not there."""
    missing, seen = set(names), []
    counter = _Counter(archive, bounds or Bounds())
    try:
        for name, stream in _members(archive, missing, counter):
            seen.append(name)
            if stream is not None:
                _write(stream, folder / name)
                missing.discard(name)
            if not missing:
                return
    except (NotImplementedError, RuntimeError) as error:  # a method of packing that Python lacks, or a password
        raise CorpusError(f"{archive} cannot be unpacked ({error}): unpack it yourself, use --data FOLDER") from error
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a fault of the disk; gzip and bzip2 report damage as an OSError without a number
        raise CorpusError(f"{archive} is no whole archive ({error}): delete it, and it is downloaded again") from error
    first = sorted(missing)[0]
    near = nearest_name(first, seen)
    raise CorpusError(
        f"{archive.name} has no file {first}" + (f"; did you mean {near}?" if near else ": check its content")
    )


class _Counter:
    """Counts what an archive unpacks to, and refuses what goes beyond the bounds."""

    def __init__(self, archive: Path, bounds: Bounds) -> None:
        self._archive, self._limit, self._unpacked = archive, bounds.limit(archive.stat().st_size), 0

    def count(self, size: int) -> None:
        self._unpacked += size
        if self._unpacked > self._limit:
            raise CorpusError(
                f"{self._archive} unpacks to more than {self._limit / 1e6:.0f} MB: no text does; raise "
                "corpus.max_expansion or corpus.max_unpacked_gb if you trust it, or delete it"
            )


class _Counted:
    """A stream to read from whose bytes are counted."""

    def __init__(self, stream: IO[bytes], counter: _Counter) -> None:
        self._stream, self._counter = stream, counter

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(_BLOCK_BYTES if size < 0 else size)
        self._counter.count(len(block))
        return block


class _Member(tarfile.TarInfo):
    """A tar header; one that announces a long name or attributes of an absurd size is refused before they are read."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _HEADERS and not 0 <= member.size <= _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {member.size} bytes")
        if member.size < 0:
            raise tarfile.ReadError(f"a member of {member.size} bytes")
        return member


def _members(archive: Path, wanted: set[str], counter: _Counter) -> Iterator[tuple[str, Any]]:
    """Yield each member's name, and a stream of its content while it is wanted; `wanted` may shrink meanwhile."""
    with open_plain(archive, "archive", CorpusError) as packed:
        members = _zip_members if zipfile.is_zipfile(packed) else _tar_members
        packed.seek(0)
        yield from members(packed, archive, wanted, counter)


def _tar_members(
    packed: BufferedReader, archive: Path, wanted: set[str], counter: _Counter
) -> Iterator[tuple[str, Any]]:
    counted = cast(IO[bytes], _Counted(_unpacked(packed), counter))
    with tarfile.open(fileobj=counted, mode="r|", tarinfo=_Member) as file:
        for member in file:
            name = _plain(member.name)
            if name in wanted and (not member.isfile() or member.issparse()):
                raise _no_file(archive, name, _tar_kind(member))
            yield name, file.extractfile(member) if name in wanted else None


def _zip_members(
    packed: BufferedReader, archive: Path, wanted: set[str], counter: _Counter
) -> Iterator[tuple[str, Any]]:
    with zipfile.ZipFile(packed) as file:
        for info in file.infolist():
            name = _plain(info.filename)
            if name not in wanted:
                yield name, None
                continue
            mode = info.external_attr >> 16
            if info.is_dir() or stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise _no_file(archive, name, "a link" if stat.S_ISLNK(mode) else "a folder or a device")
            with file.open(info) as stream:
                yield name, _Counted(stream, counter)


def _unpacked(packed: BufferedReader) -> IO[bytes]:
    """Return a tar archive's own bytes, whatever it is packed with."""
    head = packed.peek(6)[:6]
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=packed))
    if head.startswith(b"BZh"):
        return bz2.BZ2File(packed)
    if head.startswith((b"\xfd7zXZ", b"\x5d\x00\x00")):
        return lzma.LZMAFile(packed)
    return packed


def _no_file(archive: Path, name: str, kind: str) -> CorpusError:
    return CorpusError(f"{archive.name} has {kind} as {name}, and only files are unpacked: name another member")


def _tar_kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "a link"
    return "a folder" if member.isdir() else "a sparse file" if member.isfile() else "a device"


def _plain(name: str) -> str:
    """Return `a/b` for `./a/b`; a name that leaves its folder stays as it is, and no recipe can want it."""
    return str(PurePosixPath(name))


def _write(stream: Any, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(aside, "wb") as file:
            while block := stream.read(_BLOCK_BYTES):
                file.write(block)
        aside.replace(place)
    finally:
        aside.unlink(missing_ok=True)

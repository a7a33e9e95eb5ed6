"""Unpack named members of an archive. Their names come from the recipe, never from the archive."""

import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from typing import IO

from hat_ray.config import nearest_name
from hat_ray.errors import CorpusError


def unpack(archive: Path, names: Sequence[str], folder: Path) -> None:
    """Write the named members into `folder`, each whole or not at all; raises CorpusError when one is not there."""
    missing, seen = set(names), []
    try:
        for name, stream in _members(archive, set(names)):
            seen.append(name)
            if stream is not None:
                _write(stream, folder / name)
                missing.discard(name)
            if not missing:
                return
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise CorpusError(f"{archive} is no whole archive ({error}): delete it, and it is downloaded again") from error
    first = sorted(missing)[0]
    near = nearest_name(first, seen)
    raise CorpusError(
        f"{archive.name} has no file {first}" + (f"; did you mean {near}?" if near else ": look what it holds")
    )


def _members(archive: Path, wanted: set[str]) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield each regular file's name, and its content when it is wanted."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                name = _plain(info.filename)
                if name in wanted and not info.is_dir():
                    with file.open(info) as stream:
                        yield name, stream
                else:
                    yield name, None
        return
    with tarfile.open(archive, "r|*") as file:
        for member in file:
            name = _plain(member.name)
            yield name, file.extractfile(member) if name in wanted and member.isfile() else None


def _plain(name: str) -> str:
    """Return `a/b` for `./a/b`; a name that leaves its folder stays as it is, and no recipe can want it."""
    return str(PurePosixPath(name))


def _write(stream: IO[bytes], place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(aside, "wb") as file:
            copyfileobj(stream, file, 1 << 20)
        aside.replace(place)
    finally:
        aside.unlink(missing_ok=True)

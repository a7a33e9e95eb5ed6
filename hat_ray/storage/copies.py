"""Files that a path or URI names, and copies of remote ones for libraries that read local paths only.

Decisions
- A place is one file, or the plain files directly in one folder; folders inside it are no part of it.
- Number and size of what is copied are compared with bounds before a byte is fetched.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow.fs as pafs

from hat_ray.errors import HatRayError, NotFoundError
from hat_ray.storage.faults import OF_WRITING, telling
from hat_ray.storage.folder import Folder
from hat_ray.storage.places import canonical, is_uri, last_names, shown
from hat_ray.storage.plain_file import expanded

MOST_FILES, MOST_BYTES = 1_000, 64 << 30
_BLOCK_BYTES = 1 << 22

Chosen = Callable[[str], bool]


def _all(_name: str) -> bool:
    return True


def name_of(place: str) -> str:
    """Return the last part of a path or URI, without a query."""
    return last_names(canonical(place), 1)


def folder_and_names(place: str) -> tuple[Folder, tuple[str, ...], bool]:
    """Return the folder and the names of the plain files that a place stands for, and whether it is a folder.

    Raises NotFoundError where it is neither a file nor a folder.
    """
    as_folder = Folder.at(place)
    with suppress(HatRayError):  # the top of a storage is no file
        parent, name = Folder.of_file(place)
        if parent.info(name).type == pafs.FileType.File:
            return parent, (name,), False
    names = _plain_files(as_folder)
    if not names:
        raise NotFoundError(f"{shown(place)} is no file and holds none: name a file or a folder with files")
    return as_folder, names, True


def digests(place: str) -> Iterator[tuple[str, str]]:
    """Yield name and SHA-256 of each file of a place, in the order of names."""
    folder, names, _ = folder_and_names(place)
    for name in names:
        digest = hashlib.sha256()
        with folder.reading(name) as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        yield name, digest.hexdigest()


@contextmanager
def copied_here(place: str, wanted: Chosen = _all, beside: Chosen = _all) -> Iterator[Path]:
    """Give the local path of a place: itself, or a copy of a remote one that is deleted after the block.

    `wanted` chooses the files of a folder, `beside` those that are copied with a single file. Errors of the block name
    the remote place, and not the copy.
    """
    uri = canonical(place) if is_uri(place) else place
    if not is_uri(uri):
        yield expanded(uri)
        return
    folder, names, whole = folder_and_names(uri)
    chosen = [name for name in names if wanted(name)] if whole else [*names, *_beside(folder, names[0], beside)]
    _require_bounds(folder, chosen)
    with tempfile.TemporaryDirectory(prefix="hat-ray-copy-") as made:
        path = Path(made)
        for name in chosen:
            _copy(folder, name, path / name)
        try:
            yield path if whole else path / names[0]
        except HatRayError as error:
            raise type(error)(str(error).replace(made, str(folder))) from error


def _beside(folder: Folder, own: str, beside: Chosen) -> list[str]:
    return [name for name in _plain_files(folder) if name != own and beside(name)]


def _plain_files(folder: Folder) -> tuple[str, ...]:
    return tuple(sorted(entry.base_name for entry in folder.entries() if entry.type == pafs.FileType.File))


def _require_bounds(folder: Folder, names: list[str]) -> None:
    if len(names) > MOST_FILES:
        raise HatRayError(f"{folder} holds {len(names)} files, at most {MOST_FILES} are copied: give it a folder alone")
    total = sum(folder.size(name) or 0 for name in names)
    if total > MOST_BYTES:
        raise HatRayError(f"{folder} holds {total} bytes, at most {MOST_BYTES} are copied: name a smaller model")


def carry(place: str, target: Folder, last: str) -> None:
    """Copy the files of a folder into another one, `last` at the end: where it stands, all others do."""
    folder, names, _ = folder_and_names(place)
    if target.exists(last):
        return
    _require_bounds(folder, list(names))
    for name in (*(one for one in names if one != last), last):
        with folder.reading(name) as source, target.writing(name) as out:
            while block := source.read(_BLOCK_BYTES):
                out.write(block)


def _copy(folder: Folder, name: str, path: Path) -> None:
    with folder.reading(name) as source, telling(str(path), remote=False, only=OF_WRITING), path.open("wb") as target:
        while block := source.read(_BLOCK_BYTES):
            target.write(block)

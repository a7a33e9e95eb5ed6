"""Folders that a command is given: what is no folder is refused before any work, by what it is."""

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hat_ray.cli.output import resolve
from hat_ray.errors import RunError
from hat_ray.storage.places import is_uri
from hat_ray.storage.plain_file import binary_format, expanded, kind_of, open_plain, printable

if TYPE_CHECKING:
    from hat_ray.recipe import Recipe


def require_folder(what: str, place: str | Path, *, there: bool = True) -> None:
    """Raise RunError when a local path is no folder, or, with `there`, does not exist; a URI is left to its storage."""
    if not str(place):
        raise RunError(f"{what} must be a place, got an empty name: name a folder")
    if is_uri(str(place)):
        return
    path, shown = expanded(place), printable(str(place), 200)
    try:
        kind = _kind(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        above = next((parent for parent in path.absolute().parents if os.path.exists(parent)), Path("/"))
        if not above.is_dir():
            raise RunError(f"{what} {shown} cannot be a folder: {above} is a file; name another place") from error
        if there:
            raise RunError(f"{what} {shown} does not exist: name a folder that does") from error
        return
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES):
            raise
        raise RunError(f"{what} {shown} cannot be a folder ({error.strerror}): name another place") from error
    if kind is not None:
        raise RunError(f"{what} {shown} is {kind} where a folder should be: name another place")


def resolve_run(run: str, overrides: list[str] | None) -> "tuple[Recipe, str]":
    """Return the recipe and the place of a run folder, or of the run that a recipe's name or file stands for."""
    from hat_ray.recipe import shipped_recipes

    named = run in shipped_recipes() or (run.endswith((".yaml", ".yml")) and os.path.isfile(run))
    if not named:
        require_folder("run folder", run)
    return resolve(run, None, overrides)


def _kind(path: Path) -> str | None:
    """Return the kind of entry at a path in words, or None for a folder."""
    mode = os.stat(path).st_mode
    kind = kind_of(mode)
    if kind is None:
        with open_plain(path, "file", RunError) as file:
            return binary_format(file.read(1024)) or "a file"
    return None if kind == "a folder" else kind

"""Results of earlier settings, kept by what decided them until they are asked for again or cleaned up.

`kept/<stage>/<fingerprint>/` in the run folder holds what stood in `<stage>/` under other settings or inputs.

Decisions
- The current result of a stage stands in `<stage>/`, always: paths in documents, records and people's heads hold. A
  change of settings moves it aside and moves the wanted one back, with its identity: what reads from it is valid again.
- Where a folder can be renamed that is one atomic step. Object stores copy, on the server; `begun.json` and
  `stage.json` are copied last and deleted first, and a folder without both is no result.
- Unfinished work is kept as well: half a training is days of machine time.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pyarrow.fs import FileType

from hat_ray.storage.folder import Folder

KEPT = "kept"
BEGUN, FINISHED = "begun.json", "stage.json"
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""The name under which `Folder` writes a file before it is whole."""
_RENAMES_FOLDERS = ("local", "hdfs")


@dataclass(frozen=True)
class KeptResult:
    """One result of earlier settings."""

    stage: str
    fingerprint: str
    finished: bool
    bytes: int
    place: str

    def __str__(self) -> str:
        state = "finished" if self.finished else "unfinished"
        return f"{self.stage:<9} {self.fingerprint}  {state:<10} {size_text(self.bytes):>9}  {self.place}"


@dataclass(frozen=True)
class Kept:
    """The results of earlier settings in one run folder."""

    folder: Folder

    def has(self, stage: str, fingerprint: str, *, finished: bool = False) -> bool:
        """Return whether a result is kept: finished, or just begun."""
        files = (FINISHED,) if finished else (FINISHED, BEGUN)
        return any(self.folder.exists(f"{self._place(stage, fingerprint)}/{file}") for file in files)

    def put_aside(self, stage: str, fingerprint: str) -> None:
        """Keep the content of a stage's folder, which `fingerprint` decided."""
        _move(self.folder, stage, self._place(stage, fingerprint))

    def bring_back(self, stage: str, fingerprint: str) -> None:
        """Make a kept result the current one; the present content of the stage's folder is deleted."""
        _move(self.folder, self._place(stage, fingerprint), stage)

    def finished(self, stage: str) -> list[str]:
        """Return the places in the run folder of a stage's kept results that were finished."""
        home = self.folder.child(KEPT, stage)
        return [self._place(stage, one) for one in home.list() if home.child(one).exists(FINISHED)]

    def results(self) -> list[KeptResult]:
        """Return the kept results, with the disk that they take, by stage."""
        home, found = self.folder.child(KEPT), []
        for stage in home.list():
            for fingerprint in home.child(stage).list():
                place = home.child(stage, fingerprint)
                files = [info for info in place.entries(recursive=True) if info.type == FileType.File]
                found.append(
                    KeptResult(
                        stage, fingerprint, place.exists(FINISHED), sum(file.size or 0 for file in files), str(place)
                    )
                )
        return found

    def clean(self) -> None:
        """Delete all that is kept."""
        self.folder.delete(KEPT)

    def _place(self, stage: str, fingerprint: str) -> str:
        return f"{KEPT}/{stage}/{fingerprint}"


def delete_abandoned(folder: Folder, but: str = "") -> int:
    """Delete temporary files of killed writers, in a folder but for one sub-folder; return how many.

    It is for the only writer there, before it begins: their writer is gone, or shut out by the run's lease.
    """
    found = [info for info in folder.entries(recursive=True) if info.is_file and _TEMPORARY.fullmatch(info.base_name)]
    names = [info.path[len(folder.root) + 1 :] for info in found]
    left = [name for name in names if not (but and name.startswith(f"{but}/"))]
    for name in left:
        folder.delete(name)
    return len(left)


def disk_line(results: Sequence[KeptResult], place: str) -> str | None:
    """Return a line on the space of kept results, and how to free it; None where nothing is kept."""
    if not results:
        return None
    taken = size_text(sum(result.bytes for result in results))
    command = f"hat-ray run clean {shlex.quote(place)}"
    return f"results of earlier settings: {len(results)}, {taken}; `{command}` shows and frees them"


def size_text(size: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _move(folder: Folder, name: str, new_name: str) -> None:
    """Move a sub-folder; killed at any point, one of the two holds all of it and shows that."""
    if folder.file_system.type_name in _RENAMES_FOLDERS:
        folder.file_system.create_dir(folder.path(new_name).rpartition("/")[0], recursive=True)
        folder.rename(name, new_name)
        return
    _delete(folder, new_name)
    source = folder.child(name)
    files = [info.path[len(source.root) + 1 :] for info in source.entries(recursive=True) if info.is_file]
    last = (BEGUN, FINISHED)
    for file in [*(file for file in files if file not in last), *(file for file in last if file in files)]:
        folder.copy(f"{name}/{file}", f"{new_name}/{file}")
    _delete(folder, name)


def _delete(folder: Folder, name: str) -> None:
    for file in (FINISHED, BEGUN):
        folder.delete(f"{name}/{file}")
    folder.delete(name)

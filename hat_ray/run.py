"""The run folder: what one recipe has made so far, and what of it still holds.

Each stage has a folder of its own. `begun.json` says for which settings and inputs it was begun, so that a killed stage
is resumed and a changed one is started afresh; `stage.json`, written last, says that it is finished. A stage's mark
covers its settings and the identity of every stage it reads from, so whatever changes upstream is noticed downstream.
"""

import fcntl
import hashlib
import json
import logging
import platform
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from hat_ray import __version__
from hat_ray.errors import HatRayError, RunError
from hat_ray.recipe import Recipe, to_yaml
from hat_ray.storage import Folder

log = logging.getLogger(__name__)

VERSIONED = ("torch", "ray", "xgboost", "sentencepiece", "pyarrow", "sacrebleu", "numpy")


@dataclass(frozen=True)
class StageRecord:
    """What `stage.json` holds."""

    stage: str
    id: str
    """Fresh each time the stage is made: stages that read from it are made again when it changes."""
    mark: str
    section: dict[str, Any]
    inputs: dict[str, str]
    seed: int
    versions: dict[str, str]
    finished: str
    """UTC, ISO 8601."""
    seconds: float
    summary: dict[str, Any]


class Run:
    """One run folder, local or remote, opened for one recipe."""

    def __init__(self, folder: Folder, recipe: Recipe) -> None:
        self.folder, self.recipe = folder, recipe

    @classmethod
    def open(cls, place: Folder | str | Path, recipe: Recipe) -> "Run":
        """Open or create a run folder; raises RunError when it belongs to a recipe of another name."""
        folder = Folder.at(place)
        try:
            return cls._open(folder, recipe)
        except OSError as error:
            raise RunError(f"cannot use the run folder {folder}: {error}; name another one with --run") from error

    @classmethod
    def _open(cls, folder: Folder, recipe: Recipe) -> "Run":
        if folder.exists("run.json"):
            owner = _owner(folder)
            if owner != recipe.name:
                raise RunError(
                    f"run folder {folder} belongs to recipe {owner!r}, this one is {recipe.name!r}: "
                    "name another folder with --run, or delete it"
                )
        elif folder.exists() and folder.list():
            raise RunError(f"{folder} is not empty and is not a run folder: name another one with --run")
        else:
            folder.write_json("run.json", {"recipe": recipe.name, "format": 1})
        return cls(folder, recipe)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep this recipe in the folder; put the one before back when a user's mistake in it comes to light."""
        before = self.folder.read_text("recipe.yaml") if self.folder.exists("recipe.yaml") else None
        self.folder.write_text("recipe.yaml", to_yaml(self.recipe))
        try:
            yield
        except HatRayError:
            if before is not None:
                self.folder.write_text("recipe.yaml", before)
            raise

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second process out of a local run folder; the lock ends with the process, however it ends."""
        if not self.folder.is_local:
            yield
            return
        with open(Path(self.folder.uri) / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunError(f"another process is working in {self.folder}: wait for it, or use --run") from error
            yield

    def stage_folder(self, stage: str) -> Folder:
        return self.folder.child(stage)

    def record(self, stage: str) -> StageRecord | None:
        """Return what a finished stage left, or None."""
        folder = self.stage_folder(stage)
        return StageRecord(**folder.read_json("stage.json")) if folder.exists("stage.json") else None

    def mark(self, stage: str, section: Mapping[str, Any], needs: Sequence[str]) -> str:
        """Hash what decides a stage's result: its settings, the seed and what it reads."""
        content = {
            "stage": stage,
            "section": dict(section),
            "seed": self.recipe.seed,
            "inputs": {name: record.id for name in needs if (record := self.record(name))},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def begin(self, stage: str, mark: str) -> Folder:
        """Prepare a stage's folder: kept as it is when the same work was begun before, emptied otherwise.

        A finished result of other settings is set aside until the new one is finished (on local disks; an object
        store cannot rename folders, there it goes at once).
        """
        folder = self.stage_folder(stage)
        begun = folder.read_json("begun.json").get("mark") if folder.exists("begun.json") else None
        if begun == mark and not folder.exists("stage.json"):
            log.info("stage %s: resuming what was begun before", stage)
            return folder
        if folder.exists() and folder.list():
            log.info("stage %s: settings or inputs changed, starting afresh", stage)
        if folder.exists("stage.json") and folder.is_local:
            self.folder.rename(stage, _aside(stage))
        folder.delete()
        folder.write_json("begun.json", {"mark": mark})
        return folder

    def abandon(self, stage: str) -> None:
        """Put back the finished result that `begin` set aside, after a user's mistake in the new settings."""
        if self.folder.exists(_aside(stage)):
            self.folder.rename(_aside(stage), stage)

    def finish(
        self, stage: str, mark: str, section: Mapping[str, Any], needs: Sequence[str], started: float, summary: Any
    ) -> StageRecord:
        """Write `stage.json`, the last file of a stage. `started` is a `time.monotonic()` reading."""
        record = StageRecord(
            stage=stage,
            id=uuid.uuid4().hex,
            mark=mark,
            section=dict(section),
            inputs={name: upstream.id for name in needs if (upstream := self.record(name))},
            seed=self.recipe.seed,
            versions=versions(),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - started, 3),
            summary=summary,
        )
        self.stage_folder(stage).write_json("stage.json", asdict(record))
        self.folder.delete(_aside(stage))
        return record


def _owner(folder: Folder) -> str:
    """Return the name of the recipe that a run folder belongs to."""
    try:
        return str(folder.read_json("run.json")["recipe"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder}/run.json is damaged: mend it, or name another folder with --run") from error


def _aside(stage: str) -> str:
    return f"{stage}.before"


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"hat-ray": __version__, "python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found

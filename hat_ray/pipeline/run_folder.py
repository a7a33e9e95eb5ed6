"""The run folder: the results of one recipe, and which of them still hold.

Each stage has a folder of its own. `begun.json` names the settings and inputs that it was begun for, so that a killed
stage is resumed and a changed one is started afresh; `stage.json`, written last, marks it as finished. A stage's
fingerprint covers its settings and the identity of every stage it reads from, so whatever changes upstream is noticed
downstream. Results of other settings are kept aside (`kept.py`) and come back with them.
"""

import hashlib
import json
import logging
import platform
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from hat_ray import __version__
from hat_ray.core.codec import encode, from_json, read, to_json, write
from hat_ray.core.lease import held
from hat_ray.errors import HatRayError, RunError
from hat_ray.pipeline.kept import BEGUN, FINISHED, Kept, KeptResult, delete_abandoned
from hat_ray.recipe import Recipe, to_yaml
from hat_ray.storage import faults
from hat_ray.storage.folder import Folder

log = logging.getLogger(__name__)

T = TypeVar("T")
_HEAD = "run.json"
_TABLE = "table"
"""A latency table: others write there without the run's lease, and `latency compact` deletes their leftovers."""
VERSIONED = ("torch", "ray", "xgboost", "sentencepiece", "pyarrow", "sacrebleu", "numpy")


@dataclass(frozen=True)
class StageRecord:
    """Content of `stage.json`."""

    stage: str
    id: str
    """Fresh each time the stage is made: stages that read from it are made again when it changes."""
    fingerprint: str
    settings: dict[str, Any]
    """The sections of the recipe that decided the result."""
    inputs: dict[str, str]
    seed: int
    versions: dict[str, str]
    finished: str
    """UTC, ISO 8601."""
    seconds: float
    output: dict[str, Any]
    """The stage's output, as JSON values; `Run.output` returns it as its type."""

    def __post_init__(self) -> None:
        datetime.fromisoformat(self.finished)


@dataclass(frozen=True)
class _Head:
    """Content of `run.json`."""

    recipe: str


@dataclass(frozen=True)
class _Begun:
    """Content of `begun.json`."""

    fingerprint: str


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
            why = error if isinstance(error, HatRayError) else faults.cause(error)
            raise RunError(f"cannot use the run folder {folder}: {why}; name another one with --run") from error

    @classmethod
    def _open(cls, folder: Folder, recipe: Recipe) -> "Run":
        if not folder.exists(_HEAD):
            # run.json is a run's first file: where it is there now, another process began the run meanwhile; and what
            # is written before it gets its name belongs to a process that begins, or was killed as it began
            names = folder.list() if folder.exists() else []
            if any(not name.startswith(f".{_HEAD}.") for name in names) and not folder.exists(_HEAD):
                raise RunError(f"{folder} is not empty and is not a run folder: name another one with --run")
            head = json.dumps(encode(_Head(recipe.name)), indent=2) + "\n"
            folder.create(_HEAD, head.encode())  # where another process was quicker, its recipe counts
        owner = _owner(folder)
        if owner != recipe.name:
            raise RunError(
                f"run folder {folder} belongs to recipe {owner!r}, this one is {recipe.name!r}: "
                "name another folder with --run, or delete it"
            )
        return cls(folder, recipe)

    @contextmanager
    def saving_recipe(self) -> Iterator[None]:
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
    def held(self, take_over: bool = False) -> Iterator[None]:
        """Keep other processes out of the folder; once another one took it over, nothing more is written there.

        Raises InUseError where a process that lives has it, unless it is to be taken over.
        """
        free = self.folder
        with held(free, take_over) as lease:
            self._open(free, self.recipe)  # two may have opened it at once
            self.folder = free.fenced(lease)
            try:
                yield
            finally:
                self.folder = free

    @property
    def kept(self) -> Kept:
        """The results of other settings."""
        return Kept(self.folder)

    def stage_folder(self, stage: str) -> Folder:
        return self.folder.child(stage)

    def record(self, stage: str) -> StageRecord | None:
        """Return the record of a finished stage, or None."""
        folder = self.stage_folder(stage)
        return read(folder, FINISHED, StageRecord) if folder.exists(FINISHED) else None

    def output(self, stage: str, kind: type[T]) -> T | None:
        """Return the output of a finished stage, or None; raises DamagedError when it is no `kind`."""
        record = self.record(stage)
        if record is None:
            return None
        return from_json(kind, record.output, self.stage_folder(stage).shown(FINISHED))

    def fingerprint(self, stage: str, settings: Mapping[str, Any], reads: Sequence[str]) -> str:
        """Hash the inputs of a stage's result: its settings, the seed and the stages it reads."""
        content = {
            "stage": stage,
            "settings": dict(settings),
            "seed": self.recipe.seed,
            "inputs": {name: record.id for name in reads if (record := self.record(name))},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def finished(self, stage: str, fingerprint: str) -> StageRecord | None:
        """Return the record of a stage that is finished for these settings and inputs, now or at an earlier time."""
        record = self.record(stage)
        if record is not None and record.fingerprint == fingerprint:
            return record
        if not self.kept.has(stage, fingerprint, finished=True):
            return None
        self._put_aside(stage, but=fingerprint)
        self.kept.bring_back(stage, fingerprint)
        log.info("stage %s: the result of these settings was kept and is back", stage)
        return self.record(stage)

    def open_stage(self, stage: str, fingerprint: str) -> Folder:
        """Prepare a stage's folder: with what the same work left when it was begun before, or empty.

        Results of other settings there are kept.
        """
        folder = self.stage_folder(stage)
        if self._begun(stage) == fingerprint and not folder.exists(FINISHED):
            log.info("stage %s: resuming interrupted work", stage)
            delete_abandoned(folder, but=_TABLE)
            return folder
        if folder.exists(BEGUN):
            log.info("stage %s: settings or inputs changed; results of earlier ones are kept", stage)
        self._put_aside(stage, but=fingerprint)
        if self.kept.has(stage, fingerprint):
            log.info("stage %s: resuming interrupted work", stage)
            self.kept.bring_back(stage, fingerprint)
            delete_abandoned(folder, but=_TABLE)
        else:
            write(folder, BEGUN, _Begun(fingerprint))
        return folder

    def restore_previous(self, stage: str, before: str | None) -> None:
        """Make the finished result of fingerprint `before` the current one again, after a user's mistake in new
        settings."""
        if before is None or not self.kept.has(stage, before, finished=True):
            return
        if self.stage_folder(stage).list() != [BEGUN]:
            self._put_aside(stage, but=before)
        self.kept.bring_back(stage, before)

    def _begun(self, stage: str) -> str | None:
        """Return the fingerprint of the content of a stage's folder; None where it is empty or unknown."""
        folder = self.stage_folder(stage)
        if folder.exists(BEGUN):
            return read(folder, BEGUN, _Begun).fingerprint
        record = self.record(stage)
        return record.fingerprint if record else None

    def _put_aside(self, stage: str, but: str) -> None:
        """Empty a stage's folder: keep its content, unless its fingerprint is `but` or unknown."""
        fingerprint = self._begun(stage)
        if fingerprint is None or fingerprint == but:
            self.folder.delete(stage)
        else:
            self.kept.put_aside(stage, fingerprint)

    def finish(
        self,
        stage: str,
        fingerprint: str,
        settings: Mapping[str, Any],
        reads: Sequence[str],
        started: float,
        output: object,
    ) -> StageRecord:
        """Write `stage.json`, the last file of a stage. `started` is a `time.monotonic()` reading."""
        record = StageRecord(
            stage=stage,
            id=uuid.uuid4().hex,
            fingerprint=fingerprint,
            settings=dict(settings),
            inputs={name: upstream.id for name in reads if (upstream := self.record(name))},
            seed=self.recipe.seed,
            versions=versions(),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - started, 3),
            output=to_json(output),
        )
        write(self.stage_folder(stage), FINISHED, record)
        return record


def is_run_folder(folder: Folder) -> bool:
    """Report whether a folder holds a run."""
    return folder.exists(_HEAD)


def require_run_folder(folder: Folder) -> None:
    """Raise RunError for a folder that holds no run."""
    if not is_run_folder(folder):
        raise RunError(f"{folder} is not a run folder: name one that `hat-ray run` made")


def clean_run(place: str, *, delete: bool, take_over: bool = False) -> list[KeptResult]:
    """Return the results that a run keeps of earlier settings; with `delete`, delete them.

    Raises RunError for a folder that is no run and for one that another process works in, and DamagedError, before
    anything is deleted, where the run's own record or that of a current result cannot be read.
    """
    folder = Folder.at(place)
    require_run_folder(folder)
    if not delete:
        _require_sound(folder)
        return Kept(folder).results()
    with held(folder, take_over) as lease:
        _require_sound(folder)
        kept = Kept(folder.fenced(lease))
        results = kept.results()
        kept.clean()
    return results


def _require_sound(folder: Folder) -> None:
    """Raise DamagedError where a kept result may be all that is left of a stage: its current one cannot be read."""
    _owner(folder)
    for stage in folder.list():
        if folder.exists(f"{stage}/{BEGUN}"):
            read(folder.child(stage), BEGUN, _Begun)
        if folder.exists(f"{stage}/{FINISHED}"):
            read(folder.child(stage), FINISHED, StageRecord)


def _owner(folder: Folder) -> str:
    """Return the name of the recipe that a run folder belongs to."""
    return read(folder, _HEAD, _Head, "mend it, or name another folder with --run").recipe


@cache
def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"hat-ray": __version__, "python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found

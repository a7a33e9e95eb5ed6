"""The places that a recipe writes to or reads from: they are there, and let us in.

A file with a unique name is written, read and deleted. A place that is not there yet is tried where it
would be made. Storage that does not answer is asked for `PATIENCE_S` seconds only: nothing is under way yet.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from hat_ray.corpus.shards import cache_root
from hat_ray.errors import HatRayError, StorageError
from hat_ray.pipeline.places import Place, place_of
from hat_ray.pipeline.preflight.check import CheckResult, Finding, Situation
from hat_ray.recipe import Recipe
from hat_ray.search.warm_start import table_at
from hat_ray.storage import faults
from hat_ray.storage.copies import folder_and_names
from hat_ray.storage.folder import Folder
from hat_ray.storage.places import is_uri
from hat_ray.storage.plain_file import printable
from hat_ray.train.config import LARGEST

PATIENCE_S = 5.0
_CONTENT = b"may be deleted"


def try_run_folder(place: str) -> list[CheckResult]:
    """Return whether the run folder can be written to: checked before its content is read."""
    found = list(_probe("the run folder", Folder.at(place), "--run"))
    return [CheckResult("run folder", *finding) for finding in found or [("ok", "")]]


def check_latency_table(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The latency table that teams share can be written to; one that is only read is looked at by other checks."""
    if recipe.latency.table and not recipe.latency.times_nothing:
        yield from _probe("the latency table", Folder.at(recipe.latency.table), "latency.table")


def check_warm_start(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Every earlier search that is named has candidates."""
    for place in recipe.search.warm_start:
        folder = Folder.at(place).asked_for(PATIENCE_S)
        try:
            folder.list()  # fails for a bucket that is not there
            table_at(folder)
        except (HatRayError, StorageError) as error:
            yield "failure", f"search.warm_start: {error}"


def check_cache(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The cache of this machine can be written to."""
    folder, config = situation.run_folder, recipe.corpus
    if (folder is not None and not folder.is_local) or (
        config.downloads and not (config.files and config.files.folder)
    ):
        own = config.downloads_folder
        place = Path(own).expanduser() if own and "corpus" in situation.stages else cache_root()
        named_by = "corpus.downloads_folder" if own else "HAT_RAY_CACHE"
        yield from _probe("the cache folder", Folder.at(place), named_by)


def _probe(what: str, folder: Folder, named_by: str) -> Iterator[Finding]:
    try:
        _try(folder.asked_for(PATIENCE_S))
    except (HatRayError, StorageError) as error:
        yield "failure", f"cannot use {what} {folder}, which {named_by} names: {error}"
    except OSError as error:  # its text names a file that is none of the user's
        yield "failure", f"cannot use {what} {folder}, which {named_by} names ({faults.cause(error)}): name another"


def _try(folder: Folder) -> None:
    """Write, read and delete a file."""
    place = _existing(folder) if folder.is_local else folder
    if folder.is_local and not Path(place.uri).is_dir():
        raise HatRayError(f"{faults.kind_at(place.uri)} stands where a folder should be: {place}")
    name = f".hat-ray-{uuid.uuid4().hex}.probe"
    try:
        place.write_bytes(name, _CONTENT, durable=False)
        try:
            if place.read_bytes(name) != _CONTENT:
                raise StorageError(f"{place} does not return the bytes written to it")
        finally:
            place.delete(name)
    except (HatRayError, StorageError) as error:
        raise type(error)(str(error).replace(f"/{name}", "")) from error  # no user knows the file of this name


def _existing(folder: Folder) -> Folder:
    """Return a local folder, or the nearest one above it that exists."""
    path = Path(folder.uri)
    return Folder.at(next(place for place in (path, *path.parents) if place.exists()))


def check_teachers(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Every teacher's place is there and may hold a trained model."""
    named = {
        "corpus": ("corpus.distil_from", recipe.corpus.distil_from),
        "supernet": ("supernet.teacher", recipe.supernet.teacher),
        "retrain": ("retrain.teacher", recipe.retrain.teacher),
    }
    for stage, (setting, place) in named.items():
        if not place or stage not in situation.stages or (stage == "retrain" and place == LARGEST):
            continue
        shown = printable(place, 200)
        if not (is_uri(place) or os.path.exists(os.path.expanduser(place))):
            yield "failure", f"{setting} must be there, got {shown}: correct it"
            continue
        found = place_of(place)
        if is_uri(place) and found is Place.OTHER:
            try:
                folder_and_names(place)
            except (HatRayError, StorageError) as error:
                yield "failure", f"{setting}: {error}"
        if found is Place.ARCHITECTURE or (found is Place.EXPORT and stage != "corpus"):
            yield "failure", f"{setting} must name a trained model, got {shown}, {found}: name its run or model folder"

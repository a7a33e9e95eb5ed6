"""What a place holds: a run, a model folder, an export, or an architecture. Loads no PyTorch."""

import os
import shlex
from enum import StrEnum

from hat_ray.core.yaml_text import read_mapping
from hat_ray.errors import HatRayError, SpaceError
from hat_ray.export.place import is_export
from hat_ray.model.checkpoints.about import is_model_folder
from hat_ray.pipeline.run_folder import is_run_folder
from hat_ray.storage.folder import Folder
from hat_ray.storage.places import is_uri
from hat_ray.storage.plain_file import binary_format, expanded, open_plain, printable, read_text

_ARCHITECTURE_BYTES = 1 << 20
_CONFIG, _CTRANSLATE2 = "config.json", "model.bin"
"""Files of a folder of Hugging Face's or CTranslate2's; the second is in the latter alone."""
_FOREIGN = ("a PyTorch checkpoint", "a PyTorch checkpoint or another pickle", "a zip archive")
"""The binary files that models of other programs are: a checkpoint of PyTorch, an `.npz`."""


class Place(StrEnum):
    """What a place holds, in the words of messages."""

    RUN = "a run folder"
    MODEL = "a model folder"
    EXPORT = "an exported model"
    ARCHITECTURE = "an architecture"
    FOREIGN = "a model of another program"
    OTHER = "something else"
    """Also nothing, and the name or the file of a recipe: the command that names a run finds out."""


def place_of(place: str) -> Place:
    """Report what a place holds, by its content; what it holds may still be damaged."""
    place = place if is_uri(place) else str(expanded(place))
    if not is_uri(place) and os.path.isfile(place):
        return _file(place)
    if not (is_uri(place) or os.path.isdir(place)):
        return Place.OTHER
    return _folder(place)


def holds_a_run(place: str) -> bool:
    """Report whether a place is a run, or may be a recipe that stands for one."""
    return place_of(place) in (Place.RUN, Place.OTHER)


def _folder(place: str) -> Place:
    folder = Folder.at(place)
    if is_run_folder(folder):
        return Place.RUN
    if is_model_folder(folder):
        return Place.MODEL
    if is_export(place):
        return Place.EXPORT
    return Place.FOREIGN if folder.exists(_CONFIG) else Place.OTHER


def why_no_weights(place: str, found: Place) -> str:
    """Return in one line what a place lacks for a command that computes with weights."""
    shown = printable(place, 200)
    if found is Place.ARCHITECTURE:
        command = f"hat-ray train sub {shlex.quote(shown)} RECIPE --out FOLDER"
        return f"{shown} is an architecture without weights: train it by `{command}`"
    if found is Place.EXPORT:
        return (
            f"{shown} is an export, which keeps no weights to change: name the run or model folder that it was made of"
        )
    if found is Place.FOREIGN:
        if not os.path.isfile(place) and Folder.at(place).exists(_CTRANSLATE2):
            return f"{shown} is CTranslate2's, which keeps no weights to read: it can teach (corpus.distil_from)"
        kind = _binary(place) if os.path.isfile(place) else None
        command = f"hat-ray import model {shlex.quote(shown)} --out FOLDER"
        return f"{shown} is {kind or found}, no model folder: take it in by `{command}`"
    return f"{shown} holds no model: name a run folder, a model folder or an export"


def _binary(place: str) -> str | None:
    with open_plain(place, "file", HatRayError) as file:
        return binary_format(file.read(1024))


def _file(place: str) -> Place:
    if binary := _binary(place):
        return Place.FOREIGN if binary in _FOREIGN else Place.OTHER
    if not place.endswith((".yml", ".yaml", ".json")) or os.path.getsize(place) > _ARCHITECTURE_BYTES:
        return Place.OTHER
    try:
        keys = read_mapping(read_text(place, "file", SpaceError), place, SpaceError).values.keys()
    except HatRayError:
        return Place.OTHER
    described = {"encoder", "decoder"} <= keys or any(str(key).endswith("-subtransformer") for key in keys)
    return Place.ARCHITECTURE if described else Place.OTHER

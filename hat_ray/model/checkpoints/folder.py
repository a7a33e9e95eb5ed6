"""A model folder: one trained model with all that using it needs, the same from whatever it was made.

`model.safetensors` and `model.json` hold the model, others its sub-words (`Vocabularies.files`), and `about.json` the
rest: languages, the metric of its score, beam search and origin. `about.json` is written last, so its presence shows
that the folder is whole, and it names every other file with its SHA-256.

Decisions
- Names in `about.json` are plain names of files in the folder itself: no path leaves it.
- Sizes are compared with bounds before a file is read.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import ClassVar

from hat_ray.core.codec import read, read_checked, write
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.errors import CheckpointError, FormatError
from hat_ray.model.checkpoints.about import ABOUT, About, is_model_folder
from hat_ray.model.checkpoints.claims import first_line
from hat_ray.model.checkpoints.native import load_sub, read_sub_architecture, save_model
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder

MODEL = "model"

_AGAIN = "make the model folder again"
_MOST_BYTES = {ABOUT: 1 << 20, f"{MODEL}.json": 1 << 20, f"{MODEL}.safetensors": 64 << 30}
_MOST_VOCABULARY_BYTES, _MOST_FILES = 1 << 28, 32
_NAME, _SHA256 = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ModelFolder:
    """A model folder, read whole."""

    model: SubTransformer
    vocabularies: Vocabularies
    about: About


@dataclass(frozen=True)
class _Manifest:
    """Content of `about.json`."""

    FORMAT: ClassVar[int] = 1

    about: About
    files: dict[str, str]
    """SHA-256 of every other file. That of the weights stands in `model.json`, which describes them."""

    def __post_init__(self) -> None:
        if f"{MODEL}.json" not in self.files or not 1 < len(self.files) <= _MOST_FILES:
            raise ValueError(f"files must name {MODEL}.json and 1 to {_MOST_FILES - 1} others")
        if not all(_NAME.fullmatch(name) and _SHA256.fullmatch(digest) for name, digest in self.files.items()):
            raise ValueError("files must have plain names and a SHA-256")


def write_model_folder(folder: Folder, model: SubTransformer, vocabularies: Vocabularies, about: About) -> None:
    """Write a model with its sub-words and its facts; `about.json` comes last."""
    folder.delete(ABOUT)
    save_model(folder, MODEL, model)
    complete_model_folder(folder, vocabularies, about)


def complete_model_folder(folder: Folder, vocabularies: Vocabularies, about: About) -> None:
    """Turn a folder that holds a trained model into a model folder."""
    vocabularies.save(folder)
    contents = {**vocabularies.files(), f"{MODEL}.json": folder.read_bytes(f"{MODEL}.json")}
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    write(folder, ABOUT, _Manifest(about, files))


def read_about(folder: Folder) -> About:
    """Read the facts of a model folder alone; raise HatRayError where it is damaged or none."""
    return _manifest(folder).about


def read_architecture(folder: Folder) -> Architecture:
    """Read the architecture of a model folder, without its weights."""
    manifest = _manifest(folder)
    name = f"{MODEL}.json"
    _require_size(folder, name, _MOST_BYTES[name])
    read_checked(folder, name, manifest.files[name], _AGAIN)
    return read_sub_architecture(folder, MODEL)


def read_model_folder(folder: Folder) -> ModelFolder:
    """Read a model folder; raise HatRayError, in one line, where it is damaged or none."""
    manifest = _manifest(folder)
    for name in (*manifest.files, f"{MODEL}.safetensors"):
        _require_size(folder, name, _MOST_BYTES.get(name, _MOST_VOCABULARY_BYTES))
    contents = {name: read_checked(folder, name, digest, _AGAIN) for name, digest in manifest.files.items()}
    model = load_sub(folder, MODEL).eval()
    try:
        vocabularies = Vocabularies.of_files(contents)
        found = vocabularies.sizes
    except (LookupError, ValueError, RuntimeError, OSError) as error:
        raise CheckpointError(
            f"{folder} holds no vocabularies that can be read ({first_line(error)}): {_AGAIN}"
        ) from error
    if found != (sizes := (model.source_vocab_size, model.target_vocab_size)):
        raise CheckpointError(f"{folder}: its vocabularies have {found} entries, its model {sizes}: {_AGAIN}")
    return ModelFolder(model, vocabularies, manifest.about)


def _manifest(folder: Folder) -> _Manifest:
    if not is_model_folder(folder):
        raise CheckpointError(
            f"{folder} is no model folder (it lacks {ABOUT}): name one that `hat-ray train sub --out` or "
            "`hat-ray import model` made"
        )
    _require_size(folder, ABOUT, _MOST_BYTES[ABOUT])
    try:
        return read(folder, ABOUT, _Manifest, _AGAIN)
    except FormatError as error:
        raise CheckpointError(f"{error}, or take the hat-ray that wrote it") from error


def _require_size(folder: Folder, name: str, most: int) -> None:
    """Raise CheckpointError where a file is missing or larger than any real one."""
    size = folder.size(name)
    if size is None:
        raise CheckpointError(f"{folder} lacks {name}: {_AGAIN}")
    if size > most:
        raise CheckpointError(f"{folder.shown(name)} has {size} bytes, the most that is read is {most}: {_AGAIN}")

"""Open a trained model by what it is: the kind follows from its content, never from a setting.

Decisions
- A file is recognised by its first bytes, a folder by the files that it holds.
- A model of HAT's that is one SubTransformer inside the SuperTransformer's weights is extracted: what its training left
  aside is no part of the model.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from hat_ray.errors import CheckpointError
from hat_ray.foreign.huggingface.read import CONFIG, read_huggingface
from hat_ray.foreign.marian.read import read_marian
from hat_ray.foreign.npz import is_npz
from hat_ray.foreign.opened import ForeignModel
from hat_ray.foreign.vocabularies import beside_huggingface, beside_marian
from hat_ray.model.checkpoints.about import is_model_folder
from hat_ray.model.checkpoints.fairseq import load_hat_checkpoint
from hat_ray.model.checkpoints.folder import read_model_folder
from hat_ray.model.checkpoints.native import load_any
from hat_ray.storage.copies import copied_here
from hat_ray.storage.folder import Folder
from hat_ray.storage.plain_file import binary_format, open_plain, printable

_HEAD_BYTES = 1 << 10
_OTHER_PROGRAMS = (".h5", ".msgpack", ".ot", ".onnx")
"""Copies of the weights for other programs, which stand in folders of Hugging Face's."""
_BESIDE = (".json", ".yml", ".yaml", ".spm")
"""Settings and sub-words that stand beside a model's file."""
_KNOWN = (
    "a checkpoint of HAT or fairseq (.pt), a model of Marian (.npz), a folder of Hugging Face's MarianMTModel, or a "
    "model of hat-ray (a folder, or its .safetensors)"
)


def open_foreign(place: str | Path) -> ForeignModel:
    """Read the trained model that a file or folder holds, of this machine or by a URI.

    Raises CheckpointError, in one line, where there is none.
    """
    with copied_here(str(place), _is_of_a_model, _stands_beside) as path:
        return _opened(path)


def _is_of_a_model(name: str) -> bool:
    return not name.endswith(_OTHER_PROGRAMS)


def _stands_beside(name: str) -> bool:
    return name.endswith(_BESIDE)


def _opened(path: Path) -> ForeignModel:
    place = str(path)
    if os.path.isdir(path):  # pathlib raises for a name that is too long
        return _folder(path)
    with open_plain(path, "the model", CheckpointError) as file:
        kind = binary_format(file.read(_HEAD_BYTES))
    reader = _READERS.get(kind or "")
    if reader is None:
        raise CheckpointError(f"{printable(place, 200)} is {kind or 'no model'}: name {_KNOWN}")
    return reader(path)


def _fairseq(path: Path) -> ForeignModel:
    checkpoint = load_hat_checkpoint(path)
    note = f"trained for {checkpoint.updates:,} updates"
    source, target = (checkpoint.arguments.get(key) for key in ("source_lang", "target_lang"))
    languages = (source, target) if isinstance(source, str) and isinstance(target, str) else None
    if checkpoint.architecture is None:
        return ForeignModel(checkpoint.model, "fairseq", notes=(note,), languages=languages)
    model = checkpoint.model.extract(checkpoint.architecture)
    return ForeignModel(model, "fairseq", notes=(note,), languages=languages)


def _archive(path: Path) -> ForeignModel:
    with open_plain(path, "the model", CheckpointError) as file:
        if not is_npz(file):
            raise CheckpointError(f"{printable(str(path), 200)} is a zip archive of another kind: name {_KNOWN}")
    return read_marian(path, beside_marian(path))


def _native(path: Path) -> ForeignModel:
    return ForeignModel(load_any(Folder.at(path.parent), path.stem).eval(), "hat-ray")


def _folder(path: Path) -> ForeignModel:
    names = sorted(one.stem for one in path.glob("*.safetensors") if one.with_suffix(".json").is_file())
    if (path / CONFIG).is_file():
        return read_huggingface(path, beside_huggingface(path))
    if is_model_folder(Folder.at(path)):
        held = read_model_folder(Folder.at(path))
        return ForeignModel(held.model, "hat-ray", held.vocabularies)
    if len(names) == 1:
        return _native(path / f"{names[0]}.safetensors")
    shown = printable(str(path), 200)
    if names:
        raise CheckpointError(f"{shown} holds the models {', '.join(names)[:200]}: name the .safetensors of one")
    raise CheckpointError(f"{shown} holds no model: name {_KNOWN}")


_READERS: Mapping[str, Callable[[Path], ForeignModel]] = {
    "a PyTorch checkpoint": _fairseq,
    "a PyTorch checkpoint or another pickle": _fairseq,
    "a safetensors file": _native,
    "a zip archive": _archive,
}

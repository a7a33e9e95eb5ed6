"""Write a model as a folder that Marian's decoder reads: weights, sub-words and settings."""

from collections.abc import Mapping

import yaml

from hat_ray.corpus.vocabulary import MISSING, Vocabularies, Vocabulary
from hat_ray.corpus.vocabulary.subwords import MODEL_FILE, SENTENCEPIECE
from hat_ray.errors import CheckpointError
from hat_ray.foreign.marian.settings import is_decoded_otherwise
from hat_ray.foreign.marian.write import marian_npz
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.storage.folder import Folder

MODEL, SETTINGS = "model.npz", "decoder.yml"
_MOST_TOKENS = 1_000
"""Marian crops longer sentences; without it those beyond 1,000 tokens end its process."""


def write_marian_folder(
    folder: Folder,
    model: SubTransformer,
    vocabularies: Vocabularies,
    search: Mapping[str, float] | None = None,
    name: str = "this model",
) -> tuple[str, ...]:
    """Write `model.npz`, the sub-words and, last, `decoder.yml`; return what is worth knowing of them.

    `search` names `beam` and `length_penalty`, `name` the model in messages. Nothing is written of a model that
    Marian's format cannot hold.
    """
    if is_decoded_otherwise(model.architecture, model.config):
        raise CheckpointError(
            f"Marian 1.12 decodes {name} otherwise than it was trained: with model.normalize_before it normalises no "
            "keys of self-attention after the first word; set it to false, or take decoder_cells ssru"
        )
    content = marian_npz(model, (vocabularies.source.order, vocabularies.target.order), name)
    sides = {"": vocabularies.source} if vocabularies.joint else _sides(vocabularies)
    files: dict[str, bytes] = {}
    notes: list[str] = []
    names = []
    for side, vocabulary in sides.items():
        name, made = _files(side, vocabulary)
        names.append(name)
        files |= made
        if vocabulary.kind != SENTENCEPIECE:
            notes.append(f"{name} lists sub-words: give Marian text that is cut into them, and join what it writes")
    search = search or {}
    settings = {
        "relative-paths": True,
        "models": [MODEL],
        "vocabs": names * 2 if len(names) == 1 else names,
        "beam-size": int(search.get("beam", 5)),
        "normalize": float(search.get("length_penalty", 1.0)),
        "max-length": _MOST_TOKENS,
        "max-length-crop": True,
    }
    folder.write_bytes(MODEL, content)
    for name, made_file in files.items():
        folder.write_bytes(name, made_file)
    folder.write_text(SETTINGS, yaml.safe_dump(settings, sort_keys=False))
    return tuple(notes)


def _sides(vocabularies: Vocabularies) -> dict[str, Vocabulary]:
    return {"source": vocabularies.source, "target": vocabularies.target}


def _files(side: str, vocabulary: Vocabulary) -> tuple[str, dict[str, bytes]]:
    """Return the file that Marian reads a vocabulary from, and the content of all files."""
    if vocabulary.kind == SENTENCEPIECE:
        name = f"{side or 'vocab'}.spm"
        return name, {name: vocabulary.files()[MODEL_FILE]}
    name = f"{side + '.' if side else ''}vocab.yml"
    numbers = {
        piece: theirs for piece, theirs in zip(vocabulary.pieces(), vocabulary.order, strict=True) if theirs != MISSING
    }
    if len(numbers) < sum(theirs != MISSING for theirs in vocabulary.order):
        raise CheckpointError("Marian's vocabulary names each sub-word once, this one repeats some: take another model")
    if lacking := [name for name in ("</s>", "<unk>") if name not in numbers]:
        raise CheckpointError(f"Marian's vocabulary needs {' and '.join(lacking)}, which this one names otherwise")
    files = {name: yaml.safe_dump(numbers, allow_unicode=True, sort_keys=False).encode()}
    if MODEL_FILE in vocabulary.files():
        files[f"{side or 'source'}.spm"] = vocabulary.files()[MODEL_FILE]
    return name, files

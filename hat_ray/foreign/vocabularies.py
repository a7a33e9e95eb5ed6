"""The vocabularies that stand beside a foreign model, by the names that its program gives them.

Decisions
- Only files of the model's own folder are opened: a setting that names another place is followed by its last name.
- Settings of Marian's decoder name the vocabularies, source first; without settings one `.spm` serves both sides.
"""

import os
from pathlib import Path

from hat_ray.core.yaml_text import read_mapping
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.corpus.vocabulary.config import VocabularyConfig
from hat_ray.corpus.vocabulary.given import given_vocabularies
from hat_ray.errors import CheckpointError
from hat_ray.storage.plain_file import read_text

_LANGUAGES = ("en", "en")  # of Moses' tokeniser, which none of these asks for
_SOURCE_PIECES, _TARGET_PIECES = "source.spm", "target.spm"
_LISTS = (".yml", ".yaml", ".json")


def beside_huggingface(folder: Path) -> Vocabularies | None:
    """Open the vocabularies of a MarianTokenizer; None where there are none."""
    names = ("vocab.json", "target_vocab.json", _SOURCE_PIECES, _TARGET_PIECES)
    source, target, pieces, target_pieces = (name if (folder / name).is_file() else "" for name in names)
    if not (source and pieces):
        return None
    config = VocabularyConfig(source=source, target=target, pieces=pieces, target_pieces=target_pieces)
    return given_vocabularies(config, _LANGUAGES, str(folder))


def beside_marian(path: Path) -> Vocabularies | None:
    """Open the vocabularies of Marian's decoder; None where none can be found."""
    folder = path.parent
    source, target = _named(path) or _lone(folder)
    if not source:
        return None
    pieces = [name if (folder / name).is_file() else "" for name in (_SOURCE_PIECES, _TARGET_PIECES)]
    if not source.endswith(_LISTS):  # it cuts lines itself
        pieces = ["", ""]
    config = VocabularyConfig(source=source, target=target, pieces=pieces[0], target_pieces=pieces[1])
    return given_vocabularies(config, _LANGUAGES, str(folder))


def _named(path: Path) -> tuple[str, str] | None:
    """Return the names of source and target vocabulary in the settings beside a model, where both files are there."""
    settings = [Path(f"{path}.decoder.yml"), Path(f"{path}.yml"), path.parent / "decoder.yml"]
    for place in settings:
        if not place.is_file():
            continue
        text = read_text(place, "the settings", CheckpointError)
        named = read_mapping(text, str(place), CheckpointError).values.get("vocabs")
        if isinstance(named, list) and len(named) == 2 and all(isinstance(name, str) for name in named):
            names = Path(named[0]).name, Path(named[1]).name
            if all(os.path.isfile(path.parent / name) for name in names):
                return names
    return None


def _lone(folder: Path) -> tuple[str, str]:
    """Return the one SentencePiece model of a folder for both sides; empty names where there is not one."""
    found = sorted(one.name for one in folder.glob("*.spm"))
    return (found[0], found[0]) if len(found) == 1 else ("", "")

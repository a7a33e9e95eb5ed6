"""Vocabularies of the source and the target, and the files that they are kept as.

One SentencePiece model for both is kept as `sentencepiece.model` alone. All others have a `vocabulary.json` beside
their files, which names the kind and the files of each side.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hat_ray.corpus.vocabulary.protocol import Vocabulary
from hat_ray.corpus.vocabulary.subwords import KINDS, MODEL_FILE, SENTENCEPIECE, open_subwords
from hat_ray.errors import CorpusError, DamagedError
from hat_ray.storage.folder import Folder

INDEX = "vocabulary.json"

_MOST_FILES = 8


@dataclass(frozen=True)
class Vocabularies:
    """The vocabulary of the source and that of the target."""

    source: Vocabulary
    target: Vocabulary

    @classmethod
    def of_both(cls, vocabulary: Vocabulary) -> "Vocabularies":
        """Return one vocabulary for both sides."""
        return cls(vocabulary, vocabulary)

    @property
    def joint(self) -> bool:
        """Whether each id stands for the same entry on both sides, so that they can share embeddings."""
        return self._same or self.source.pieces() == self.target.pieces()

    @property
    def _same(self) -> bool:
        return self.source is self.target

    @property
    def sizes(self) -> tuple[int, int]:
        """Entries of the source's and the target's."""
        return len(self.source), len(self.target)

    def files(self) -> dict[str, bytes]:
        """Return the files that `of_files` opens again, by plain name."""
        if self._same and self.source.kind == SENTENCEPIECE:
            return self.source.files()
        sides = {"both": self.source} if self._same else {"source": self.source, "target": self.target}
        index: dict[str, Any] = {}
        files: dict[str, bytes] = {}
        for side, vocabulary in sides.items():
            own = {f"{side}.{name}": (name, content) for name, content in vocabulary.files().items()}
            index[side] = {"kind": vocabulary.kind, "files": {name: placed for placed, (name, _) in own.items()}}
            files |= {placed: content for placed, (_, content) in own.items()}
        return {INDEX: json.dumps(index, sort_keys=True).encode(), **files}

    @classmethod
    def of_files(cls, files: Mapping[str, bytes]) -> "Vocabularies":
        """Open the result of `files`."""
        return cls.read(files, files.__getitem__)

    @classmethod
    def read(cls, names: Collection[str], read: Callable[[str], bytes]) -> "Vocabularies":
        """Open the files of a place that holds files of these names; `read` returns the content of one.

        Raises DamagedError where the index is not one.
        """
        if INDEX not in names:
            return cls.of_both(_open(SENTENCEPIECE, {MODEL_FILE: read(MODEL_FILE)}))
        sides = _sides(read(INDEX), names)
        opened = {
            side: _open(kind, {name: read(placed) for name, placed in files.items()})
            for side, (kind, files) in sides.items()
        }
        return cls.of_both(opened["both"]) if "both" in opened else cls(opened["source"], opened["target"])

    @classmethod
    def load(cls, folder: Folder) -> "Vocabularies":
        """Open the files of a folder."""
        return cls.read(folder.list(), folder.read_bytes)

    def save(self, folder: Folder) -> None:
        """Write the files into a folder; the index comes last."""
        for name, content in sorted(self.files().items(), key=lambda file: file[0] == INDEX):
            folder.write_bytes(name, content)


def _open(kind: str, files: Mapping[str, bytes]) -> Vocabulary:
    try:
        return open_subwords(kind, files)
    except ValueError as error:
        raise CorpusError(f"a vocabulary of kind {kind} cannot be opened: {error}") from error


def _sides(content: bytes, names: Collection[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Return kind and files, by their own names, of each side that an index names."""
    try:
        index = json.loads(content)
        sides = {str(side): _side(entry, names) for side, entry in index.items()}
        if set(sides) not in ({"both"}, {"source", "target"}):
            raise ValueError(f"it names the sides {sorted(sides)}")
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        why = " ".join(str(error).split())[:100]
        raise DamagedError(f"{INDEX} is damaged ({why}): make the vocabulary again") from error
    return sides


def _side(entry: Any, names: Collection[str]) -> tuple[str, dict[str, str]]:
    kind, files = entry["kind"], entry["files"]
    if kind not in KINDS:
        raise ValueError(f"it names the kind {kind!r:.40}")
    if not 0 < len(files) <= _MOST_FILES:
        raise ValueError(f"a side has 1 to {_MOST_FILES} files")
    for name, placed in files.items():
        if placed not in names or "/" in placed:
            raise ValueError(f"it names {placed!r:.60} for {name!r:.60}, which is not there")
    return kind, dict(files)

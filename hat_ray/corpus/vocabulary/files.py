"""Vocabularies of the source and the target, and the files that they are kept as.

One SentencePiece model for both is kept as `sentencepiece.model` alone. All others have a `vocabulary.json` beside
their files, which names the kind and the files of each side.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from hat_ray.corpus.vocabulary.protocol import Vocabulary
from hat_ray.corpus.vocabulary.subwords import MODEL_FILE, SENTENCEPIECE, open_sides, open_subwords
from hat_ray.errors import DamagedError, in_one_line
from hat_ray.storage.folder import Folder

INDEX = "vocabulary.json"

T = TypeVar("T")


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
    def is_one_model(self) -> bool:
        """Whether both sides share one SentencePiece model, which has a file of its own and no index."""
        return self._same and self.source.kind == SENTENCEPIECE

    @property
    def _same(self) -> bool:
        return self.source is self.target

    @property
    def sizes(self) -> tuple[int, int]:
        """Entries of the source's and the target's."""
        return len(self.source), len(self.target)

    def files(self) -> dict[str, bytes]:
        """Return the files that `of_files` opens again, by plain name."""
        if self.is_one_model:
            return self.source.files()
        index, files = self.indexed()
        return {INDEX: json.dumps(index, sort_keys=True).encode(), **files}

    def indexed(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return the index that `open_sides` reads, and the files that it names."""
        sides = {"both": self.source} if self._same else {"source": self.source, "target": self.target}
        index: dict[str, Any] = {}
        files: dict[str, bytes] = {}
        for side, vocabulary in sides.items():
            own = vocabulary.files()
            placed = {name: f"{side}.{name}" for name in own}
            index[side] = {"kind": vocabulary.kind, "files": placed}
            files |= {placed[name]: content for name, content in own.items()}
        return index, files

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
            return cls.of_both(_opened(lambda: open_subwords(SENTENCEPIECE, {MODEL_FILE: read(MODEL_FILE)})))
        return cls(*_opened(lambda: open_sides(json.loads(read(INDEX)), names, read)))

    @classmethod
    def load(cls, folder: Folder) -> "Vocabularies":
        """Open the files of a folder."""
        return cls.read(folder.list(), folder.read_bytes)

    def save(self, folder: Folder) -> None:
        """Write the files into a folder; the index comes last."""
        for name, content in sorted(self.files().items(), key=lambda file: file[0] == INDEX):
            folder.write_bytes(name, content)


def _opened(opening: Callable[[], T]) -> T:
    """Return the opened vocabulary; raise DamagedError in place of a ValueError."""
    try:
        return opening()
    except DamagedError:
        raise
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"a vocabulary cannot be opened ({in_one_line(error, 300)}): make it again") from error

"""A SentencePiece model as a vocabulary, whatever its own ids are."""

from collections.abc import Sequence
from functools import cached_property

import sentencepiece

from hat_ray.corpus.vocabulary.protocol import BOS, EOS, MISSING, PAD, SPECIAL_IDS, UNK
from hat_ray.errors import CorpusError

KIND, MODEL_FILE = "sentencepiece", "sentencepiece.model"

_MADE_UP = ("<s>", "<pad>", "</s>", "<unk>")
"""Text of the special entries that a model lacks."""


class SentencePieceVocabulary:
    """Text to token ids and back by a SentencePiece model. Pickles as its bytes."""

    kind = KIND

    def __init__(self, model: bytes) -> None:
        self._model = model

    def to_bytes(self) -> bytes:
        """Return the model."""
        return self._model

    def files(self) -> dict[str, bytes]:
        """Return the model as a file."""
        return {MODEL_FILE: self._model}

    @classmethod
    def of_files(cls, files: dict[str, bytes]) -> "SentencePieceVocabulary":
        """Open the result of `files`; raises CorpusError where it is no SentencePiece model."""
        opened = cls(files[MODEL_FILE])
        try:
            len(opened.order)
        except (RuntimeError, ValueError, UnicodeDecodeError) as error:  # SentencePiece's own words name no file
            why = " ".join(str(error).split())[:100]
            raise CorpusError(f"a vocabulary must be a SentencePiece model, got something else ({why})") from error
        return opened

    def __getstate__(self) -> dict[str, bytes]:
        return {"_model": self._model}

    def __len__(self) -> int:
        return len(self.order)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """SentencePiece's id of each of our ids."""
        model = self._processor
        special = {BOS: model.bos_id(), PAD: model.pad_id(), EOS: model.eos_id(), UNK: model.unk_id()}
        first = [special[ours] for ours in SPECIAL_IDS]
        taken = set(first)
        return (*first, *(theirs for theirs in range(model.get_piece_size()) if theirs not in taken))

    def pieces(self) -> list[str]:
        """Return the text of every token, in their order."""
        return [
            _MADE_UP[ours] if theirs == MISSING else str(self._processor.id_to_piece(theirs))
            for ours, theirs in enumerate(self.order)
        ]

    def encode(self, line: str) -> list[int]:
        """Return the tokens of a line with EOS at the end, without BOS."""
        return [*self._from_theirs(self._processor.encode(line)), EOS]

    def encode_lines(self, lines: Sequence[str], *, threads: int = 1) -> list[list[int]]:
        """Return `encode` of many lines at once."""
        encoded = self._processor.encode(list(lines), num_threads=threads)
        return [[*self._from_theirs(tokens), EOS] for tokens in encoded]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; BOS, PAD and EOS are dropped, UNK shows as a double question mark."""
        theirs = [self.order[int(token)] for token in tokens if token not in (BOS, PAD, EOS)]
        return str(self._processor.decode(theirs)).strip()

    def _from_theirs(self, tokens: list[int]) -> list[int]:
        ours = self._ours
        return tokens if ours is None else [ours[token] for token in tokens]

    @cached_property
    def _ours(self) -> list[int] | None:
        """Our id of each of SentencePiece's; None where they are the same."""
        if self.order == tuple(range(len(self.order))):
            return None
        ours = [0] * int(self._processor.get_piece_size())
        for mine, theirs in enumerate(self.order):
            if theirs != MISSING:
                ours[theirs] = mine
        return ours

    @cached_property
    def _processor(self) -> sentencepiece.SentencePieceProcessor:
        return sentencepiece.SentencePieceProcessor(model_proto=self._model)

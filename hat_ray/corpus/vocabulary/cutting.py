"""Cut lines into pieces of words, and join them. Imports nothing of hat-ray: exports hold a copy of this file.

The libraries are those that the models were trained with. Each is needed only by the vocabularies that use it.
"""

import io
from collections.abc import Mapping
from typing import Any

try:
    import sentencepiece
except ModuleNotFoundError:  # named when a vocabulary that needs it is opened
    sentencepiece = None  # type: ignore[assignment, unused-ignore]
try:
    import sacremoses
except ModuleNotFoundError:
    sacremoses = None
try:
    from subword_nmt import apply_bpe
except ModuleNotFoundError:
    apply_bpe = None

_MOST_CACHED = 1_000_000  # words whose sub-words are kept


class Pieces:
    """What cuts a line into pieces, and joins them."""

    def cut(self, line: str) -> list[str]:
        """Return the pieces of a line."""
        raise NotImplementedError

    def join(self, pieces: list[str]) -> str:
        """Return the line that pieces make."""
        raise NotImplementedError


class SentencePieces(Pieces):
    """Cuts by a SentencePiece model."""

    def __init__(self, model: bytes) -> None:
        self._processor = open_sentencepiece(model)

    def cut(self, line: str) -> list[str]:
        """Return SentencePiece's pieces."""
        return list(self._processor.encode(line, out_type=str))

    def join(self, pieces: list[str]) -> str:
        """Return the text of pieces."""
        return str(self._processor.decode(pieces))


class WordPieces(Pieces):
    """Cuts at spaces, after Moses' tokeniser and before BPE where they are asked for.

    `text` names `tokenise` (moses or none), `language`, `dash_splits`, `escape` and `lowercase`.
    """

    def __init__(self, text: Mapping[str, Any], codes: str | None) -> None:
        self._text, self._moses, self._bpe = dict(text), None, None
        if text["tokenise"] == "moses":
            if sacremoses is None:
                raise ValueError("Moses' tokenisation needs the library sacremoses: pip install sacremoses")
            language = str(text["language"])
            self._moses = sacremoses.MosesTokenizer(lang=language), sacremoses.MosesDetokenizer(lang=language)
        if codes is not None:
            if apply_bpe is None:
                raise ValueError("BPE codes need the library subword-nmt: pip install subword-nmt")
            self._bpe = apply_bpe.BPE(io.StringIO(codes))

    def cut(self, line: str) -> list[str]:
        """Return words, or their parts, of which all but a word's last end with @@."""
        if self._moses is not None:
            options = {"aggressive_dash_splits": self._text["dash_splits"], "escape": self._text["escape"]}
            line = self._moses[0].tokenize(line, return_str=True, **options)
        if self._text["lowercase"]:
            line = line.lower()
        if self._bpe is not None:
            if len(self._bpe.cache) > _MOST_CACHED:
                self._bpe.cache.clear()
            line = self._bpe.process_line(" ".join(line.split()))
        return line.split()

    def join(self, pieces: list[str]) -> str:
        """Return the words, put together as people write them."""
        line = " ".join(pieces)
        if self._bpe is not None:
            line = f"{line} ".replace("@@ ", "").rstrip()
        if self._moses is None:
            return line
        return str(self._moses[1].detokenize(line.split(), return_str=True, unescape=self._text["escape"]))


def open_sentencepiece(model: bytes) -> Any:
    """Open a SentencePiece model; raise ValueError, in one line, where it is none."""
    if sentencepiece is None:
        raise ValueError("these sub-words need the library sentencepiece: pip install sentencepiece")
    if not model:
        raise ValueError("it is no SentencePiece model: it is empty")
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model)
    except Exception as error:  # the library's have no type in common
        raise ValueError(f"it is no SentencePiece model ({one_line(error)})") from error


def one_line(error: BaseException) -> str:
    """Return a library's error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]

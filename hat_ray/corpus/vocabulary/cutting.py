"""Cut lines into pieces of words, and join them. Imports nothing of hat-ray: exports hold a copy of this file.

The libraries are those that the models were trained with. Each is imported only for a vocabulary that uses it.
"""

import importlib
import io
from collections.abc import Mapping
from typing import Any

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
            moses, language = library("sacremoses", "sacremoses"), str(text["language"])
            self._moses = moses.MosesTokenizer(lang=language), moses.MosesDetokenizer(lang=language)
        if codes is not None:
            self._bpe = library("subword_nmt.apply_bpe", "subword-nmt").BPE(io.StringIO(codes))

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
    if not model:
        raise ValueError("it is no SentencePiece model: it is empty")
    try:
        return library("sentencepiece", "sentencepiece").SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:  # the library's have no type in common
        raise ValueError(f"it is no SentencePiece model ({one_line(error)})") from error


def library(module: str, package: str) -> Any:
    """Import a library; raise ValueError, with the remedy, where it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"these sub-words need the library {package}: pip install {package}") from error


def one_line(error: BaseException) -> str:
    """Return a library's error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]

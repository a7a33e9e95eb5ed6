"""Sub-words: text to token ids and back. Needs nothing of hat-ray but `cutting.py`: exports hold a copy of both.

A kind of vocabulary is a class that is opened from the files which its `files` returns. Ids are ours, whatever those
of the files are: BOS 0, PAD 1, EOS 2, UNK 3, then all others in the order of their own ids. Raises ValueError, in one
line, for files that are not of the kind, and where a library is missing.

Decisions
- Text that looks like a special token is text: BOS, PAD and EOS never come out of a line.
- The libraries are those that the models were trained with: sentencepiece, subword-nmt, sacremoses, tokenizers. Each
  is needed only by the vocabularies that use it.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any
from unicodedata import category

from hat_ray.corpus.vocabulary.cutting import Pieces, SentencePieces, WordPieces, library, one_line, open_sentencepiece

BOS, PAD, EOS, UNK = 0, 1, 2, 3
SPECIAL_IDS = (BOS, PAD, EOS, UNK)
MISSING = -1
"""The foreign id of an entry that the foreign vocabulary lacks."""
SPECIAL_PIECES = ("<s>", "<pad>", "</s>", "<unk>")
"""Text of the special entries that a vocabulary lacks."""

SENTENCEPIECE, WORDS, HUGGINGFACE = "sentencepiece", "words", "huggingface"
MODEL_FILE, WORDS_FILE, CODES_FILE, TOKENIZER_FILE = (
    *("sentencepiece.model", "words.json", "bpe.codes"),
    "tokenizer.json",
)

_MOST_ENTRIES, _MOST_SIDE_FILES = 10_000_000, 8
_LANGUAGE_MARK = re.compile(r"\s*(>>[^<>\s]+<<)")

_BLANK = "\u2581"
"""SentencePiece's mark of a blank, which text may hold as well."""
_SHIELDED = "\ufdd1"
"""Stands for that mark in text, within a model: Unicode keeps this code point for internal use, so no text holds it."""


def shielded(line: str) -> str:
    """Return a line whose U+2581 SentencePiece does not take for blanks."""
    return line.replace(_BLANK, _SHIELDED)


def is_blank(line: str) -> bool:
    """Report whether a line holds nothing to translate: blanks, controls, and marks without a width."""
    return all(letter.isspace() or letter == _BLANK or category(letter) in ("Cc", "Cf") for letter in line)


class Subwords:
    """Text to token ids and back. Pickles as its files."""

    kind: str

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = dict(files)

    def __getstate__(self) -> dict[str, Any]:
        return {"_files": self._files}

    def files(self) -> dict[str, bytes]:
        """Return the files that it is opened from again, by plain name."""
        return dict(self._files)

    def __len__(self) -> int:
        return len(self.order)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The foreign id of each of our ids, `MISSING` where the foreign vocabulary has none."""
        special: list[int] = []
        for theirs in self._special():
            special.append(theirs if 0 <= theirs < self._size() and theirs not in special else MISSING)
        taken = set(special)
        return (*special, *(theirs for theirs in range(self._size()) if theirs not in taken))

    def pieces(self) -> list[str]:
        """Return the text of every entry, in the order of our ids."""
        return [
            SPECIAL_PIECES[ours] if theirs == MISSING else self._piece(theirs) for ours, theirs in enumerate(self.order)
        ]

    def encode(self, line: str) -> list[int]:
        """Return the tokens of a line with EOS at the end, without BOS."""
        return self.encode_lines([line])[0]

    def encode_lines(self, lines: Sequence[str], *, threads: int = 1) -> list[list[int]]:
        """Return `encode` of many lines at once."""
        ours = self._ours
        cut = self._cut(list(lines), threads)
        if ours is None:
            return [[*tokens, EOS] for tokens in cut]
        return [[*(ours[token] for token in tokens), EOS] for tokens in cut]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; BOS, PAD and EOS are dropped."""
        kept = (self.order[int(token)] for token in tokens if token not in (BOS, PAD, EOS))
        return self._joined([theirs for theirs in kept if theirs != MISSING]).strip()

    @cached_property
    def _ours(self) -> list[int] | None:
        """Our id of each foreign one; None where they are the same. What must not come out of text is UNK."""
        if self.order == tuple(range(len(self.order))):
            return None
        ours = [UNK] * self._size()
        for mine, theirs in enumerate(self.order):
            if theirs != MISSING:
                ours[theirs] = mine
        return ours

    def _special(self) -> tuple[int, int, int, int]:
        """Return the foreign ids of BOS, PAD, EOS and UNK; a negative one where there is none."""
        raise NotImplementedError

    def _size(self) -> int:
        """Return the number of foreign ids."""
        raise NotImplementedError

    def _piece(self, theirs: int) -> str:
        raise NotImplementedError

    def _cut(self, lines: list[str], threads: int) -> list[list[int]]:
        """Return the foreign ids of lines, without any special one but UNK."""
        raise NotImplementedError

    def _joined(self, theirs: list[int]) -> str:
        raise NotImplementedError


class SentencePieceSubwords(Subwords):
    """A SentencePiece model, by its own ids."""

    kind = SENTENCEPIECE

    def _special(self) -> tuple[int, int, int, int]:
        model = self._processor
        return model.bos_id(), model.pad_id(), model.eos_id(), model.unk_id()

    def _size(self) -> int:
        return int(self._processor.get_piece_size())

    def _piece(self, theirs: int) -> str:
        return str(self._processor.id_to_piece(theirs))

    def _cut(self, lines: list[str], threads: int) -> list[list[int]]:
        kept = [shielded(line) for line in lines] if self._shields else lines
        if len(kept) == 1:  # of a list the library makes a thread, which takes longer than a sentence
            return [self._processor.encode(kept[0])]
        cut: list[list[int]] = self._processor.encode(kept, num_threads=threads)
        return cut

    def _joined(self, theirs: list[int]) -> str:
        text = str(self._processor.decode(theirs))  # UNK shows as a double question mark
        return text.replace(_SHIELDED, _BLANK)

    @cached_property
    def _shields(self) -> bool:
        """Whether the model can spell the shielded mark: in bytes, or as a character that training showed."""
        model, unknown = self._processor, self._processor.unk_id()
        return any(model.piece_to_id(piece) != unknown for piece in (_SHIELDED, "<0xEF>"))

    @cached_property
    def _processor(self) -> Any:
        return open_sentencepiece(self._files[MODEL_FILE])


class WordSubwords(Subwords):
    """A list of pieces, which something else cuts lines into: a SentencePiece model, BPE codes, or spaces alone.

    `words.json` holds the pieces by their ids, the ids of the special ones, and what happens to text before and after.
    """

    kind = WORDS

    @cached_property
    def _words(self) -> dict[str, Any]:
        words: dict[str, Any] = json.loads(self._files[WORDS_FILE])
        return words

    def _special(self) -> tuple[int, int, int, int]:
        bos, pad, eos, unk = map(int, self._words["special"])
        return bos, pad, eos, unk

    def _size(self) -> int:
        return len(self._words["pieces"])

    def _piece(self, theirs: int) -> str:
        return str(self._words["pieces"][theirs])

    def _cut(self, lines: list[str], threads: int) -> list[list[int]]:
        known, unknown = self._ids
        return [[known.get(piece, unknown) for piece in self._pieces_of(line)] for line in lines]

    def _joined(self, theirs: list[int]) -> str:
        return self._segmenter.join([self._words["pieces"][one] for one in theirs])

    def _pieces_of(self, line: str) -> list[str]:
        mark = _LANGUAGE_MARK.match(line)  # of Marian's models with several target languages
        if mark and mark[1] in self._ids[0]:
            return [mark[1], *self._segmenter.cut(line[mark.end() :])]
        return self._segmenter.cut(line)

    @cached_property
    def _ids(self) -> tuple[dict[str, int], int]:
        """The foreign id of each piece that text can have, the last of several, and that of all others."""
        special = self._special()
        ids = {str(piece): theirs for theirs, piece in enumerate(self._words["pieces"]) if theirs not in special}
        if special[UNK] < 0:
            raise ValueError("a list of words needs an entry <unk> for all others: add it, or name another file")
        return ids, special[UNK]

    @cached_property
    def _segmenter(self) -> "Pieces":
        if MODEL_FILE in self._files:
            return SentencePieces(self._files[MODEL_FILE])
        codes = self._files.get(CODES_FILE)
        return WordPieces(self._words["text"], None if codes is None else codes.decode("utf-8"))


class HuggingFaceSubwords(Subwords):
    """A `tokenizer.json` of the library tokenizers."""

    kind = HUGGINGFACE

    _NAMES: Sequence[Sequence[str]] = (
        ("<s>", "[BOS]", "<bos>", "[CLS]", "<|startoftext|>"),
        ("<pad>", "[PAD]", "<|pad|>"),
        ("</s>", "[EOS]", "<eos>", "[SEP]", "<|endoftext|>"),
        ("<unk>", "[UNK]", "<|unk|>"),
    )
    """Usual names of the special tokens: a file does not say which is which."""

    def _special(self) -> tuple[int, int, int, int]:
        ids = [[self._tokenizer.token_to_id(name) for name in names] for names in self._NAMES]
        bos, pad, eos, unk = (next((one for one in found if one is not None), MISSING) for found in ids)
        return bos, pad, eos, unk

    def _size(self) -> int:
        largest = int(max(self._tokenizer.get_vocab().values(), default=-1))
        if largest >= _MOST_ENTRIES:
            raise ValueError(f"a tokenizer.json has at most {_MOST_ENTRIES} entries, got the id {largest}")
        return largest + 1

    def _piece(self, theirs: int) -> str:
        return str(self._tokenizer.id_to_token(theirs) or f"<unused{theirs}>")

    def _cut(self, lines: list[str], threads: int) -> list[list[int]]:
        special, unknown = set(self._special()[:UNK]), self.order[UNK]
        cut = []
        for line in lines:
            ids = self._tokenizer.encode(line, add_special_tokens=False).ids
            ids = [unknown if token in special else token for token in ids]
            cut.append([token for token in ids if token != MISSING])
        return cut

    def _joined(self, theirs: list[int]) -> str:
        return str(self._tokenizer.decode(theirs, skip_special_tokens=False))

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizers = library("tokenizers", "tokenizers")
        try:
            opened = tokenizers.Tokenizer.from_str(self._files[TOKENIZER_FILE].decode("utf-8"))
        except Exception as error:  # the library raises Exception itself
            raise ValueError(f"it is no tokenizer.json of the library tokenizers ({one_line(error)})") from error
        opened.no_padding()
        opened.no_truncation()
        opened.encode_special_tokens = True  # so that they are text
        return opened


KINDS: Mapping[str, type[Subwords]] = {
    kind.kind: kind for kind in (SentencePieceSubwords, WordSubwords, HuggingFaceSubwords)
}


def open_sides(index: Any, names: Collection[str], read: Callable[[str], bytes]) -> tuple[Subwords, Subwords]:
    """Open the vocabularies of the source and the target that an index names: one object where they share one.

    `names` are the files of its place, `read` returns the content of one. Raises ValueError, in one line.
    """
    if not isinstance(index, dict) or set(index) not in ({"both"}, {"source", "target"}):
        raise ValueError("it must name both sides' vocabulary, or the source's and the target's")
    opened = []
    for side in sorted(index):
        entry = index[side]
        files = entry.get("files") if isinstance(entry, dict) else None
        if not isinstance(files, dict) or not 0 < len(files) <= _MOST_SIDE_FILES:
            raise ValueError(f"the vocabulary of {side} must name 1 to {_MOST_SIDE_FILES} files")
        for placed in files.values():
            if placed not in names:
                raise ValueError(f"the vocabulary of {side} names {placed!r:.60}, which is not there")
        opened.append(open_subwords(str(entry.get("kind")), {name: read(placed) for name, placed in files.items()}))
    return opened[0], opened[-1]


def open_subwords(kind: str, files: Mapping[str, bytes]) -> Subwords:
    """Open the files of a kind; raise ValueError, in one line, where they are not of it."""
    if kind not in KINDS:
        raise ValueError(f"a vocabulary is {', '.join(KINDS)}, got {kind!r:.40}")
    opened = KINDS[kind](files)
    try:
        opened.pieces()
        opened.encode("a")
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is no whole vocabulary of kind {kind} ({one_line(error)})") from error
    return opened

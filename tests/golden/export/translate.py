"""Translate with a model that hat-ray exported. Needs no hat-ray: the libraries of its sub-words and its runtime.

    python translate.py < source.txt > target.txt

    from translate import ExportedTranslator
    ExportedTranslator("folder").translate(["A dog runs."])

This is the front end that every export has: manifest, lines, command line. The exporter puts the text of the sub-words'
modules in the place of their import, and the text of the runtime's `engine_*.py` behind this text.

Exit codes: 0 success; 1 output cannot be written; 2 a mistake in what was given, named in one line. A reader that ends
early (`| head -1`) or Ctrl-C ends it by its signal, and quietly.

Decisions
- What is read has bounds: sizes, numbers of files, and every number that memory or time depends on.
- Names are plain names of plain files in the folder itself: no path, no link, no pipe, no device.
- A SHA-256 of each file, and of the manifest itself, shows damage, and no forgery: the author of a changed file can
  change its hash as well. An export is not signed; take it from where you would take a program.
"""

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # the exported folder, or the current one: what lies there is data, and is not to be imported

import signal

if __name__ == "__main__":  # Ctrl-C, and a reader that ends early, end it at once and quietly, as they end any filter
    for signal_name in {"SIGINT", "SIGPIPE"} & set(dir(signal)):
        signal.signal(getattr(signal, signal_name), signal.SIG_DFL)

import argparse
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO


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
        cut: list[list[int]] = self._processor.encode(lines, num_threads=threads)
        return cut

    def _joined(self, theirs: list[int]) -> str:
        return str(self._processor.decode(theirs))  # UNK shows as a double question mark

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


"""What decoding is asked for and finds, in tokens and as text. Needs no library."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

Pairs = tuple[tuple[int, int], ...]
"""Which source token belongs to which token of the translation, each counted from 0."""


@dataclass(frozen=True)
class Found:
    """A hypothesis of a source."""

    tokens: tuple[int, ...]
    """Without its end of sentence."""
    score: float
    """Its log-probability with all penalties, divided by length ** length_penalty (nats)."""
    token_scores: tuple[float, ...] = ()
    """The model's log-probability of each token and of the end of sentence, without penalties."""
    alignment: Pairs = ()


@dataclass(frozen=True)
class Hypothesis:
    """A hypothesis of a line."""

    text: str
    score: float
    """Its log-probability with all penalties, divided by length ** length_penalty (nats)."""
    tokens: tuple[str, ...] = ()
    """Its sub-words."""
    token_scores: tuple[float, ...] = ()
    """The model's log-probability of each sub-word and of the end of sentence, without penalties."""
    alignment: Pairs = ()
    """Pairs of a sub-word of the source and one of the translation, each counted from 0."""


@dataclass(frozen=True)
class Task:
    """A batch of sources, each with its bounds, to be decoded as `Decoding` asks for. B sources."""

    sources: Sequence[Sequence[int]]
    """Each ends with the end of sentence."""
    prefixes: Sequence[Sequence[int]]
    """Tokens that each translation begins with."""
    least: Sequence[int]
    """Tokens of each translation at least, the end of sentence not counted. Likewise `most`."""
    most: Sequence[int]
    beam: int
    length_penalty: float


def json_line(number: int, hypotheses: Sequence[Hypothesis]) -> str:
    """Return a line's hypotheses as one line of JSON; `number` counts the lines from 1."""
    found = [
        {
            "text": one.text,
            "score": one.score,
            "tokens": list(one.tokens),
            "token_scores": list(one.token_scores),
            **({"alignment": [list(pair) for pair in one.alignment]} if one.alignment else {}),
        }
        for one in hypotheses
    ]
    return json.dumps({"line": number, "hypotheses": found}, ensure_ascii=False)


"""The settings of a request for translations, by the names that people know, with their bounds. Needs no library."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Knob:
    """The bounds of a setting, and its help."""

    least: float
    most: float
    help: str


KNOBS: Mapping[str, Knob] = {
    "beam": Knob(1, 1_000, "Hypotheses kept while searching. Default: the model's."),
    "length_penalty": Knob(
        0, 100, "Exponent of the length that divides a hypothesis's log-probability. Default: the model's."
    ),
    "max_length_factor": Knob(
        0, 1_000, "Tokens of a translation for each of its source, at most. Default: the model's."
    ),
    "min_length_factor": Knob(0, 1_000, "Tokens of a translation for each of its source, at least. Default: 0."),
    "n_best": Knob(1, 1_000, "Hypotheses of each line, the best first. Default: 1."),
    "no_repeat_ngram_size": Knob(0, 1_000, "No run of this many tokens comes twice; 0 (default): any may."),
    "repetition_penalty": Knob(
        0.01, 100, "Factor of the log-probability of a token that stands there already; 1 (default): none."
    ),
    "sampling": Knob(0, 1, "Draw translations at random, by their probability, instead of searching the best."),
    "temperature": Knob(0.01, 100, "Of sampling: above 1 unlikely tokens are drawn more often. Default: 1."),
    "top_k": Knob(0, 1_000_000, "Of sampling: draw among this many best tokens; 0 (default): among all."),
    "seed": Knob(0, 2**63 - 1, "Of sampling: the same seed draws the same. Default: other draws each time."),
    "retry_loops": Knob(
        0, 1, "Translate a line again, without repeated n-grams, where its translation ends in a loop."
    ),
}
"""Every setting that is a number or a switch."""

MOST_PREFIX = 100_000
"""Characters of a prefix at most."""


@dataclass(frozen=True)
class Decoding:
    """How lines are to be decoded. At its defaults nothing differs from the model's own beam search.

    >>> Decoding(n_best=3, no_repeat_ngram_size=4).is_plain, Decoding(beam=8).is_plain
    (False, True)
    """

    beam: int | None = None
    """Hypotheses kept while searching; None: the model's own. Likewise the next two."""
    length_penalty: float | None = None
    """Exponent of the length, end of sentence included, that divides a hypothesis's log-probability."""
    max_length_factor: float | None = None
    """A translation has at most this many tokens for each of its source, and the model's `max_length_extra` more."""
    min_length_factor: float = 0.0
    """A translation has at least this many tokens for each of its source."""
    n_best: int = 1
    """Hypotheses that are returned; at most `beam`. Of sampling: translations that are drawn."""
    no_repeat_ngram_size: int = 0
    """No run of this many tokens comes twice in a translation; 0: any may."""
    repetition_penalty: float = 1.0
    """A token that stands in the translation already has its log-probability multiplied by this."""
    sampling: bool = False
    """Draw each token by its probability. There is no beam then."""
    temperature: float = 1.0
    """Logits are divided by it before a token is drawn."""
    top_k: int = 0
    """Tokens are drawn among so many best; 0: among all."""
    seed: int | None = None
    """The same seed draws the same for the same line, whatever stands beside it. None: other draws each time."""
    prefix: str | tuple[str, ...] = ""
    """Text that every translation begins with; a tuple has one for each line."""
    retry_loops: bool = False
    """Decode a line again with `no_repeat_ngram_size` where its translation ends in a loop."""
    alignments: bool = False
    """Align each token with the source token that the last layer attends to most."""

    @property
    def is_plain(self) -> bool:
        """Whether the model's own beam search does all that is asked for."""
        changes = {"beam", "length_penalty", "max_length_factor", "retry_loops"}
        return all(getattr(self, each.name) == each.default for each in fields(self) if each.name not in changes)

    def changes(self) -> dict[str, float]:
        """Return the settings of the model's own beam search that are given."""
        given = {name: getattr(self, name) for name in ("beam", "length_penalty", "max_length_factor")}
        return {name: value for name, value in given.items() if value is not None}

    def prefix_of(self, row: int) -> str:
        """Return the text that a line's translation begins with."""
        return self.prefix if isinstance(self.prefix, str) else self.prefix[row]


def why_not(wanted: Decoding, beam: int, lines: int | None = None) -> str | None:
    """Return the rule that a request breaks, in one line; None: it breaks none. `beam` is the one it comes to."""
    for name in KNOBS:
        if (reason := why_no_number(name, getattr(wanted, name))) is not None:
            return reason
    prefixes = list(wanted.prefix) if isinstance(wanted.prefix, tuple | list) else [wanted.prefix]
    if not all(isinstance(prefix, str) and len(prefix) <= MOST_PREFIX for prefix in prefixes):
        return f"prefix must be text of at most {MOST_PREFIX} characters: shorten it"
    if lines is not None and not isinstance(wanted.prefix, str) and len(prefixes) != lines:
        return f"prefix must be one text, or one for each of {lines} lines, got {len(prefixes)}"
    return _why_not_together(wanted, beam)


def why_no_number(name: str, value: object) -> str | None:
    """Return why a setting cannot have a value; None: it can."""
    knob, default = KNOBS[name], _DEFAULTS[name]
    if value is None and default is None:
        return None
    if isinstance(default, bool):
        return None if isinstance(value, bool) else f"{name} must be true or false, got {value!r:.60}"
    whole = isinstance(default, int) or name in ("beam", "seed")
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not math.isfinite(value):
        return f"{name} must be {'a whole number' if whole else 'a number'}, got {value!r:.60}"
    if not knob.least <= value <= knob.most:
        return f"{name} must be from {knob.least:g} to {knob.most:g}, got {value!r:.60}"
    return None


def _why_not_together(wanted: Decoding, beam: int) -> str | None:
    if wanted.sampling:
        return "sampling has no beam: leave beam out, or sampling" if wanted.beam is not None else None
    for name in ("temperature", "top_k", "seed"):
        if getattr(wanted, name) != _DEFAULTS[name]:
            return f"{name} is a setting of sampling: add sampling, or leave {name} out"
    if wanted.n_best > beam:
        return f"n_best can be at most the beam, which is {beam}, got {wanted.n_best}: raise beam"
    return None


_DEFAULTS = {each.name: each.default for each in fields(Decoding)}


"""Lines of text to their hypotheses: in batches of like length inside, in the given order outside. Needs no library."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol


"""Translations that end in a loop: the same few tokens again and again. Needs no library."""

from collections.abc import Sequence

LOOP_COPIES = 3
"""So many copies in a row are a loop, where they are long enough and the source has fewer."""
LOOP_TOKENS = 8
"""Tokens that a loop has at least."""
RETRY_SIZES = (3, 2, 1)
"""`no_repeat_ngram_size` of each new trial."""


def is_loop(tokens: Sequence[int], source: Sequence[int] = ()) -> bool:
    """Report whether a translation ends in a loop, and its source does not: a source may well repeat itself.

    >>> is_loop([9, 4, 5, 6, 4, 5, 6, 4, 5, 6]), is_loop([4, 4, 4, 4]), is_loop([4] * 8), is_loop([4] * 8, [7] * 9)
    (True, False, True, False)
    """
    found = looped_tokens(tokens)
    return found >= LOOP_TOKENS and found > looped_tokens(source)


def looped_tokens(tokens: Sequence[int]) -> int:
    """Return the tokens of the longest loop that a text ends in, give or take a few tokens of its end; 0: none."""
    return max((_at_end(tokens, period) for period in range(1, len(tokens) // LOOP_COPIES + 1)), default=0)


def _at_end(tokens: Sequence[int], period: int) -> int:
    """Return the tokens at the end that stand there `period` earlier as well, those ones included."""
    longest = 0
    for cut in range(min(period, 3)):  # a full stop may follow the loop
        end = len(tokens) - cut
        equal = 0
        while equal < end - period and tokens[end - 1 - equal] == tokens[end - 1 - equal - period]:
            equal += 1
        if equal + period >= LOOP_COPIES * period:
            longest = max(longest, equal + period)
    return longest



class Side(Protocol):
    """The vocabulary of a side."""

    def encode(self, line: str) -> list[int]:
        """Return the tokens of a line with the end of sentence."""

    def decode(self, tokens: Sequence[int]) -> str: ...

    def pieces(self) -> list[str]: ...


Find = Callable[[Task, Decoding], list[list[Found]]]
"""What decodes a batch: the hypotheses of each source, best first."""


@dataclass(frozen=True)
class LineSearch:
    """A model's way from lines to hypotheses, as a request wants it."""

    source: Side
    target: Side
    search: Mapping[str, float]
    """Settings of the model's beam search, those of the request among them, by the names of `EvaluateConfig`."""
    max_positions: int
    """Longest sentence in tokens that the model takes."""
    find: Find
    wanted: Decoding
    eos: int

    def lines(
        self, lines: Sequence[str], is_blank: Callable[[str], bool], done: Callable[[int], None] = lambda _: None
    ) -> list[list[Hypothesis]]:
        """Return the hypotheses of every line, in order; an empty line has one, which is empty."""
        sources = {row: self.tokens_of(line) for row, line in enumerate(lines) if not is_blank(line)}
        found = self.tokens(sources, done)
        pieces = self.target.pieces()
        nothing = [Hypothesis("", 0.0)]
        return [
            [self._hypothesis(one, pieces) for one in found[row]] if row in found else nothing
            for row in range(len(lines))
        ]

    def tokens(
        self, sources: Mapping[int, list[int]], done: Callable[[int], None] = lambda _: None
    ) -> dict[int, list[Found]]:
        """Return the hypotheses of sources, which end with the end of sentence, by their rows."""
        found = self._rows(sources, self.wanted, done)
        return self.without_loops(sources, found) if self.wanted.retry_loops else found

    def without_loops(self, sources: Mapping[int, list[int]], found: dict[int, list[Found]]) -> dict[int, list[Found]]:
        """Decode rows anew whose best hypothesis ends in a loop, until it does not or all trials were made."""
        for size in RETRY_SIZES:
            looped = {
                row: sources[row] for row, each in found.items() if each and is_loop(each[0].tokens, sources[row])
            }
            if not looped:
                break
            found = {**found, **self._rows(looped, replace(self.wanted, no_repeat_ngram_size=size))}
        return found

    def _rows(
        self, sources: Mapping[int, list[int]], wanted: Decoding, done: Callable[[int], None] = lambda _: None
    ) -> dict[int, list[Found]]:
        found: dict[int, list[Found]] = {}
        for rows in _like_lengths(sources, int(self.search["batch_tokens"])):
            task = self._task([sources[row] for row in rows], [wanted.prefix_of(row) for row in rows])
            found.update(zip(rows, self.find(task, wanted), strict=True))
            done(len(found))
        return found

    def _task(self, sources: list[list[int]], prefixes: list[str]) -> Task:
        begun = [self.target.encode(prefix)[:-1] if prefix.strip() else [] for prefix in prefixes]
        factor, extra = self.search["max_length_factor"], self.search["max_length_extra"]
        last = self.max_positions - 1
        begun = [one[:last] for one in begun]
        most = [
            min(int(factor * len(source) + extra) + len(prefix), last)
            for source, prefix in zip(sources, begun, strict=True)
        ]
        least = [
            max(1, min(int(self.wanted.min_length_factor * len(source)), limit))
            for source, limit in zip(sources, most, strict=True)
        ]
        return Task(sources, begun, least, most, int(self.search["beam"]), float(self.search["length_penalty"]))

    def tokens_of(self, line: str) -> list[int]:
        """Return the tokens of a line, `max_source_length` at most, the end of sentence among them."""
        longest = min(int(self.search["max_source_length"]), self.max_positions)
        return [*self.source.encode(line)[:-1][: longest - 1], self.eos]

    def _hypothesis(self, found: Found, pieces: Sequence[str]) -> Hypothesis:
        text = " ".join(self.target.decode(found.tokens).split("\n")).strip()
        words = tuple(pieces[token] for token in found.tokens)
        return Hypothesis(text, found.score, words, found.token_scores, found.alignment)


def _like_lengths(sources: Mapping[int, Sequence[int]], batch_tokens: int) -> Iterator[list[int]]:
    """Group rows of like length, longest first, so that rows * longest stays within `batch_tokens` (one at least)."""
    batch: list[int] = []
    for row in sorted(sources, key=lambda row: (-len(sources[row]), row)):
        if batch and (len(batch) + 1) * len(sources[batch[0]]) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


MANIFEST, SEAL = "manifest.json", "sealed_sha256"

_MOST_MANIFEST_BYTES = 1 << 20
_MOST_FILES = 64
_MOST_BYTES = 16 << 30
_NAME, _SHA256 = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"), re.compile(r"[0-9a-f]{64}")
_NUMBERS: Mapping[str, tuple[type, float, float]] = {
    "vocab_size": (int, 1, 10_000_000),
    "max_positions": (int, 2, 1_000_000),
    "special_tokens.pad": (int, 0, 10_000_000),
    "special_tokens.eos": (int, 0, 10_000_000),
    "search.beam": (int, 1, 1_000),
    "search.length_penalty": (float, 0, 100),
    "search.max_length_factor": (float, 0, 1_000),
    "search.max_length_extra": (int, 1, 1_000_000),
    "search.max_source_length": (int, 2, 1_000_000),
    "search.batch_tokens": (int, 1, 10_000_000),
}


def read_manifest(folder: str | Path, kind: str, version: int) -> dict[str, Any]:
    """Return the manifest of an export of a kind and format; raises ValueError, in one line, where a thing is wrong."""
    place = Path(folder)
    try:
        manifest = json.loads(_plain_bytes(place / MANIFEST, _MOST_MANIFEST_BYTES), parse_constant=_no_number)
        if not isinstance(manifest, dict):
            raise ValueError(f"{MANIFEST} must hold an object")
        if manifest.get("kind") != kind or manifest.get("format") != version:
            raise ValueError(f"{MANIFEST} is not of an export that this loader reads (format {version})")
        if manifest.pop(SEAL, None) != seal_of(manifest):
            raise ValueError(f"{MANIFEST} is damaged: its content does not match its SHA-256")
        for name, (number, least, most) in _NUMBERS.items():
            _require_number(name, _at(manifest, name), number, least, most)
        if max(manifest["special_tokens"][name] for name in ("pad", "eos")) >= manifest["vocab_size"]:
            raise ValueError("special_tokens must lie within vocab_size")
        _require_files(place, manifest)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, RecursionError) as error:
        why = " ".join(str(error).split())[:500]
        raise ValueError(f"{place} is not a whole export of hat-ray ({why}): export the model again") from error
    return manifest


def kind_of(folder: str | Path) -> object:
    """Return the kind of export that a folder's manifest names; None where it names none."""
    try:
        manifest = json.loads(_plain_bytes(Path(folder) / MANIFEST, _MOST_MANIFEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return manifest.get("kind") if isinstance(manifest, dict) else None


def seal_of(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest without its seal."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _require_files(place: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ValueError unless all that the manifest names is there, in bounds, and as it was."""
    files = manifest.get("files")
    if not isinstance(files, dict) or not 0 < len(files) <= _MOST_FILES:
        raise ValueError(f"files must name 1 to {_MOST_FILES} files with their SHA-256")
    for name in _named(manifest):
        if name not in files:
            raise ValueError(f"{name!r} must be one of files")
    left = _MOST_BYTES
    for name, expected in files.items():
        if not _NAME.fullmatch(name) or name == MANIFEST or not _SHA256.fullmatch(str(expected)):
            raise ValueError(f"files must have plain names and a SHA-256, got {name!r:.140}")
        found, size = _digest(place / name, left)
        left -= size
        if found != expected:
            raise ValueError(f"{name} is damaged: its SHA-256 differs")


def _named(manifest: Mapping[str, Any]) -> list[str]:
    """Return the files that other entries of the manifest name."""
    graphs = manifest.get("graphs", {})
    if not isinstance(graphs, dict) or not all(isinstance(name, str) for name in graphs.values()):
        raise ValueError("graphs must name files")
    lists = [manifest["short_lists"]] if "short_lists" in manifest else []
    own = [] if "vocabularies" in manifest else [manifest.get("vocabulary")]
    names = [*own, *graphs.values(), *lists]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("vocabulary, graphs and short_lists must name files")
    return [str(name) for name in names]


def _digest(path: Path, most: int) -> tuple[str, int]:
    """Return a plain file's SHA-256 and its size."""
    with os.fdopen(_open_plain(path, most), "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
        return found, stream.tell()


def _plain_bytes(path: Path, most: int) -> bytes:
    with os.fdopen(_open_plain(path, most), "rb") as stream:
        return stream.read(most)


def _open_plain(path: Path, most: int) -> int:
    """Open a file that is neither a link nor anything that could wait, or never end; its descriptor."""
    about = path.lstat()
    if not stat.S_ISREG(about.st_mode) or about.st_size > most:
        raise ValueError(f"{path.name} must be a plain file of at most {most} bytes")
    return os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _at(manifest: Mapping[str, Any], name: str) -> object:
    """Return what stands at a dotted name; None where nothing does."""
    value: object = manifest
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _require_number(name: str, value: object, number: type, least: float, most: float) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole or (number is float and isinstance(value, float))) or not least <= value <= most:  # type: ignore[operator]
        kind = "a whole number" if number is int else "a number"
        raise ValueError(f"{name} must be {kind} from {least:g} to {most:g}, got {value!r:.60}")


def _no_number(text: str) -> float:
    raise ValueError(f"{MANIFEST} must hold finite numbers, got {text}")


class LineTranslator:
    """An exported model: lines of text in, lines of text out. An engine's class opens and decodes."""

    kind: str
    """What the manifest calls the export."""
    version: int
    """The manifest's format."""

    def __init__(self, folder: str | Path, threads: int = 1, manifest: dict[str, Any] | None = None) -> None:
        """Load it; raise ValueError, in one line, where it is damaged. `manifest`: its own, if it was read already.

        0 threads: one for each core.
        """
        place = Path(folder)
        self.manifest = manifest or read_manifest(place, self.kind, self.version)
        self.engine = self._open(place, threads)
        self.source, self.target = open_vocabularies(place, self.manifest)

    def translate(self, lines: Sequence[str], **settings: float) -> list[str]:
        """Return the translation of every line, in order; `settings` replace the manifest's beam defaults.

        An empty line stays empty; a line longer than `max_source_length` tokens is cut.
        """
        best = self.translate_tokens(lines, **settings)
        return [" ".join(self.target.decode(tokens).split("\n")).strip() for tokens in best]

    def translate_tokens(self, lines: Sequence[str], **settings: float) -> list[list[int]]:
        """Return the tokens of every line's translation, without its end of sentence; none for an empty line."""
        search = {**self.manifest["search"], **settings}
        eos, longest = self.manifest["special_tokens"]["eos"], int(search["max_source_length"])
        sources = {
            row: [*self.source.encode(line)[:-1][: longest - 1], eos]
            for row, line in enumerate(lines)
            if not is_blank(line)
        }
        translations: list[list[int]] = [[] for _ in lines]
        for rows in _batches(sources, int(search["batch_tokens"])):
            batch = [sources[row] for row in rows]
            best = self._decode(batch, search, [self._longest(source, search) for source in batch])
            for row, tokens in zip(rows, best, strict=True):
                translations[row] = tokens
        return translations

    def _longest(self, source: Sequence[int], search: Mapping[str, Any]) -> int:
        """Return the most tokens of a source's translation, its end of sentence not counted."""
        most = int(search["max_length_factor"] * len(source) + search["max_length_extra"])
        return min(most, int(self.manifest["max_positions"]) - 1)

    def hypotheses(self, lines: Sequence[str], decoding: Decoding, **settings: float) -> list[list[Hypothesis]]:
        """Return the `n_best` hypotheses of every line, the best first; an empty line has one, which is empty.

        Raises ValueError, in one line, for a setting that makes no sense here.
        """
        search = {**self.manifest["search"], **settings, **decoding.changes()}
        if (reason := why_not(decoding, int(search["beam"]), len(lines))) is not None:
            raise ValueError(reason)
        most, eos = self.manifest["max_positions"], self.manifest["special_tokens"]["eos"]
        return LineSearch(self.source, self.target, search, most, self._find, decoding, eos).lines(lines, is_blank)

    def _find(self, task: Task, wanted: Decoding) -> list[list[Found]]:
        """Return the hypotheses of each source of a batch, best first."""
        raise NotImplementedError

    def _open(self, place: Path, threads: int) -> Any:
        """Return the engine of a folder whose manifest was read."""
        raise NotImplementedError

    def _decode(self, sources: list[list[int]], search: Mapping[str, Any], most: Sequence[int]) -> list[list[int]]:
        """Return the best translation of each source, without ends of sentence; `most` are each one's tokens."""
        raise NotImplementedError


def open_vocabularies(folder: str | Path, manifest: Mapping[str, Any]) -> tuple[Subwords, Subwords]:
    """Load the sub-words of both sides of an exported folder; raise ValueError where they are of another model."""
    place, target_size = Path(folder), manifest["vocab_size"]

    def read(name: str) -> bytes:
        return (place / name).read_bytes()

    try:
        if "vocabularies" in manifest:
            source, target = open_sides(manifest["vocabularies"], manifest["files"], read)
        else:
            source = target = open_subwords(SENTENCEPIECE, {MODEL_FILE: read(manifest["vocabulary"])})
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} has sub-words that cannot be opened: {error}; or export again") from error
    for side, wanted in ((source, manifest.get("source_vocab_size", target_size)), (target, target_size)):
        if len(side) != wanted:
            raise ValueError(f"{place} has sub-words of {len(side)} entries, not {wanted!r:.20}: export again")
    return source, target


def _batches(sources: Mapping[int, Sequence[int]], batch_tokens: int) -> Iterator[list[int]]:
    """Group rows of like length, so that rows * longest stays within `batch_tokens` (one row at least)."""
    batch: list[int] = []
    for row in sorted(sources, key=lambda row: -len(sources[row])):
        if batch and (len(batch) + 1) * len(sources[batch[0]]) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


_MARK = b"\xef\xbb\xbf"


def translate_stdin(open_translator: Callable[[Path, int], Any], folder: Path) -> int:
    """Translate by the command's options, with the model that a function opens; return the exit code."""
    parser = argparse.ArgumentParser(description="Translate lines from stdin to stdout, in order.")
    parser.add_argument("--folder", default=folder, type=Path, help="the exported model")
    parser.add_argument("--threads", default=1, type=_at_least(0), help="0: one for each core")
    parser.add_argument("--beam", default=None, type=_at_least(1), help="hypotheses kept; default: the manifest's")
    parser.add_argument("--chunk", default=256, type=_at_least(1), help="lines translated together")
    _add_decoding(parser)
    options = parser.parse_args()
    wanted = _decoding_of(options)
    try:
        if sys.stdin is None or sys.stdout is None:
            raise ValueError("stdin and stdout must be open: give it lines by `< FILE`")
        if (reason := why_not(wanted, options.beam or wanted.n_best)) is not None:
            raise ValueError(reason)
        translator = open_translator(options.folder, options.threads)
        number = 1
        for chunk in read_chunks(sys.stdin.buffer, options.chunk):
            lines = _translated(translator, chunk, wanted, number if options.details else None)
            sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode())
            sys.stdout.buffer.flush()
            number += len(chunk)
    except ValueError as error:
        return _tell(error, 2)
    except OSError as error:
        return _tell(error, 1)
    return 0


def _add_decoding(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("decoding")
    plain = Decoding()
    for name, knob in KNOBS.items():
        default, flag = getattr(plain, name), f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            group.add_argument(flag, action="store_true", help=knob.help)
        elif name != "beam":
            whole = isinstance(default, int) or name == "seed"
            group.add_argument(flag, type=int if whole else float, default=default, help=knob.help)
    group.add_argument("--prefix", default="", help="text that every translation begins with")
    group.add_argument("--alignments", action="store_true", help="align sub-words with those of the source")
    group.add_argument("--details", action="store_true", help="print each line's hypotheses with scores, as JSON")


def _decoding_of(options: argparse.Namespace) -> Decoding:
    names = {*KNOBS, "prefix", "alignments"}
    wanted = Decoding(**{name: value for name, value in vars(options).items() if name in names})
    options.details = options.details or wanted.n_best > 1 or wanted.alignments
    return wanted


def _translated(translator: Any, lines: list[str], wanted: Decoding, number: int | None) -> list[str]:
    """Return what is printed of lines: their translations, or with the first one's number all details."""
    if number is None and wanted.is_plain and not wanted.retry_loops:
        return list(translator.translate(lines, **wanted.changes()))
    found = translator.hypotheses(lines, wanted)
    if number is None:
        return [hypotheses[0].text for hypotheses in found]
    return [json_line(row, hypotheses) for row, hypotheses in enumerate(found, number)]


def read_chunks(stream: BinaryIO, size: int) -> Iterator[list[str]]:
    """Yield lines, `size` at once; a line ends at a line feed only. Raises ValueError for what is not UTF-8."""
    chunk: list[str] = []
    for number, line in enumerate(stream, 1):
        content = line.removeprefix(_MARK) if number == 1 else line
        try:
            chunk.append(content.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"stdin must be UTF-8, got byte {content[error.start]:#x} in line {number}") from error
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _at_least(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if (number := int(text)) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {number}")
        return number

    return whole


def _tell(error: Exception, code: int) -> int:
    """Print the mistake in one line; what waits in stdout is given up."""
    if sys.stderr is not None:
        print(f"translate.py: error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python would try once more to write it, and complain
    return code


"""The engine of an export for ONNX Runtime. Needs numpy and onnxruntime.

N sentences, R = N * beam rows (a sentence's rows stand together), P cached positions, Q query-key-value width,
V vocabulary.

Decisions
- The self-attention cache is written once and never reordered or copied: the beams of a sentence attend to the keys of
  all its beams, and a mask hides those that are not a beam's own ancestors. Reordering beams is reordering that mask.
- A step returns the new keys and values; the graph itself adds its own token's part to attention. So the cache
  goes in as a view of one buffer, which grows, and nothing comes out that was known before.
- Inputs and outputs are bound to their places once; a step binds again only what has grown.
- The graph itself finds the best words: all logits, megabytes a step, are written only on request.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray


"""Beam search with all rules, and sampling, over any engine that finds the best words to follow. Needs numpy.

B sentences, R = B * beam rows (a sentence's rows stand together), C words that may follow a row, T tokens so far,
S source tokens.

The semantics are those of `model/beam.py`: a hypothesis ends its sentence's search when `beam` are finished, an end
counts among the first `beam` of 2 * beam continuations, and a word that is ruled out leaves the others' probabilities
as they are. Every sentence has bounds of its own, so that its translation does not depend on what stands beside it.

Decisions
- An engine is asked for as many best words as rules can touch, and not for all: that is exact, and as fast.
- Draws come from a generator of the sentence's own, seeded by its tokens: its neighbours do not change them.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


"""Which words may follow a row, and at which price. Needs numpy.

B sentences, R rows, C words that may follow a row, T tokens so far.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


_EVERY_WORD = 2**31 - 1


class Rules:
    """The rules of a batch: bounds of lengths, prefixes, repetition."""

    def __init__(self, task: Task, wanted: Decoding, rows: int, pad: int, eos: int) -> None:
        """`rows` are those of one sentence."""
        self.rows, self.pad, self.eos = rows, pad, eos
        self.least, self.most = np.array(task.least), np.array(task.most)
        self.size, self.penalty = wanted.no_repeat_ngram_size, wanted.repetition_penalty
        self.needed = (wanted.top_k or _EVERY_WORD) if wanted.sampling else 2 * rows
        longest = max(map(len, task.prefixes))
        self.prefixes = np.array([[*one, *[-1] * (longest - len(one))] for one in task.prefixes], np.int64)

    def count(self, position: int) -> int:
        """Return how many best words of a row are needed, so that the rules leave enough of them."""
        if position < self.prefixes.shape[1] or self.penalty < 1 or self.needed == _EVERY_WORD:
            return _EVERY_WORD
        lost = 2 + (position if self.size else 0) + (position if self.penalty > 1 else 0)  # 2: padding, an early end
        return self.needed + lost

    def apply(self, best: tuple[Any, Any, Any], history: NDArray[np.int64], still: NDArray[np.int64]) -> Any:
        """Return the values (R, C), the words (R, C), and the model's own values, of the words that may follow.

        `history` (R, T) are the rows' tokens; `still` (B,) are the sentences that they are of.
        """
        values, words, ending = best
        position, sentences = history.shape[1], np.repeat(still, self.rows)
        values, words, raw = np.array(values), np.array(words), np.array(values)
        if self.penalty != 1:
            own = np.repeat(np.arange(len(history)), position)
            values[_marked(words, own, history.ravel())] *= np.float32(self.penalty)
        early, late = position < self.least[sentences], position >= self.most[sentences]
        values[(words == self.pad) | (words == self.eos) & early[:, None]] = -np.inf
        if self.size and position >= self.size:
            values[_repeats_a_run(words, history, self.size)] = -np.inf
        if position < self.prefixes.shape[1]:
            self._force(values, words, raw, self.prefixes[sentences, position])
        ended = late | ~np.isfinite(values).any(1)  # a row that nothing may follow ends
        values[ended] = -np.inf
        values[ended, 0], raw[ended, 0], words[ended, 0] = ending[ended, 0], ending[ended, 0], self.eos
        return values, words, raw

    def _force(self, values: Any, words: Any, raw: Any, forced: NDArray[np.int64]) -> None:
        """Let nothing follow but the prefix; a word that no short-list holds has the price of the last one."""
        own = np.flatnonzero(forced >= 0)
        there = words[own] == forced[own, None]
        places = np.where(there.any(1), there.argmax(1), words.shape[1] - 1)
        prices = raw[own, places]
        prices[~np.isfinite(prices)] = np.float32(-100)
        values[own] = -np.inf
        values[own, places], raw[own, places], words[own, places] = prices, prices, forced[own]


def _repeats_a_run(words: NDArray[np.int64], history: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Report (R, C) which words would end a run of `size` tokens that stands in the history already."""
    runs = np.lib.stride_tricks.sliding_window_view(history, size, axis=1)  # (R, T - size + 1, size)
    last = history[:, history.shape[1] - size + 1 :]
    begun = (runs[:, :, :-1] == last[:, None, :]).all(2)
    rows, places = np.nonzero(begun)
    return _marked(words, rows, runs[rows, places, -1])


def _marked(words: NDArray[np.int64], rows: NDArray[np.intp], marked: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Report (R, C) which words are among those that are marked in their rows, by pairs of row and word."""
    size = int(max(words.max(initial=0), marked.max(initial=0))) + 1
    flags = np.zeros((len(words), size), bool)
    flags[rows, marked] = True
    found: NDArray[np.bool_] = np.take_along_axis(flags, words, 1)
    return found


def best_of_rows(values: Any, scores: Any, count: int) -> tuple[Any, Any]:
    """(R, C), (B, beam) -> the best totals of each sentence and their places, each (B, count), best first."""
    sentences, beam = scores.shape
    totals = (values.reshape(sentences, beam, -1) + scores[:, :, None]).reshape(sentences, -1)
    order = np.argsort(-totals, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(totals, order, 1), order


def drawn_words(values: Any, chances: Any, temperature: float, top_k: int) -> Any:
    """(R, C), (R,) from 0 to 1 -> the places of the words that are drawn."""
    if top_k and top_k < values.shape[1]:
        worst = -np.sort(-values, axis=1, kind="stable")[:, top_k - 1 : top_k]
        values = np.where(values >= worst, values, -np.inf)
    shares = np.exp((values - values.max(1, keepdims=True)).astype(np.float64) / temperature)
    sums = np.cumsum(shares, axis=1)
    places = (sums <= chances[:, None] * sums[:, -1:]).sum(1)
    return np.minimum(places, values.shape[1] - 1)


WORTH_DROPPING = 0.7
"""Finished sentences are dropped once no more than this share is unfinished: dropping copies the whole cache."""

_Floats = NDArray[np.float32]
_Ints = NDArray[np.int64]


class Steps(Protocol):
    """A batch of sources that an engine has encoded, with `beam` rows for each."""

    def best(self, tokens: _Ints, count: int) -> tuple[_Floats, _Ints, _Floats]:
        """Feed one token a row, (R,); return the best words to follow, as many as there are, `count` at most.

        Log-probabilities (R, C), best first, the caller's to change; the words; that of the end of sentence (R, 1).
        """

    def reorder(self, rows: _Ints) -> None:
        """Continue row i from the state of row `rows[i]`; `rows` (R,) must stay within each sentence."""

    def keep(self, sentences: _Ints) -> None:
        """Drop all sentences but those at the given indices."""

    def attention(self) -> _Floats:
        """Return the shares (R, S) of the source's tokens in the last step's attention; called where it is wanted."""


class _Rows:
    """What is known of each row: its tokens, their scores, and what each attended to."""

    def __init__(self, rows: int, source_length: int, attentive: bool) -> None:
        self.tokens: _Ints = np.zeros((rows, 0), np.int64)
        self.scores: _Floats = np.zeros((rows, 0), np.float32)
        self.attended: _Floats = np.zeros((rows, 0, source_length if attentive else 0), np.float32)

    def select(self, rows: _Ints) -> None:
        self.tokens, self.scores, self.attended = self.tokens[rows], self.scores[rows], self.attended[rows]

    def append(self, tokens: _Ints, scores: _Floats, attended: _Floats | None) -> None:
        self.tokens = np.concatenate([self.tokens, tokens[:, None]], axis=1)
        self.scores = np.concatenate([self.scores, scores[:, None]], axis=1)
        if attended is not None:
            self.attended = np.concatenate([self.attended, attended[:, None]], axis=1)

    def found(self, row: int, ending: float, score: float, length: int) -> Found:
        """Return a row as a hypothesis that ends here; `length` are its source's tokens."""
        scores = (*map(float, self.scores[row]), ending)
        places = self.attended[row][:, self.attended.shape[2] - length :]  # sources are padded in front
        pairs = tuple((int(place), index) for index, place in enumerate(places.argmax(1))) if places.size else ()
        return Found(tuple(self.tokens[row].tolist()), score, scores, pairs)


def find(steps: Steps, task: Task, wanted: Decoding, pad: int, eos: int) -> list[list[Found]]:
    """Decode a batch that was started with `rows_of` rows a source; return its hypotheses, best first."""
    found = _draw(steps, task, wanted, pad, eos) if wanted.sampling else _search(steps, task, wanted, pad, eos)
    return [sorted(each, key=lambda one: one.score, reverse=True)[: wanted.n_best] for each in found]


def rows_of(task: Task, wanted: Decoding) -> int:
    """Return the rows that each source needs."""
    return wanted.n_best if wanted.sampling else task.beam


def padded(sources: Sequence[Sequence[int]], pad: int) -> _Ints:
    """Return sources as one array (B, S), padded in front."""
    longest = max(map(len, sources))
    return np.array([[pad] * (longest - len(one)) + list(one) for one in sources], np.int64)


def _search(steps: Steps, task: Task, wanted: Decoding, pad: int, eos: int) -> list[list[Found]]:
    beam, size = task.beam, len(task.sources)
    finished: list[list[Found]] = [[] for _ in range(size)]
    still = np.arange(size)
    rules = Rules(task, wanted, beam, pad, eos)
    rows = _Rows(size * beam, max(map(len, task.sources)), wanted.alignments)
    scores: _Floats = np.full((size, beam), -np.inf, np.float32)
    scores[:, 0] = 0.0  # at first all beams are alike: only one may speak
    tokens: _Ints = np.full(size * beam, eos)
    for position in range(max(task.most) + 1):
        best = steps.best(tokens, rules.count(position))
        attended = steps.attention() if wanted.alignments else None
        values, words, raw = rules.apply(best, rows.tokens, still)
        totals, places = best_of_rows(values, scores, 2 * beam)  # (B, 2 * beam); places within a sentence
        beams = places // values.shape[1]
        words, raw = (np.take_along_axis(each.reshape(len(still), -1), places, 1) for each in (words, raw))
        ends = words == eos
        for index, rank in np.argwhere(ends[:, :beam] & np.isfinite(totals[:, :beam])):
            of_sentence, row = finished[still[index]], int(index * beam + beams[index, rank])
            if len(of_sentence) < beam:
                score = float(totals[index, rank]) / (position + 1) ** task.length_penalty
                length = len(task.sources[int(still[index])])
                of_sentence.append(rows.found(row, float(raw[index, rank]), score, length))
        kept = np.array(
            [
                index
                for index, sentence in enumerate(still)
                if len(finished[sentence]) < beam and position < task.most[int(sentence)]
            ],
            np.int64,
        )
        if not len(kept):
            break
        if len(kept) <= WORTH_DROPPING * len(still):
            own = (kept[:, None] * beam + np.arange(beam)).ravel()
            still, totals, words, raw, beams, ends = (each[kept] for each in (still, totals, words, raw, beams, ends))
            rows.select(own)
            attended = None if attended is None else attended[own]
            steps.keep(kept)
        order = np.argsort(ends, axis=1, kind="stable")[:, :beam]
        scores, tokens = np.take_along_axis(totals, order, 1), np.take_along_axis(words, order, 1).ravel()
        origin = (np.arange(len(still))[:, None] * beam + np.take_along_axis(beams, order, 1)).ravel()
        steps.reorder(origin)
        rows.select(origin)
        of_words = np.take_along_axis(raw, order, 1).ravel()
        rows.append(tokens, of_words, None if attended is None else attended[origin])
    return finished


def _draw(steps: Steps, task: Task, wanted: Decoding, pad: int, eos: int) -> list[list[Found]]:
    """Draw `n_best` translations of each source, each by itself."""
    draws, size = wanted.n_best, len(task.sources)
    finished: list[list[Found]] = [[] for _ in range(size)]
    still = np.arange(size)
    generators = [_generator(wanted.seed, source) for source in task.sources]
    rules = Rules(task, wanted, draws, pad, eos)
    rows = _Rows(size * draws, max(map(len, task.sources)), wanted.alignments)
    running = np.ones((size, draws), bool)
    totals = np.zeros((size, draws))
    tokens: _Ints = np.full(size * draws, eos)
    for position in range(max(task.most) + 1):
        best = steps.best(tokens, rules.count(position))
        attended = steps.attention() if wanted.alignments else None
        values, words, raw = rules.apply(best, rows.tokens, still)
        chances = np.concatenate([generators[sentence].random(draws) for sentence in still])
        places = drawn_words(values, chances, wanted.temperature, wanted.top_k)
        own = np.arange(len(values))
        tokens, raw = words[own, places], raw[own, places]
        totals += values[own, places].reshape(totals.shape)
        for index, draw in np.argwhere(running & (tokens.reshape(running.shape) == eos)):
            row, sentence = index * draws + draw, still[index]
            score = float(totals[index, draw]) / (position + 1) ** task.length_penalty
            finished[sentence].append(rows.found(row, float(raw[row]), score, len(task.sources[int(sentence)])))
            running[index, draw] = False
        kept = np.flatnonzero(running.any(1))
        if not len(kept):
            break
        rows.append(tokens, raw, attended)
        if len(kept) <= WORTH_DROPPING * len(still):
            of_kept = (kept[:, None] * draws + np.arange(draws)).ravel()
            still, running, totals, tokens = still[kept], running[kept], totals[kept], tokens[of_kept]
            rows.select(of_kept)
            steps.keep(kept)
    return finished


def _generator(seed: int | None, source: Sequence[int]) -> Any:
    return np.random.default_rng(None if seed is None else [seed, *source])


KIND, FORMAT = "hat-ray export", 4
HIDDEN = -1e9
"""Added to a score that attention must not see; exp() of it is exactly 0."""

_FIRST_CAPACITY = 32
_WORTH_DROPPING = 0.7  # finished sentences are dropped when at most this share is left: it copies the whole cache
_ALL = 0  # in the place of a number of best words: all logits

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class ShortLists:
    """Which words may translate a sentence: the frequent ones, and partners of the words of its source."""

    def __init__(self, frequent: Ints, partners: Ints, words: int) -> None:
        """`words` are those of the target's vocabulary; `partners` has a row for each of the source's."""
        self.frequent, self.partners, self.words = frequent, partners, words

    @classmethod
    def load(cls, path: str | Path, source_words: int, words: int) -> "ShortLists":
        """Read the lists of two vocabularies of these sizes; raise ValueError where they are of others."""
        with np.load(path, allow_pickle=False) as arrays:
            lists = cls(arrays["frequent"].astype(np.int64), arrays["partners"].astype(np.int64), words)
        largest = max(int(lists.frequent.max(initial=0)), int(lists.partners.max(initial=0)))
        if len(lists.partners) != source_words or largest >= words:
            raise ValueError(
                f"its short-lists of {len(lists.partners)} source words, not {source_words}, are of other vocabularies"
            )
        return lists

    def of(self, source: Ints) -> tuple[Ints, Floats]:
        """(N, S) -> the words (L,) of all lists, ascending, and (N, 1, L): 0 on a sentence's own list, else HIDDEN."""
        own = [np.union1d(self.frequent, self.partners[np.unique(row)]) for row in source]
        words = np.unique(np.concatenate(own))
        words = words[words >= 0]
        allowed: Floats = np.full((len(own), 1, len(words)), HIDDEN, "f4")
        for row, mine in zip(allowed, own, strict=True):
            row[0, np.searchsorted(words, mine[mine >= 0])] = 0.0
        return words, allowed


class Graphs:
    """The encoder's and the decoder step's graph, ready to run on `threads` threads; 0: one for each core.

    With short-lists the decoder gets its output projection from a third graph, once a batch: the rows of their words.
    """

    def __init__(
        self,
        encoder: bytes | str,
        decoder: bytes | str,
        threads: int = 1,
        output: bytes | str | None = None,
        short_lists: ShortLists | None = None,
    ) -> None:
        self.encoder, self.decoder = _session(encoder, threads), _session(decoder, threads)
        self.output = None if output is None else _session(output, threads)
        self.short_lists = short_lists
        inputs = {each.name: each.shape for each in self.decoder.get_inputs()}
        outputs = {each.name: each.shape for each in self.decoder.get_outputs()}
        self.num_layers = sum(name.startswith("past_keys_") for name in inputs)
        self.qkv_dim = int(inputs["past_keys_0"][2])
        self.vocab_size = int(outputs["logits"][1]) if short_lists is None else short_lists.words

    def start(self, source: Ints, beam: int) -> "State":
        """Encode (N, S) and return the state in which each sentence has `beam` rows."""
        names = [each.name for each in self.encoder.get_outputs()]
        memory = self.encoder.run(None, {"source": np.ascontiguousarray(source, dtype=np.int64)})
        of_sentences, of_batch = dict(zip(names, memory, strict=True)), {}
        if self.output is not None and self.short_lists is not None:
            words, of_sentences["allowed"] = self.short_lists.of(source)
            parts = [each.name for each in self.output.get_outputs()]
            of_batch = dict(zip(parts, self.output.run(None, {"words": words}), strict=True)) | {"listed": words}
        return State(self, of_sentences, of_batch, len(source), beam)


class State:
    """All that decoding has to remember between two steps."""

    def __init__(
        self, graphs: Graphs, memory: Mapping[str, Any], of_batch: Mapping[str, Any], sentences: int, beam: int
    ) -> None:
        self.graphs, self.beam = graphs, beam
        self.position = 0
        self._source_length, self._is_watched = int(memory["memory_mask"].shape[-1]), False
        self._attended: Floats = np.empty(0, np.float32)
        self._memory, self._of_batch = memory, of_batch
        # position 0 of the cache stands for nothing and is never seen: no graph ever gets an empty input
        self._cache: Floats = np.zeros((2 * graphs.num_layers, _FIRST_CAPACITY * beam, sentences, graphs.qkv_dim), "f4")
        self._spare: Floats = np.empty(0, np.float32)
        self._seen: Floats = np.full((sentences * beam, _FIRST_CAPACITY, beam), HIDDEN, "f4")
        self._place()

    @property
    def listed(self) -> Ints | None:
        """The words (L,) that logits are of; None: all."""
        return self._of_batch.get("listed")

    @property
    def sentences(self) -> int:
        return int(self._cache.shape[2])

    def step(self, tokens: Ints) -> Floats:
        """Feed the next token of each row, (R,) -> logits (R, V), which the caller may change until the next step.

        With short-lists they are those of the `listed` words.
        """
        logits: Floats = self._run(tokens, _ALL)[0]
        return logits

    def best(self, tokens: Ints, count: int) -> tuple[Floats, Ints, Floats]:
        """Feed the next token of each row, (R,); return the best words to follow, until the next step.

        Logarithms of probability (R, count), best first; the words; and the end of sentence's own logarithm (R, 1).
        `count` may be more than there are: then all are returned.
        """
        there = self.graphs.vocab_size if self.listed is None else len(self.listed)
        values, words, ending = self._run(tokens, min(count, there))
        return values, words, ending

    def _run(self, tokens: Ints, count: int) -> list[Any]:
        past = self.position + 1
        if past == self._seen.shape[1]:
            self._grow()
        binding, results, _ = self._bindings.get(count) or self._bind(count)
        self._tokens[:] = tokens.reshape(self._tokens.shape)
        self._number[0] = self.position
        shape = (past * self.beam, self.sentences, self.graphs.qkv_dim)
        for name, address in self._past:
            binding.bind_input(name, "cpu", 0, np.float32, shape, address)
        seen = np.ascontiguousarray(self._seen[:, :past]).reshape(self.sentences, 1, self.beam, -1)
        binding.bind_input("seen", "cpu", 0, np.float32, seen.shape, _address(seen))
        self.graphs.decoder.run_with_iobinding(binding)
        own = np.arange(len(self._seen))
        self._cache[:, past * self.beam : (past + 1) * self.beam] = self._new.swapaxes(1, 2)
        self._seen[own, past, own % self.beam] = 0.0
        self.position += 1
        return results

    def watch(self) -> None:
        """Keep the attention of each step from now on."""
        self._is_watched = True
        self._bindings.clear()

    def attention(self) -> Floats:
        """Return the shares (R, S) of the source's tokens in the last layer's attention of the last step."""
        rows = len(self._attended) * self.beam
        by_layer = self._attended.reshape(rows, -1, self._source_length)  # of each encoder layer that is attended to
        shares: Floats = by_layer.sum(1)
        return shares

    def reorder(self, rows: Ints) -> None:
        """Continue row i from the state of row `rows[i]`; `rows` (R,) must stay within each sentence."""
        if self.beam > 1:
            past = self.position + 1
            self._seen[:, :past] = self._seen[rows, :past]

    def keep(self, sentences: Ints) -> None:
        """Drop all sentences but those at the given indices (their rows stay together)."""
        rows = (sentences[:, None] * self.beam + np.arange(self.beam)).ravel()
        self._seen = self._seen[rows]
        layers, capacity, _, width = self._cache.shape
        filled = (self.position + 1) * self.beam
        size = layers * capacity * len(sentences) * width
        room = self._spare if len(self._spare) >= size else np.empty(size, np.float32)
        kept = room[:size].reshape(layers, capacity, len(sentences), width)
        np.take(self._cache[:, :filled], sentences, axis=2, out=kept[:, :filled], mode="clip")  # "raise" copies twice
        self._spare, self._cache = self._cache.reshape(-1), kept  # room used again needs no new pages of the system
        self._memory = {name: np.take(value, sentences, axis=0) for name, value in self._memory.items()}
        self._place()

    def _grow(self) -> None:
        """Double the capacity."""
        self._cache = np.concatenate([self._cache, np.zeros_like(self._cache)], axis=1)
        self._seen = np.concatenate([self._seen, np.full_like(self._seen, HIDDEN)], axis=1)
        self._place()

    def _place(self) -> None:
        """Make room for everything that keeps its shape from step to step, and note where the cache stands."""
        self._tokens: Ints = np.zeros((self.sentences, self.beam), np.int64)
        self._number: Ints = np.zeros(1, np.int64)
        self._new: Floats = np.empty((2 * self.graphs.num_layers, self.sentences, self.beam, self.graphs.qkv_dim), "f4")
        self._names = [f"{kind}_{layer}" for layer in range(self.graphs.num_layers) for kind in ("keys", "values")]
        self._past = [(f"past_{name}", _address(cache)) for name, cache in zip(self._names, self._cache, strict=True)]
        self._bindings: dict[int, tuple[Any, list[Any], Ints]] = {}

    def _bind(self, count: int) -> tuple[Any, list[Any], Ints]:
        """Bind all that keeps its place, for steps that return `count` best words, or all logits."""
        rows, binding = self.sentences * self.beam, self.graphs.decoder.io_binding()
        wanted = np.array([count or 1], np.int64)
        fixed = {"tokens": self._tokens, "position": self._number, "count": wanted, **self._memory, **self._of_batch}
        for name, value in fixed.items():
            binding.bind_input(name, "cpu", 0, value.dtype.type, value.shape, _address(value))
        words = self.graphs.vocab_size if self.listed is None else len(self.listed)
        results: dict[str, Any] = {"logits": np.empty((rows, words), "f4")}
        if count != _ALL:
            results = {"values": np.empty((rows, count), "f4"), "words": np.empty((rows, count), np.int64)}
            results["ending"] = np.empty((rows, 1), "f4")
        kept: dict[str, Any] = {}
        if self._is_watched:
            last = self._memory[f"keys_{self.graphs.num_layers - 1}"]
            self._attended = np.empty((self.sentences, self.beam, last.shape[3]), np.float32)
            kept = {"attention": self._attended}
        new = {f"new_{name}": value for name, value in zip(self._names, self._new, strict=True)}
        for name, value in {**results, **kept, **new}.items():
            binding.bind_output(name, "cpu", 0, value.dtype.type, value.shape, _address(value))
        self._bindings[count] = binding, list(results.values()), wanted  # a binding knows addresses only
        return self._bindings[count]


def _session(graph: bytes | str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    options.enable_mem_pattern = False  # shapes change with every step
    options.add_session_config_entry("session.force_spinning_stop", "1")  # between runs the other graph's threads work
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _address(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)


def beam_search(
    graphs: Graphs,
    source: Ints,
    *,
    beam: int,
    length_penalty: float,
    max_length: int | Sequence[int],
    pad: int,
    eos: int,
) -> list[list[int]]:
    """Translate (N, S) source tokens; return the best hypothesis of each sentence, without its end of sentence.

    `max_length` is the most tokens of each sentence's translation, or of all.

    A score is log-probability / (length with eos) ** length_penalty. A sentence ends when `beam` hypotheses are
    finished. Of the 2 * beam best continuations an eos counts only among the first `beam`.
    """
    state = graphs.start(source, beam)
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in source]
    still, limits = np.arange(len(source)), np.broadcast_to(np.asarray(max_length, np.int64), len(source))
    history: Ints = np.zeros((len(source) * beam, 0), np.int64)
    scores: Floats = np.full((len(source), beam), -np.inf, "f4")
    scores[:, 0] = 0.0  # at first all beams are alike: only one may speak
    tokens: Ints = np.full(len(source) * beam, eos)
    for position in range(int(limits.max()) + 1):
        values, words, ending = state.best(tokens, 2 * beam + 2)  # two of them may be ruled out
        late = np.repeat(limits[still] == position, beam)  # only eos may follow
        values[late] = -np.inf
        values[late, :1], words[late, 0] = ending[late], eos
        values[(words == pad) | (words == eos) & (position == 0)] = -np.inf
        totals, words, beams = _best_continuations(values, words, scores)
        for index, rank in np.argwhere((words[:, :beam] == eos) & np.isfinite(totals[:, :beam])):
            if len(finished[still[index]]) < beam:
                score = float(totals[index, rank]) / (position + 1) ** length_penalty
                finished[still[index]].append((score, history[index * beam + beams[index, rank]].tolist()))
        going = [len(finished[sentence]) < beam and position < limits[sentence] for sentence in still]
        kept = np.flatnonzero(going)
        if not len(kept):
            break
        if len(kept) <= _WORTH_DROPPING * len(still):
            still, totals, words, beams = still[kept], totals[kept], words[kept], beams[kept]
            history = history.reshape(-1, beam, position)[kept].reshape(-1, position)
            state.keep(kept)
        order = np.argsort(words == eos, axis=1, kind="stable")[:, :beam]
        scores, tokens = np.take_along_axis(totals, order, 1), np.take_along_axis(words, order, 1).ravel()
        rows = (np.arange(len(still))[:, None] * beam + np.take_along_axis(beams, order, 1)).ravel()
        state.reorder(rows)
        history = np.concatenate([history[rows], tokens[:, None]], axis=1)
    return [max(hypotheses, key=lambda each: each[0])[1] for hypotheses in finished]


def _best_continuations(values: Floats, words: Ints, scores: Floats) -> tuple[Floats, Ints, Ints]:
    """(R, C), (R, C), (N, beam) -> total log-probability, token and beam, each (N, 2 * beam), best first."""
    sentences, beam = scores.shape
    totals = (values.reshape(sentences, beam, -1) + scores[:, :, None]).reshape(sentences, -1)
    order = np.argsort(-totals, axis=1, kind="stable")[:, : 2 * beam]
    found = np.take_along_axis(words.reshape(sentences, -1), order, 1)
    return np.take_along_axis(totals, order, 1), found, order // words.shape[1]


def open_graphs(folder: str | Path, manifest: Mapping[str, Any], threads: int = 1) -> Graphs:
    """Load the graphs of an exported folder; raises ValueError where they cannot be, or are of another model."""
    place = Path(folder)
    try:
        paths = {part: str(place / name) for part, name in manifest["graphs"].items()}
        words = manifest["vocab_size"]
        sizes = manifest.get("source_vocab_size", words), words
        lists = ShortLists.load(place / manifest["short_lists"], *sizes) if "short_lists" in manifest else None
        graphs = Graphs(paths["encoder"], paths["decoder"], threads, paths.get("output"), lists)
        eos = manifest["special_tokens"]["eos"]
        graphs.start(np.array([[eos]]), 1).best(np.array([eos]), 1)  # a wrong graph fails here
    except Exception as error:  # ONNX Runtime's have no type in common
        raise ValueError(f"{place} holds no graphs that can be run here ({one_line(error)}): export again") from error
    if graphs.vocab_size != manifest["vocab_size"]:
        raise ValueError(f"{place} has graphs of {graphs.vocab_size} words, not {manifest['vocab_size']}: export again")
    return graphs


class ExportedTranslator(LineTranslator):
    """An exported model on ONNX Runtime."""

    kind, version = KIND, FORMAT
    engine: Graphs

    def _open(self, place: Path, threads: int) -> Graphs:
        return open_graphs(place, self.manifest, threads)

    def _decode(self, sources: list[list[int]], search: Mapping[str, Any], most: Sequence[int]) -> list[list[int]]:
        pad, eos = self.manifest["special_tokens"]["pad"], self.manifest["special_tokens"]["eos"]
        length = max(map(len, sources))
        source = np.array([[pad] * (length - len(one)) + one for one in sources], np.int64)
        return beam_search(
            self.engine,
            source,
            beam=int(search["beam"]),
            length_penalty=search["length_penalty"],
            max_length=most,
            pad=pad,
            eos=eos,
        )

    def _find(self, task: Task, wanted: Decoding) -> list[list[Found]]:
        pad, eos = self.manifest["special_tokens"]["pad"], self.manifest["special_tokens"]["eos"]
        state = self.engine.start(padded(task.sources, pad), rows_of(task, wanted))
        if wanted.alignments:
            state.watch()
        return find(state, task, wanted, pad, eos)


if __name__ == "__main__":
    sys.exit(translate_stdin(ExportedTranslator, Path(__file__).parent))

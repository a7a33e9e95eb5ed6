"""Vocabularies that a recipe names as files: which kind each is, and what it needs beside it.

A mistake raises CorpusError with one line: rule, value, remedy.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hat_ray.core.yaml_text import read_scalars
from hat_ray.corpus.fairseq.dictionary import SPECIAL_SYMBOLS, read_dictionary
from hat_ray.corpus.vocabulary.config import VocabularyConfig
from hat_ray.corpus.vocabulary.files import Vocabularies
from hat_ray.corpus.vocabulary.protocol import Vocabulary
from hat_ray.corpus.vocabulary.subwords import (
    CODES_FILE,
    HUGGINGFACE,
    MISSING,
    MODEL_FILE,
    SENTENCEPIECE,
    TOKENIZER_FILE,
    WORDS,
    WORDS_FILE,
    open_subwords,
)
from hat_ray.errors import CorpusError
from hat_ray.storage.plain_file import expanded, open_plain, printable

MOST_BYTES = 1 << 27
"""Most bytes of a file; those of a million entries have some ten million."""
_FAIRSEQ_IDS = (0, 1, 2, 3)
_FITTING = 0.25
"""Least share of the merges of BPE codes whose result must stand in a dictionary; those of its own text nearly all."""
_BRACE_COUNT = re.compile(r"\{\S* -?\d+\s*(\n|$)")
"""The first line of a dictionary whose first symbol begins as JSON does."""
_MERGES_TO_JUDGE = 50

Special = tuple[int, int, int, int]


def given_vocabularies(config: VocabularyConfig, languages: tuple[str, str], folder: str = "") -> Vocabularies:
    """Open the files that a recipe names; relative paths start in `folder`, `languages` are Moses' codes."""
    base = expanded(folder)
    source = _Given(config.source, config.pieces, config.bpe_codes, languages[0])
    target = _Given(
        config.target or config.source,
        config.target_pieces or config.pieces,
        config.target_bpe_codes or config.bpe_codes,
        languages[1],
    )
    first = _opened(source, config, base)
    alike = (source.place, source.pieces, source.codes) == (target.place, target.pieces, target.codes)
    if alike and (config.tokenise == "none" or languages[0] == languages[1]):
        return Vocabularies.of_both(first)
    return Vocabularies(first, _opened(target, config, base))


def words_vocabulary(
    pieces: Sequence[str],
    special: Special,
    text: Mapping[str, Any] | None = None,
    *,
    model: bytes | None = None,
    codes: str | None = None,
) -> Vocabulary:
    """Return a vocabulary of pieces by their ids.

    `special` are the ids of BOS, PAD, EOS and UNK, `MISSING` where there is none. `model` is a SentencePiece model that
    cuts lines, `codes` are BPE codes; else spaces cut. `text` has the settings of `cutting.WordPieces`.
    """
    words = {"pieces": list(pieces), "special": list(special), "text": dict(text or PLAIN_TEXT)}
    files = {WORDS_FILE: json.dumps(words, ensure_ascii=False).encode("utf-8", "surrogatepass")}
    files |= {} if model is None else {MODEL_FILE: model}
    files |= {} if codes is None else {CODES_FILE: codes.encode()}
    return open_subwords(WORDS, files)


PLAIN_TEXT: Mapping[str, Any] = {
    "tokenise": "none",
    "language": "en",
    "dash_splits": False,
    "escape": False,
    "lowercase": False,
}
"""Text whose words stand between spaces."""


def codes_text(content: bytes, place: str = "BPE codes") -> str:
    """Return BPE codes as subword-nmt reads them; those of fastBPE have a third column, which is left out.

    Raises CorpusError: the library itself would end the process.
    """
    try:
        lines = content.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{place} must be UTF-8, got byte {content[error.start]:#x}: name the file of codes"
        ) from error
    version = [lines.pop(0)] if lines[0].startswith("#version:") else []
    if not lines:
        raise CorpusError(f"{place} holds no merges: name the codes of subword-nmt or fastBPE")
    entries = [line.strip("\r ").split(" ") for line in lines]
    width = len(entries[0])
    for number, entry in enumerate(entries, 1 + len(version)):
        if len(entry) != width or width not in (2, 3) or (width == 3 and not entry[2].isdigit()):
            raise CorpusError(
                f"{place} line {number} must be two sub-words and a space, got {printable(' '.join(entry))!r}: "
                "name the codes of subword-nmt or fastBPE"
            )
    if width == 3:
        version = ["#version: 0.2"]
    return "\n".join([*version, *(" ".join(entry[:2]) for entry in entries)]) + "\n"


class _Given:
    """One side as a recipe names it."""

    def __init__(self, place: str, pieces: str, codes: str, language: str) -> None:
        self.place, self.pieces, self.codes, self.language = place, pieces, codes, language


def _opened(given: _Given, config: VocabularyConfig, base: Path) -> Vocabulary:
    path = base / given.place
    content = _content(path)
    try:
        return _by_content(path, content, given, config, base)
    except (ValueError, RecursionError) as error:
        raise CorpusError(
            f"the vocabulary {printable(str(path), 200)} cannot be used: {' '.join(str(error).split())[:300]}"
        ) from error


def _by_content(path: Path, content: bytes, given: _Given, config: VocabularyConfig, base: Path) -> Vocabulary:
    listed = _listed(path, content)
    if listed is None:
        if given.pieces or given.codes or config.tokenise != "none" or config.lowercase:
            raise ValueError(
                "it cuts lines itself: leave corpus.vocabulary.pieces, bpe_codes, tokenise and lowercase out"
            )
        if content.lstrip()[:1] == b"{":
            return open_subwords(HUGGINGFACE, {TOKENIZER_FILE: content})
        return open_subwords(SENTENCEPIECE, {MODEL_FILE: content})
    pieces, special = listed
    model = _content(base / given.pieces) if given.pieces else None
    codes = codes_text(_content(base / given.codes), str(base / given.codes)) if given.codes else None
    if codes is not None:
        _require_fit(codes, pieces, base / given.codes)
    text = {name: getattr(config, name) for name in ("tokenise", "dash_splits", "escape", "lowercase")}
    return words_vocabulary(pieces, special, {**text, "language": given.language}, model=model, codes=codes)


def _listed(path: Path, content: bytes) -> tuple[list[str], Special] | None:
    """Return the pieces that a file lists, and the ids of the special ones; None where it is a tokeniser itself."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if "\0" in text or path.suffix in (".model", ".spm"):
        return None
    if text.lstrip()[:1] == "{" and not _BRACE_COUNT.match(text):
        numbers = json.loads(text)
        return None if "model" in numbers and not isinstance(numbers["model"], int) else _numbered(numbers)
    if path.suffix in (".yml", ".yaml"):
        return _numbered(_yaml_numbers(text))
    dictionary = read_dictionary(path)
    assert dictionary.symbols[:4] == SPECIAL_SYMBOLS
    return list(dictionary.symbols), _FAIRSEQ_IDS


def _numbered(numbers: Mapping[str, Any]) -> tuple[list[str], Special]:
    """Return the pieces of a list of words with their numbers, which are 0, 1, 2 and so on."""
    pieces: list[str | None] = [None] * len(numbers)
    for piece, number in numbers.items():
        if not isinstance(number, int) or not 0 <= number < len(pieces) or pieces[number] is not None:
            raise ValueError(
                f"its {len(pieces)} words must have the numbers 0 to {len(pieces) - 1}, each once, "
                f"got {number!r:.40} for {printable(piece)!r}: name the list that the model was trained with"
            )
        pieces[number] = piece
    named = ((name for name in names if name in numbers) for names in _SPECIAL_NAMES)
    bos, pad, eos, unk = (int(numbers[name]) if (name := next(one, None)) else MISSING for one in named)
    return [str(piece) for piece in pieces], (bos, pad, eos, unk)


_SPECIAL_NAMES = (("<s>",), ("<pad>",), ("</s>", "<EOS>"), ("<unk>", "<UNK>"))


def _yaml_numbers(text: str) -> dict[str, int]:
    """Return the words and numbers of a YAML file that holds nothing else."""
    scalars = read_scalars(text)
    words, numbers = scalars[::2], scalars[1::2]
    if len(words) != len(numbers) or len(set(words)) < len(words):
        raise ValueError("each word must stand once, with its number: name another file")
    return {word: int(number) for word, number in zip(words, numbers, strict=True)}


def _require_fit(codes: str, pieces: Sequence[str], place: Path) -> None:
    """Raise ValueError where BPE codes are of another text than a dictionary."""
    known = {piece.removesuffix("@@") for piece in pieces}
    merges = [line.split(" ") for line in codes.split("\n") if line and not line.startswith("#version:")]
    made = {"".join(pair).replace("</w>", "") for pair in merges}
    if len(made) >= _MERGES_TO_JUDGE and (share := len(made & known) / len(made)) < _FITTING:
        raise ValueError(
            f"only {share:.0%} of what the BPE codes {printable(str(place), 200)} make stands in it: "
            "name the codes that it was made with"
        )


def _content(path: Path) -> bytes:
    with open_plain(path, "vocabulary", CorpusError) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise CorpusError(
            f"a vocabulary file has at most {MOST_BYTES} bytes, {printable(str(path), 200)} has more: name another"
        )
    return content

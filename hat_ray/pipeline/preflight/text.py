"""The text of a corpus, or its data-bin: there, readable, with equal numbers of lines on both sides, and enough of it
for the vocabulary.

Decisions
- A small corpus (`_WHOLE_BYTES`) is read whole. Of a larger one each file is opened and its beginning read: the corpus
  stage reads the rest, before anything is trained.
- Limits of the vocabulary are SentencePiece's own: it holds every character, and else parts of words of up to 16
  characters, the mark at a word's beginning among them.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from hat_ray.corpus.cleaning.finding import finding_lines
from hat_ray.corpus.config import CorpusConfig, FilesConfig, TextPart
from hat_ray.corpus.fairseq.data_bin import DataBin
from hat_ray.corpus.splits import Splits
from hat_ray.corpus.text.download import text_files, vocabulary_folder
from hat_ray.corpus.text.files import read_lines, read_pairs
from hat_ray.corpus.text.packed import HEAD_BYTES, packing
from hat_ray.corpus.vocabulary.make import expected_vocabularies, has_own, opened_vocabularies
from hat_ray.corpus.vocabulary.subwords import shielded
from hat_ray.errors import CorpusError
from hat_ray.pipeline.preflight.check import Finding, Situation
from hat_ray.recipe import Recipe
from hat_ray.storage.plain_file import expanded

_WHOLE_BYTES = 24 << 20
_FIRST_LINES = 1_000
_PACKED = 4
"""Length of text over that of its packed file, about."""
_TAKEN = 4
"""Times its size that the tokens of a data-bin take: 4 bytes each where fairseq uses 2, and the sentences' places."""
_SPLITS = ("train", "valid", "test")
_SPECIAL = 4
_BYTES = 256
_WORD_MARK = "\u2581"
_LONGEST_PIECE = 16
_USUAL_BYTES = 4192
_SIDES = ("source", "target")


def check_texts(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Every text file is there and can be read, and both sides have equally many lines."""
    config = recipe.corpus
    if config.source == "fairseq":
        yield from check_data_bin(config)
        return
    if config.source != "files" or config.files is None:
        return
    if config.downloads and not config.files.folder:
        yield from _check_downloads(config, situation)
        return
    files = text_files(config)
    if not (config.files.folder or situation.committed or any(map(_exists, all_parts(files)))):
        yield "ok", "the text was not looked at: name its folder with --data"
        return
    yield from _check_files(files, config, situation)


def _check_files(files: FilesConfig, config: CorpusConfig, situation: Situation) -> Iterator[Finding]:
    missing = [part.path for part in all_parts(files) if not _exists(part)]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        yield (
            "failure",
            f"text file {missing[0]} does not exist{more}: name the folder of the text with --data, or correct "
            "corpus.files",
        )
        return
    whole, failed = text_bytes(files) <= _WHOLE_BYTES, False
    for split in _SPLITS:
        for source, target in zip(files.parts(f"{split}_source"), files.parts(f"{split}_target"), strict=True):
            try:
                _read(source, target, whole)
            except CorpusError as error:
                failed = True
                yield "failure", str(error)
    if whole and not failed and not situation.committed:  # the stage of a run looks at it by itself
        yield from _check_pairs(config)


def _check_pairs(config: CorpusConfig) -> Iterator[Finding]:
    """Some pairs are left to train on, and the sides of the text belong together."""
    try:
        _, findings = Splits.read(config).surveyed(config)
    except CorpusError as error:
        yield "failure", str(error)
        return
    yield from (("warning", line) for line in finding_lines(findings))


def _read(source: TextPart, target: TextPart, whole: bool) -> None:
    """Read two parallel files, or the beginning of each; raise CorpusError for a mistake in them."""
    if whole:
        for _ in read_pairs(source, target, 10_000):
            pass
        return
    for part in (source, target):
        for _ in islice(read_lines(part), _FIRST_LINES):
            pass


def _check_downloads(config: CorpusConfig, situation: Situation) -> Iterator[Finding]:
    """Check downloaded text like any other; report a download that is still to come."""
    files = text_files(config)
    if all(map(_exists, all_parts(files))):
        yield from _check_files(files, config, situation)
    else:
        yield "ok", f"{len(config.downloads)} files are downloaded first"


def check_vocabulary(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The vocabulary is neither larger nor smaller than the training text allows."""
    config = recipe.corpus
    if config.source != "files" or config.files is None or config.vocabulary.source:
        return
    files = text_files(config)
    if not all(map(_exists, all_parts(files))) or text_bytes(files) > _WHOLE_BYTES:
        return
    for sides in [_SIDES] if config.vocabulary.shared else [_SIDES[:1], _SIDES[1:]]:
        yield from _check_bounds(files, config, sides)


def _check_bounds(files: FilesConfig, config: CorpusConfig, sides: tuple[str, ...]) -> Iterator[Finding]:
    """Check the size of a vocabulary that is learned from these sides."""
    try:
        least, most = vocabulary_bounds(files, config, sides)
    except CorpusError:
        return  # reported by `check_texts`
    text = "corpus" if len(sides) > 1 else f"{sides[0]}'s text"
    if config.vocab_size < least:
        why = " and the 256 bytes of corpus.byte_fallback" if config.spells_bytes else ""
        yield (
            "failure",
            f"a vocabulary must hold every character of the {text}{why}, got corpus.vocab_size {config.vocab_size}: "
            f"set it to {least} or more",
        )
    elif config.vocab_size > most:
        yield (
            "failure",
            f"a vocabulary must not be larger than the {text} allows, got corpus.vocab_size {config.vocab_size}: set "
            f"it to {most} or less",
        )


def check_own_vocabularies(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Vocabularies that exist already can be opened, and embeddings are shared where there is one for both sides."""
    config, summary = recipe.corpus, situation.corpus()
    apart = not config.vocabulary.shared
    if has_own(config) and summary is None:
        if config.source == "files" and not (
            situation.committed or expanded(Path(vocabulary_folder(config), config.vocabulary.source)).exists()
        ):
            yield "ok", "the vocabulary was not looked at: name the folder of the text with --data"
            return
        try:
            apart = not opened_vocabularies(config).joint
        except CorpusError as error:
            yield "failure", str(error)
            return
    if apart and recipe.model.share_embeddings == "all":
        yield (
            "failure",
            "model.share_embeddings=all needs one joint vocabulary, got one for each side: set "
            "model.share_embeddings=decoder",
        )


def vocabulary_sizes(recipe: Recipe, situation: Situation) -> tuple[int, int]:
    """Return the entries of the source's and the target's vocabulary, as far as they are known."""
    if (summary := situation.corpus()) is not None:
        return summary.vocabulary_sizes
    try:
        return expected_vocabularies(recipe.corpus)
    except CorpusError:  # reported by `check_own_vocabularies`
        return recipe.corpus.vocab_size, recipe.corpus.vocab_size


def vocabulary_bounds(
    files: FilesConfig, config: CorpusConfig, sides: tuple[str, ...] = ("source", "target")
) -> tuple[int, int]:
    """Return two sizes between which every vocabulary lies that SentencePiece can learn from the training text.

    The lower one is exact where every pair is used, and counts no character where some may not be. The upper one counts
    each part of each distinct word.
    """
    characters, words, lines, fewer = set(_WORD_MARK), set[str](), 0, False
    held = _held_sources(files, config) if config.leaks == "remove" else set[str]()
    for side in sides:
        for part in files.parts(f"train_{side}"):
            for line in read_lines(part, nfc=config.nfc):
                words.update(shielded(line).split())
                lines, fewer = lines + 1, fewer or not line or (side == "source" and line in held)
    for word in words:
        characters.update(word)
    how = config.vocabulary
    fixed = _SPECIAL + len(config.symbols) + (_BYTES if config.spells_bytes else 0)
    parts = sum(_parts_of(len(word) + len(_WORD_MARK)) for word in words)
    fewer = fewer or bool(config.deduplicate or config.drop_identical or config.min_script_share or files.valid_every)
    unsure = fewer or lines > config.vocab_sample_lines
    unsure = unsure or how.character_coverage < 1 or how.max_sentence_bytes < _USUAL_BYTES
    unsure = unsure or bool(how.symbols or config.tags)  # words that the text holds
    return fixed + (1 if unsure else len(characters)), fixed + len(characters) + parts


def _held_sources(files: FilesConfig, config: CorpusConfig) -> set[str]:
    """Return the sources of validation and test, whose pairs are left out of the training text."""
    parts = [part for split in ("valid", "test") for part in files.parts(f"{split}_source")]
    return {line for part in parts if _exists(part) for line in read_lines(part, nfc=config.nfc)}


def _parts_of(length: int) -> int:
    """Return the number of a word's parts of two to `_LONGEST_PIECE` characters."""
    return sum(length - size + 1 for size in range(2, min(length, _LONGEST_PIECE) + 1))


def all_parts(files: FilesConfig) -> list[TextPart]:
    """Return every text file."""
    return [part for split in _SPLITS for side in ("source", "target") for part in files.parts(f"{split}_{side}")]


def text_bytes(files: FilesConfig) -> int:
    """Return about how many bytes of text the files hold, unpacked."""
    total = 0
    for part in all_parts(files):
        place = expanded(part.path)
        if os.path.isfile(place):
            with open(place, "rb") as file:
                packed = packing(file.read(HEAD_BYTES)) is not None
            total += place.stat().st_size * (_PACKED if packed else 1)
    return total


def _exists(part: TextPart) -> bool:
    return os.path.lexists(expanded(part.path))  # a file of another kind is reported when it is read


def check_data_bin(config: CorpusConfig) -> Iterator[Finding]:
    """Every split is there, as a pair of sides or as text."""
    names = config.fairseq
    assert names is not None
    try:
        opened = DataBin.open(names.folder, config.source_language, config.target_language)
        for split in ("train", "valid", "test"):
            texts = [] if split == "train" else [*names.parts(f"{split}_source"), *names.parts(f"{split}_target")]
            for part in texts:
                next(read_lines(part), None)
            if not texts:
                opened.require(getattr(names, f"{split}_subset"), f"corpus.fairseq.{split}_subset")
    except CorpusError as error:
        yield "failure", str(error)


def data_bin_bytes(config: CorpusConfig) -> float:
    """Return the most bytes that the tokens of a data-bin take; 0 where it cannot be opened."""
    names = config.fairseq
    assert names is not None
    try:
        opened = DataBin.open(names.folder, config.source_language, config.target_language)
        subsets = (names.train_subset, names.valid_subset, names.test_subset)
        return _TAKEN * sum(path.stat().st_size for subset in subsets for path in opened.files(subset))
    except CorpusError:
        return 0

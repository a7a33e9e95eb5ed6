"""Preview the filters of a training text: the pairs that each leaves out by itself, at the recipe's value and others.

Decision: nothing is written. Lengths are in sub-words: of the recipe's vocabulary files, or of a vocabulary that is
learned from a sample of the text.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.cleaning.finding import TextFinding
from hat_ray.corpus.cleaning.rules import HeldSources, PairRules, Reason
from hat_ray.corpus.cleaning.scripts import scripts_of
from hat_ray.corpus.config import CorpusConfig, Deduplicate
from hat_ray.corpus.encode import encode_text, within_ratio
from hat_ray.corpus.splits import Splits, pair_rules
from hat_ray.corpus.text.files import ParallelText
from hat_ray.corpus.text.source import Chunk, PairSource, PartUse, Start, number_chunks
from hat_ray.corpus.text.survey import DuplicateFinder, Repeated, Survey, repeated_parts
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.corpus.vocabulary.make import make_vocabularies
from hat_ray.errors import CorpusError

_SAMPLE_LINES = 100_000
_LENGTHS, _RATIOS, _SHARES = (50, 100, 200), (1.5, 2.0, 3.0), (0.5,)
_DUPLICATES: tuple[Deduplicate, ...] = (True, "source", "target", "either")
_EXAMPLES = 3
_ALONE: Mapping[str, Any] = {"remove_leaks": False, "drop_identical": False}
"""Turns other rules off."""

Rows = NDArray[np.int64]
"""Numbers of pairs, from 0."""


@dataclass(frozen=True)
class Example:
    """One pair that a filter leaves out; `number` counts from 1 over all files."""

    number: int
    source: str
    target: str


@dataclass(frozen=True)
class FilterPreview:
    """One filter at one value."""

    setting: str
    value: str
    chosen: bool
    """Whether the recipe sets this value."""
    removes: int
    """Pairs that it leaves out by itself."""
    examples: tuple[Example, ...]
    """The first of them."""


@dataclass(frozen=True)
class Inspection:
    """What is found in a text before it is prepared."""

    pairs: int
    """Training pairs that were looked at."""
    left_out: Mapping[str, int]
    """Pairs that the recipe leaves out, by the first reason; those of unfit length are not among them."""
    findings: tuple[TextFinding, ...]
    filters: tuple[FilterPreview, ...]


@dataclass(frozen=True)
class _Head:
    """The first chunks of each part of a text. Pickles."""

    source: PairSource
    pairs: int

    @property
    def num_parts(self) -> int:
        return self.source.num_parts

    @property
    def uses(self) -> tuple[PartUse, ...]:
        return self.source.uses

    def names(self, part: int) -> tuple[str, str]:
        return self.source.names(part)

    def chunks(self, part: int) -> Iterator[ParallelText]:
        left = self.pairs
        for text in self.source.chunks(part):
            yield ParallelText(text.source[:left], text.target[:left])
            left -= len(text)
            if left <= 0:
                return


def inspect_text(config: CorpusConfig, seed: int, pairs: int = 0, progress: Progress = no_progress) -> Inspection:
    """Read the first `pairs` pairs of each pair of training files (0: all) and preview every filter."""
    if config.source == "fairseq":
        raise CorpusError("corpus.source fairseq holds tokens, and filters are of text: name the text by source files")
    splits = Splits.read(config)
    if pairs:
        splits = replace(splits, train=_Head(splits.train, pairs))
    found, findings = splits.surveyed(config)
    rows = dict(_of_text(splits, config, found, progress))
    rows |= _of_lengths(splits, config, _vocabularies(found, config, seed), progress)
    lines = _lines(splits.train, {row for numbers in rows.values() for row in numbers[:_EXAMPLES].tolist()})
    filters = tuple(
        FilterPreview(*key, len(numbers), tuple(lines[row] for row in numbers[:_EXAMPLES].tolist()))
        for key, numbers in rows.items()
    )
    left_out = {reason.name.lower(): count for reason, count in found.dropped.items() if count}
    return Inspection(found.text.num_rows, left_out, tuple(findings), filters)


Key = tuple[str, str, bool]
"""A setting, its value, and whether the recipe has it."""


def _of_text(splits: Splits, config: CorpusConfig, found: Survey, progress: Progress) -> Iterator[tuple[Key, Rows]]:
    """Yield the rows that each filter of text leaves out."""
    held = HeldSources.of(found.held_out.source or splits.held["valid"].source, splits.held["test"].source)
    every, base = splits.valid_every, PairRules(held, False, splits.valid_every)
    rules: dict[Key, tuple[PairRules, Reason]] = {
        ("corpus.leaks", "remove", config.leaks == "remove"): (replace(base, remove_leaks=True), Reason.LEAK),
        ("corpus.drop_identical", "true", config.drop_identical): (
            replace(base, drop_identical=True),
            Reason.IDENTICAL,
        ),
    }
    if scripts_of(config.source_language) and scripts_of(config.target_language):
        for share in sorted({*_SHARES, config.min_script_share} - {0.0}):
            one = replace(pair_rules(config, HeldSources(), every), **_ALONE, min_script_share=share)
            rules["corpus.min_script_share", f"{share:g}", share == config.min_script_share] = (one, Reason.SCRIPT)
    rows: dict[Key, list[Rows]] = {key: [] for key in rules}
    with ExitStack() as stack:
        parts: tuple[Repeated, ...] = ("pair", "source", "target")
        finders = {part: stack.enter_context(DuplicateFinder(part)) for part in parts}
        for chunk in _chunks(splits.train):
            for key, (rule, reason) in rules.items():
                reasons = rule.reasons(chunk.text.source, chunk.text.target, chunk.first_row)
                rows[key].append(chunk.first_row + np.flatnonzero(reasons == reason))
            kept = np.flatnonzero(base.reasons(chunk.text.source, chunk.text.target, chunk.first_row) == Reason.KEPT)
            for finder in finders.values():
                finder.add(chunk, kept)
            progress(chunk.first_row + len(chunk.text), 2 * found.text.num_rows, {})
        repeated = {part: _joined(list(finder.repeated_rows())) for part, finder in finders.items()}
    yield from ((key, _joined(numbers)) for key, numbers in rows.items())
    for how in _DUPLICATES:
        numbers = np.unique(_joined([repeated[part] for part in repeated_parts(how)]))
        yield ("corpus.deduplicate", str(how).lower(), how == config.deduplicate), numbers


def _of_lengths(
    splits: Splits, config: CorpusConfig, vocabularies: Vocabularies, progress: Progress
) -> dict[Key, Rows]:
    """Return the rows that each filter of lengths leaves out."""
    lengths = sorted({*_LENGTHS, config.max_length})
    ratios = sorted({*_RATIOS, config.max_ratio} - {0.0})
    found: dict[Key, list[Rows]] = {}
    for chunk in _chunks(splits.train):
        table = encode_text(chunk.text, vocabularies)
        both = (table.source.lengths > 1) & (table.target.lengths > 1)
        for length in lengths:
            key = "corpus.max_length", str(length), length == config.max_length
            broken = both & (table.longest_sides > length)
            found.setdefault(key, []).append(chunk.first_row + np.flatnonzero(broken))
        for ratio in ratios:
            key = "corpus.max_ratio", f"{ratio:g}", ratio == config.max_ratio
            found.setdefault(key, []).append(chunk.first_row + np.flatnonzero(both & ~within_ratio(table, ratio)))
        done = chunk.first_row + len(chunk.text)
        progress(done, done, {})
    return {key: _joined(numbers) for key, numbers in found.items()}


def _vocabularies(found: Survey, config: CorpusConfig, seed: int) -> Vocabularies:
    most = min(config.vocab_sample_lines, _SAMPLE_LINES)
    return make_vocabularies(found, config.model_copy(update={"vocab_sample_lines": most}), seed)


def _chunks(source: PairSource) -> Iterator[Chunk]:
    """Yield all chunks of all parts."""
    start = Start(0, 0)
    for part in range(source.num_parts):
        for chunk in number_chunks(source, part, start):
            yield chunk
            start = Start(chunk.number + 1, chunk.first_row + len(chunk.text))


def _lines(source: PairSource, rows: set[int]) -> dict[int, Example]:
    """Read the pairs of some rows."""
    found = {}
    for chunk in _chunks(source):
        inside = [row for row in rows if chunk.first_row <= row < chunk.first_row + len(chunk.text)]
        for row in inside:
            place = row - chunk.first_row
            found[row] = Example(row + 1, chunk.text.source[place], chunk.text.target[place])
    return found


def _joined(numbers: Sequence[Rows]) -> Rows:
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *numbers]))

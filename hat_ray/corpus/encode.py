"""Text chunks to token tables: one pure function, and the execution in this process (on Ray: `cluster.py`)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hat_ray.corpus.protection.practice import Practice
from hat_ray.corpus.text.files import ParallelText
from hat_ray.corpus.text.source import Chunk, TrainingText
from hat_ray.corpus.tokens import Sentences, SentenceStore, TokenTable
from hat_ray.corpus.vocabulary import Vocabularies


@dataclass(frozen=True)
class LengthRules:
    """Which pairs are too long, or too unlike in length, to train on."""

    max_length: int
    """Tokens of the longer side, EOS included."""
    max_ratio: float
    """Tokens of the longer side over those of the shorter, without EOS; 0: any."""


@dataclass(frozen=True, eq=False)
class EncodedChunk:
    """A chunk's pairs that keep the rules, and how many do not."""

    number: int
    source: Sentences
    target: Sentences
    dropped_long: int
    dropped_ratio: int


@dataclass(frozen=True)
class EncodingJob:
    """All that encoding needs; pickles."""

    text: TrainingText
    vocabularies: Vocabularies
    rules: LengthRules
    practice: Practice | None = None
    """How the text teaches the symbols of protected parts; None: not at all."""


Encode = Callable[[EncodingJob, int], Iterator[EncodedChunk]]
"""Encode a job's chunks from a number on, in order."""


def encode_here(job: EncodingJob, first_chunk: int) -> Iterator[EncodedChunk]:
    """Encode in this process, one chunk after another."""
    for chunk in job.text.all_chunks(first_chunk):
        yield encode_chunk(chunk, job.vocabularies, job.rules, job.practice)


def encode_chunk(
    chunk: Chunk, vocabularies: Vocabularies, rules: LengthRules, practice: Practice | None = None
) -> EncodedChunk:
    """Encode a chunk's pairs, as they are to be trained on, and drop those that break the length rules."""
    table = encode_text(chunk.text, vocabularies)
    if practice is not None:
        table = _with_symbols(table, chunk, vocabularies, rules, practice)
    return keep_fitting(chunk.number, table, rules)


def _with_symbols(
    table: TokenTable, chunk: Chunk, vocabularies: Vocabularies, rules: LengthRules, practice: Practice
) -> TokenTable:
    """Put pairs that hold symbols in the place of their own, where both keep the rules: no pair comes or goes."""
    rows, text = practice.drawn(chunk.text, chunk.number)
    taught = encode_text(text, vocabularies)
    chosen = np.arange(len(table))
    fits = _fitting(taught, rules) & _fitting(table, rules)[rows]
    chosen[np.asarray(rows, dtype=np.int64)[fits]] = len(table) + np.flatnonzero(fits)
    source, target = (
        Sentences.joined([_flat(own), _flat(other)])
        for own, other in ((table.source, taught.source), (table.target, taught.target))
    )
    return TokenTable(source, target).select(chosen)


def keep_fitting(number: int, table: TokenTable, rules: LengthRules) -> EncodedChunk:
    """Drop the pairs of a chunk that break the length rules."""
    kept = _fitting(table, rules)
    chosen = table if kept.all() else table.select(np.flatnonzero(kept))
    dropped_long = int((table.longest_sides > rules.max_length).sum())
    dropped_ratio = len(table) - len(chosen) - dropped_long
    return EncodedChunk(number, _flat(chosen.source), _flat(chosen.target), dropped_long, dropped_ratio)


def _fitting(table: TokenTable, rules: LengthRules) -> NDArray[np.bool_]:
    """Return for each pair whether it keeps the length rules."""
    fits: NDArray[np.bool_] = (table.longest_sides <= rules.max_length) & within_ratio(table, rules.max_ratio)
    return fits


def _flat(side: SentenceStore) -> Sentences:
    assert isinstance(side, Sentences)
    return side


def encode_text(text: ParallelText, vocabularies: Vocabularies) -> TokenTable:
    """Encode every pair, each sentence ending in EOS."""
    source = Sentences.of(vocabularies.source.encode_lines(text.source))
    return TokenTable(source, Sentences.of(vocabularies.target.encode_lines(text.target)))


def encode_held(text: ParallelText, vocabularies: Vocabularies) -> TokenTable:
    """Encode a split whose text is kept beside its tokens."""
    table = encode_text(text, vocabularies)
    return TokenTable(table.source, table.target, tuple(text.source), tuple(text.target))


def within_ratio(table: TokenTable, max_ratio: float) -> NDArray[np.bool_]:
    """Return for each pair whether its longer side has at most that many times the tokens of the shorter; 0: any."""
    if not max_ratio:
        return np.ones(len(table), dtype=np.bool_)
    source, target = table.source.lengths - 1, table.target.lengths - 1
    within: NDArray[np.bool_] = np.maximum(source, target) <= max_ratio * np.minimum(source, target)
    return within

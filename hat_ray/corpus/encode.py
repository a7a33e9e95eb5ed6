"""Text chunks to token tables: one pure function, and the execution in this process (on Ray: `cluster.py`)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hat_ray.corpus.text.files import ParallelText
from hat_ray.corpus.text.source import Chunk, TrainingText
from hat_ray.corpus.tokens import Sentences, TokenTable
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


Encode = Callable[[EncodingJob, int], Iterator[EncodedChunk]]
"""Encode a job's chunks from a number on, in order."""


def encode_here(job: EncodingJob, first_chunk: int) -> Iterator[EncodedChunk]:
    """Encode in this process, one chunk after another."""
    for chunk in job.text.all_chunks(first_chunk):
        yield encode_chunk(chunk, job.vocabularies, job.rules)


def encode_chunk(chunk: Chunk, vocabularies: Vocabularies, rules: LengthRules) -> EncodedChunk:
    """Encode a chunk's pairs and drop those that break the length rules."""
    return keep_fitting(chunk.number, encode_text(chunk.text, vocabularies), rules)


def keep_fitting(number: int, table: TokenTable, rules: LengthRules) -> EncodedChunk:
    """Drop the pairs of a chunk that break the length rules."""
    fits = table.longest_sides <= rules.max_length
    kept = fits & within_ratio(table, rules.max_ratio)
    chosen = table if kept.all() else table.select(np.flatnonzero(kept))
    assert isinstance(chosen.source, Sentences)
    assert isinstance(chosen.target, Sentences)
    dropped_long = len(table) - int(fits.sum())
    return EncodedChunk(number, chosen.source, chosen.target, dropped_long, len(table) - len(chosen) - dropped_long)


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

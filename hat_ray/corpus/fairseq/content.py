"""The tokens of a data-bin as a corpus: training in chunks, validation and test as tables with their text.

Decisions
- Tokens are those of the data-bin, whatever the vocabulary would make of the text. Where the recipe names a split's
  text, both are compared: sub-words or tokenisation of another kind show there, before anything is trained.
- A pair that lacks a side (fairseq keeps `</s>` alone) is left out of training, as of text.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hat_ray.corpus.cleaning.finding import TextFinding
from hat_ray.corpus.cleaning.rules import Reason
from hat_ray.corpus.cleaning.watch import TextWatch
from hat_ray.corpus.encode import EncodedChunk, LengthRules, encode_held, encode_text, keep_fitting
from hat_ray.corpus.fairseq.data_bin import DataBin, Split
from hat_ray.corpus.text.files import ParallelText
from hat_ray.corpus.text.source import CHUNK_PAIRS
from hat_ray.corpus.tokens import Sentences, SentenceStore, TokenTable
from hat_ray.corpus.vocabulary import Vocabularies, Vocabulary
from hat_ray.errors import CorpusError

_LEAST_ALIKE = 0.5
"""Share of lines whose tokens the vocabulary must make as the data-bin has them."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BinSurvey:
    """The first pass over the training split."""

    kept: int
    """Pairs to train on, before those of unfit length are dropped."""
    dropped: dict[Reason, int]
    """Pairs left out, by reason."""
    removed_sources: frozenset[bytes]
    """Sources of validation and test whose pairs are left out."""
    test_sources_seen: int
    """Test sources that training pairs have as well."""
    valid_sources_seen: int
    """Validation sources that training pairs have as well."""
    findings: tuple[TextFinding, ...]
    """Stretches whose sides do not belong together, by the numbers of their tokens."""


def survey_split(train: Split, valid: SentenceStore, test: SentenceStore, *, remove_leaks: bool = True) -> BinSurvey:
    """Read all training pairs once; raises CorpusError for ids that no dictionary has."""
    of_valid, of_test = _sources(valid), _sources(test)
    held, seen = of_valid | of_test, Counter[bytes]()
    watch, pairs, empty = TextWatch("training"), 0, 0
    for table in train.chunks(CHUNK_PAIRS):
        full = _with_both_sides(table)
        watch.take_lengths(0, table.source.lengths - 1, table.target.lengths - 1)
        pairs, empty = pairs + len(table), empty + len(table) - len(full)
        if held:
            sources = (full.source[row].tobytes() for row in range(len(full)))
            seen.update(source for source in sources if source in held)
    leaks = seen.total() if remove_leaks else 0
    if not pairs - empty:
        raise CorpusError("the training split of the data-bin holds no pair with both sides: make it anew")
    if not (kept := pairs - empty - leaks):
        raise CorpusError(
            f"training text must differ from validation and test, but {leaks} of {pairs} training pairs have a source "
            "of theirs and the others are left out: give other text, or set corpus.leaks to warn"
        )
    dropped = {Reason.EMPTY: empty, Reason.LEAK: leaks}
    removed = frozenset(seen) if remove_leaks else frozenset[bytes]()
    sources_seen = len(of_test & seen.keys()), len(of_valid & seen.keys())
    return BinSurvey(kept, dropped, removed, *sources_seen, tuple(watch.findings(lambda _part: ("", ""))))


def split_chunks(
    train: Split, rules: LengthRules, removed_sources: frozenset[bytes], first: int
) -> Iterator[EncodedChunk]:
    """Yield the training chunks from a number on, without pairs of removed sources, pairs that lack a side, and pairs
    that break the length rules."""
    for number, table in enumerate(train.chunks(CHUNK_PAIRS)):
        if number >= first:
            yield keep_fitting(number, _without(_with_both_sides(table), removed_sources), rules)


def num_chunks(train: Split) -> int:
    """Return the number of chunks of a training split."""
    return sum(-(-len(source) // CHUNK_PAIRS) for source, _ in train.parts)


def held_table(data_bin: DataBin, key: str, name: str, text: ParallelText | None, known: Vocabularies) -> TokenTable:
    """Return a split with its text: the recipe's, or what its tokens decode to; `key` is the setting that names it.

    A split that the data-bin lacks is encoded from the text.
    """
    found = data_bin.split(name) if text is not None else data_bin.require(name, key)
    if found is None:
        assert text is not None
        return encode_held(text, known)
    tables = list(found.chunks(max(len(found), 1)))
    source, target = (Sentences.joined([_flat(getattr(one, side)) for one in tables]) for side in ("source", "target"))
    table = TokenTable(source, target)
    if text is None:
        return TokenTable(source, target, _decoded(source, known.source), _decoded(target, known.target))
    _require_alike(table, text, known, f"{data_bin.folder}/{name}")
    return TokenTable(source, target, tuple(text.source), tuple(text.target))


def _require_alike(table: TokenTable, text: ParallelText, known: Vocabularies, name: str) -> None:
    """Raise CorpusError where a split's text is not what its tokens were made of."""
    if len(table) != len(text):
        raise CorpusError(
            f"the text of a split must have a line for each of its sentences, got {len(text)} lines for the "
            f"{len(table)} sentences of {name}: name the text that it was made of, before pairs were left out"
        )
    encoded = encode_text(text, known)
    for side in ("source", "target"):
        ours, theirs = getattr(encoded, side), getattr(table, side)
        alike = sum(np.array_equal(ours[row], theirs[row]) for row in range(len(table)))
        if alike < _LEAST_ALIKE * len(table):
            raise CorpusError(
                f"{side} text must become the tokens of {name}, {alike} of {len(table)} lines do: name the text, the "
                "BPE codes, the tokenisation and the dictionaries that the data-bin was made with (corpus.vocabulary)"
            )
        if alike < len(table):
            log.warning(
                "%s: %d of %d lines of the %s text become other tokens", name, len(table) - alike, len(table), side
            )


def _decoded(sentences: Sentences, vocabulary: Vocabulary) -> tuple[str, ...]:
    return tuple(vocabulary.decode(sentences[row].tolist()) for row in range(len(sentences)))


def _with_both_sides(table: TokenTable) -> TokenTable:
    full = (table.source.lengths > 1) & (table.target.lengths > 1)
    return table if full.all() else table.select(np.flatnonzero(full))


def _without(table: TokenTable, sources: frozenset[bytes]) -> TokenTable:
    """Return the pairs of a table whose source is none of those."""
    kept = [row for row in range(len(table)) if table.source[row].tobytes() not in sources] if sources else []
    return table.select(np.array(kept, dtype=np.int64)) if sources and len(kept) < len(table) else table


def _sources(split: SentenceStore) -> frozenset[bytes]:
    """Return the different sources of a split that hold a token."""
    return frozenset(split[row].tobytes() for row in range(len(split)) if len(split[row]) > 1)


def _flat(sentences: object) -> Sentences:
    assert isinstance(sentences, Sentences)
    return sentences

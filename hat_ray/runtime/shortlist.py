"""Vocabulary short-lists: which target words may translate a sentence, by what stood together in the training text.

A sentence's list is the most frequent target words and, for each word of the source, its closest partners. The output
projection, 40 % of what a decoder step reads at HAT's sizes, then reads a small part of its weights.

V source vocabulary, F frequent words, K partners of each source word.

Decisions
- Partners are ranked by the Dice index of being in one pair: 2 * both / (pairs with the one + pairs with the other).
  Counts alone would rank frequent words, which are on every list anyway.
- A list belongs to a sentence, and not to a batch: with whom a sentence is translated changes nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hat_ray.corpus.vocabulary import SPECIAL_IDS
from hat_ray.errors import ExportError

MAX_PAIRS = 200_000
"""Training pairs that are counted at most."""
FREQUENT = 1000
"""Target words on every list."""

_AT_ONCE = 20_000
_NONE = -1

Tokens = Sequence[int] | NDArray[np.integer]
Counts = NDArray[np.floating]


@dataclass(frozen=True)
class ShortLists:
    """Where every sentence's list comes from."""

    frequent: NDArray[np.int64]
    """(F,) words on every list, ascending; the special ones are among them."""
    partners: NDArray[np.int64]
    """(V, K) target words by source word, -1 where there are fewer."""

    def save(self, path: Path) -> None:
        """Write what `loader.ShortLists` reads."""
        with path.open("wb") as stream:
            np.savez(stream, frequent=self.frequent, partners=self.partners.astype(np.int32))


def build_short_lists(
    pairs: Iterable[tuple[Tokens, Tokens]], vocab_sizes: tuple[int, int], partners: int, frequent: int = FREQUENT
) -> ShortLists:
    """Count in (source, target) token pairs which words go together; the first `MAX_PAIRS` are read.

    `vocab_sizes` are those of the source and the target.
    """
    together = sparse.csr_matrix(vocab_sizes, dtype=np.float32)
    left, right = (np.zeros(size) for size in vocab_sizes)
    for chunk in _chunks(islice(pairs, MAX_PAIRS)):
        sources, targets = (_indicator([pair[side] for pair in chunk], vocab_sizes[side]) for side in (0, 1))
        together = together + sources.T @ targets
        left += np.asarray(sources.sum(0)).ravel()
        right += np.asarray(targets.sum(0)).ravel()
    if not right.any():
        raise ExportError("short-lists are counted in training pairs, and there is none: leave --short-list out")
    order = np.argsort(-right, kind="stable")[: min(frequent, vocab_sizes[1])]
    return ShortLists(np.union1d(order, SPECIAL_IDS).astype(np.int64), _closest(together, left, right, partners))


def _closest(together: sparse.csr_matrix, left: Counts, right: Counts, count: int) -> NDArray[np.int64]:
    found = np.full((together.shape[0], count), _NONE, np.int64)
    for word, (begin, end) in enumerate(zip(together.indptr[:-1], together.indptr[1:], strict=True)):
        others = together.indices[begin:end]
        closeness = 2 * together.data[begin:end] / (left[word] + right[others])
        best = np.lexsort((others, -closeness))[:count]
        found[word, : len(best)] = others[best]
    return found


def _chunks(pairs: Iterator[tuple[Tokens, Tokens]]) -> Iterator[list[tuple[Tokens, Tokens]]]:
    while chunk := list(islice(pairs, _AT_ONCE)):
        yield chunk


def _indicator(sentences: Sequence[Tokens], vocab_size: int) -> sparse.csr_matrix:
    """(sentences, V): 1 where the sentence has the word."""
    bags = [np.unique(np.asarray(sentence)) for sentence in sentences]
    starts = np.cumsum([0, *map(len, bags)])
    columns = np.fromiter(chain.from_iterable(bags), np.int32, int(starts[-1]))
    return sparse.csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=(len(bags), vocab_size))

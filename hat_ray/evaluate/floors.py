"""Floors: the scores that need no model at all. A model is worth something only above them.

- *copy*: the source itself as its translation (names, numbers and punctuation score).
- *nearest*: the translation of the training source that overlaps most with the sentence (a test set that resembles
  its training data scores). Overlap is the Jaccard index of lowercased words; ties go to the earlier pair.
  Of several similarities tried on Multi30k this one gives the highest floor (9.6 BLEU; TF-IDF cosine 7-8, words in
  common 5.6): the strictest floor is the honest one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hat_ray.evaluate.bleu import score_text

CELLS_AT_ONCE = 10_000_000  # (test, train) similarities held in memory: 40 MB of float32


@dataclass(frozen=True)
class Floors:
    """BLEU and chrF of the two translations that need no model."""

    copy_bleu: float
    copy_chrf: float | None
    nearest_bleu: float
    nearest_chrf: float | None
    train_pairs: int
    """Training pairs that were searched for the nearest source."""


def floors(
    sources: Sequence[str],
    references: Sequence[Sequence[str]],
    train_sources: Sequence[str],
    train_targets: Sequence[str],
    *,
    tokenizer: str = "13a",
    chrf: bool = True,
) -> Floors:
    """Score copying and nearest-source translation against `references` (see `score_text`)."""
    copy = score_text(sources, references, tokenizer=tokenizer, chrf=chrf)
    translations = [train_targets[row] for row in nearest_sources(sources, train_sources)]
    nearest = score_text(translations, references, tokenizer=tokenizer, chrf=chrf)
    return Floors(copy.bleu, copy.chrf, nearest.bleu, nearest.chrf, len(train_sources))


def nearest_sources(sources: Sequence[str], train_sources: Sequence[str]) -> NDArray[np.intp]:
    """Return for each source the row of the training source with the highest Jaccard index of lowercased words."""
    words: dict[str, int] = {}
    train_bags = [sorted({words.setdefault(w, len(words)) for w in line.lower().split()}) for line in train_sources]
    bags = [set(line.lower().split()) for line in sources]
    known = [sorted(words[w] for w in bag if w in words) for bag in bags]
    train, test = _indicator(train_bags, len(words)).T.tocsc(), _indicator(known, len(words))
    train_sizes = np.array([len(bag) for bag in train_bags], dtype=np.float32)
    sizes = np.array([len(bag) for bag in bags], dtype=np.float32)
    step = max(1, CELLS_AT_ONCE // max(1, len(train_sources)))
    best: list[NDArray[np.intp]] = []
    for start in range(0, len(sources), step):
        shared = (test[start : start + step] @ train).toarray()  # (test rows, train rows)
        union = sizes[start : start + step, None] + train_sizes[None] - shared
        best.append(np.argmax(shared / np.maximum(union, 1), axis=1))
    return np.concatenate(best) if best else np.zeros(0, dtype=np.intp)


def _indicator(bags: Sequence[Sequence[int]], num_words: int) -> sparse.csr_matrix:
    """(rows, words): 1 where the row holds the word."""
    starts = np.cumsum([0, *map(len, bags)])
    columns = np.fromiter(chain.from_iterable(bags), dtype=np.int32, count=int(starts[-1]))
    return sparse.csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=(len(bags), num_words))

"""A few pairs of sentence lengths that stand for a corpus: what `latency.length_mix` times instead of one pair."""

import numpy as np
from numpy.typing import ArrayLike

from hat_ray.errors import LatencyError

_ROUNDS = 5
_TYPICAL = 0.1  # how much a pair's distance from its part's mean weighs beside the distance of all pairs' sum


def draw_pairs(source_lengths: ArrayLike, target_lengths: ArrayLike, count: int) -> tuple[tuple[int, int], ...]:
    """Choose `count` of a corpus's sentence pairs, by length in tokens; deterministic, ascending by total length.

    The sentences, shortest first, are cut into `count` equal parts, and each part gives one pair: one near its mean,
    such that all pairs' mean is the corpus's. A corpus of fewer sentences gives all of them. Raises LatencyError when
    it has none.
    """
    lengths = np.stack([np.asarray(source_lengths), np.asarray(target_lengths)], axis=1).astype(np.int64)  # (N, 2)
    if not len(lengths):
        raise LatencyError("latency.length_mix needs validation sentences, got a corpus without: set it to 0")
    lengths = lengths[np.lexsort((lengths[:, 0], lengths[:, 1], lengths.sum(axis=1)))]
    parts = [np.unique(part, axis=0) for part in np.array_split(lengths, min(count, len(lengths)))]
    means = np.stack([part.mean(axis=0) for part in np.array_split(lengths, len(parts))])
    chosen = means.copy()
    for _ in range(_ROUNDS):  # each part in turn makes good what the others miss
        for i, part in enumerate(parts):
            missed = len(parts) * lengths.mean(axis=0) - (chosen.sum(axis=0) - chosen[i])
            cost = np.abs(part - missed).sum(axis=1) + _TYPICAL * np.abs(part - means[i]).sum(axis=1)
            chosen[i] = part[cost.argmin()]
    return tuple((int(source), int(target)) for source, target in chosen)

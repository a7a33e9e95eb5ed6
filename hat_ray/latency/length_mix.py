"""A few pairs of sentence lengths that stand for a corpus: what `latency.length_mix` times instead of one pair."""

import numpy as np
from numpy.typing import ArrayLike

from hat_ray.errors import LatencyError


def draw_pairs(source_lengths: ArrayLike, target_lengths: ArrayLike, count: int) -> tuple[tuple[int, int], ...]:
    """Choose `count` of a corpus's sentence pairs, by length in tokens; deterministic, ascending by total length.

    The sentences, shortest first, are cut into `count` equal parts, and each part gives the pair nearest to its mean.
    What a choice misses of its part's mean the next part makes good, so that the pairs' mean is the corpus's. A corpus
    of fewer sentences gives all of them. Raises LatencyError when it has none.
    """
    lengths = np.stack([np.asarray(source_lengths), np.asarray(target_lengths)], axis=1).astype(np.int64)  # (N, 2)
    if not len(lengths):
        raise LatencyError("latency.length_mix needs validation sentences, got a corpus without: set it to 0")
    lengths = lengths[np.lexsort((lengths[:, 0], lengths[:, 1], lengths.sum(axis=1)))]
    chosen, missed = [], np.zeros(2)
    for part in np.array_split(lengths, min(count, len(lengths))):
        wanted = part.mean(axis=0) + missed
        pair = part[np.abs(part - wanted).sum(axis=1).argmin()]
        missed = wanted - pair
        chosen.append((int(pair[0]), int(pair[1])))
    return tuple(chosen)

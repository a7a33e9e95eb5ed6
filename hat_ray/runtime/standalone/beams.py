"""The choice of beams on arrays. Needs numpy alone: an engine of whatever library is timed with it.

N sentences, R = N * beam rows, C words of each row.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def best_continuations(values: Floats, words: Ints, scores: Floats) -> tuple[Floats, Ints, Ints]:
    """(R, C), (R, C), (N, beam) -> total log-probability, token and beam, each (N, 2 * beam), best first."""
    sentences, beam = scores.shape
    totals = (values.reshape(sentences, beam, -1) + scores[:, :, None]).reshape(sentences, -1)
    order = np.argsort(-totals, axis=1, kind="stable")[:, : 2 * beam]
    found = np.take_along_axis(words.reshape(sentences, -1), order, 1)
    return np.take_along_axis(totals, order, 1), found, order // words.shape[1]

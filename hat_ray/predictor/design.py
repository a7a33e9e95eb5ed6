"""Which architectures to time next: those that a predictor learns most from.

Greedy D-optimal design (Fedorov 1972): each choice is the architecture whose cost terms, relative to its time, the rows
until now predict worst. The first two are the space's smallest and largest, so that nothing lies outside the rows.
"""

import random
from collections.abc import Sequence

import numpy as np

from hat_ray.predictor.predictor import Predictor
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import COST_FEATURES, FloatArray, cost_features
from hat_ray.space.search_space import SearchSpace

_POOL = 600  # random architectures to choose from
_RIDGE = 0.05  # what is known before any row


def next_architectures(
    space: SearchSpace, known: Sequence[Architecture], count: int, seed: int, predictors: Sequence[Predictor] = ()
) -> list[Architecture]:
    """Return up to `count` architectures beside the `known` ones; fewer when the space has no more.

    `predictors`, of this device or of others, estimate latencies; without any, the decoder's depth does.
    """
    rng = random.Random(f"{seed} {len(known)}")
    pool = dict.fromkeys([space.smallest(), space.largest()])
    for _ in range(10 * _POOL):  # a small space runs dry: every draw is then known
        if len(pool) >= _POOL:
            break
        pool.setdefault(space.sample(rng))
    ends = [one for one in list(pool)[:2] if one not in known]
    chosen = ends[:count]
    left = [one for one in pool if one not in known and one not in chosen]
    listed = list(dict.fromkeys([*known, *chosen])) + left
    costs = cost_features(listed)
    columns = relative_columns(costs, [predictor.predict(listed) for predictor in predictors])
    known_columns, offered = columns[: len(columns) - len(left)], columns[len(columns) - len(left) :]
    return chosen + [left[place] for place in most_informative(known_columns, offered, count - len(chosen))]


def relative_columns(costs: FloatArray, times_ms: Sequence[FloatArray]) -> FloatArray:
    """Return cost terms, (N, C), and 1, over the time: what a fit of relative errors sees, (N, C + 1).

    `times_ms` are predictions, (N,) each; without any, the decoder's depth stands for the time.
    """
    if times_ms:
        time = np.mean([times / np.median(times) for times in times_ms], axis=0)
    else:
        time = costs[:, COST_FEATURES.index("decoder_depth")] + 1
    columns = np.column_stack([np.ones(len(costs)), costs])
    return np.asarray(columns / np.maximum(columns.mean(axis=0), 1e-12) / time[:, None] * np.median(time))


def most_informative(known: FloatArray, offered: FloatArray, count: int) -> list[int]:
    """Choose rows of `offered`, (N, F), one by one: those that `known`, (M, F), and the rows before predict worst."""
    unknown = np.linalg.inv(_RIDGE * np.eye(offered.shape[1]) + known.T @ known)
    chosen: list[int] = []
    for _ in range(min(count, len(offered))):
        news = np.einsum("ij,jk,ik->i", offered, unknown, offered)
        news[chosen] = -1
        place = int(np.argmax(news))
        chosen.append(place)
        seen = unknown @ offered[place]
        unknown = unknown - np.outer(seen, seen) / (1 + offered[place] @ seen)
    return chosen

"""The order of predicted losses against true losses: Kendall's tau-b, overall and within bins, with bootstrap
intervals.

Shapes: `K` architectures, `R` resamples.

Decisions
- Tau-b from the signs of all pairs: `sum(sx * sy) / sqrt(sum(sx^2) * sum(sy^2))`. A pair that is tied in one of the two
  is neither right nor wrong and shrinks the denominator of that one; so it serves predictors with few values, such as
  the number of layers. A predictor without any order at all has no tau: None.
- Within bins the same sum runs over the pairs whose two members lie in one bin, pooled over the bins.
- The bootstrap draws architectures with replacement inside each bin, because bins were chosen and architectures drawn.
  Twins that this makes are ties in both and drop out by themselves.
- Two predictors are compared on the same resamples: their difference is far better known than either tau.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Signs: TypeAlias = NDArray[np.int8]
Floats: TypeAlias = NDArray[np.float64]

LEVEL = 0.95
"""Share of the resamples that an interval holds."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % bootstrap interval; None where it is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


def kendall_tau_b(x: ArrayLike, y: ArrayLike, bins: ArrayLike | None = None) -> float | None:
    """Return tau-b of two (K,) lists, over all pairs or over those within a bin; None when either has no order."""
    sx, sy = pair_signs(x), pair_signs(y)
    mask = same_bin(bins) if bins is not None else np.ones(sx.shape, dtype=bool)
    return _as_float(_tau(sx, sy, mask, np.arange(len(sx))[None])[0])


def spearman_rho(x: ArrayLike, y: ArrayLike) -> float | None:
    """Return the correlation of the ranks of two (K,) lists, ties sharing their mean rank."""
    rx, ry = rankdata(x), rankdata(y)
    if len(rx) < 2 or np.ptp(rx) == 0 or np.ptp(ry) == 0:
        return None
    return float(np.corrcoef(rx, ry)[0, 1])


def pair_signs(values: ArrayLike) -> Signs:
    """(K,) -> (K, K): the sign of each difference."""
    v = np.asarray(values, dtype=np.float64)
    return np.sign(v[:, None] - v[None, :]).astype(np.int8)


def same_bin(bins: ArrayLike) -> NDArray[np.bool_]:
    """(K,) -> (K, K): whether two architectures lie in one bin."""
    numbers = np.asarray(bins)
    return np.asarray(numbers[:, None] == numbers[None, :], dtype=np.bool_)


def resample(bins: ArrayLike, count: int, seed: int) -> NDArray[np.intp]:
    """Draw (R, K) indices with replacement, each from the bin of the place that it fills."""
    numbers = np.asarray(bins)
    rng = np.random.default_rng(seed)
    drawn = np.empty((count, len(numbers)), dtype=np.intp)
    for bin_ in np.unique(numbers):
        members = np.flatnonzero(numbers == bin_)
        drawn[:, members] = rng.choice(members, size=(count, len(members)))
    return drawn


def tau_samples(x: ArrayLike, y: ArrayLike, bins: ArrayLike | None, drawn: NDArray[np.intp]) -> Floats:
    """Return tau-b in each of R resamples (R, K), NaN where it is undefined; within bins where `bins` are given."""
    sx, sy = pair_signs(x), pair_signs(y)
    mask = same_bin(bins) if bins is not None else np.ones(sx.shape, dtype=bool)
    return _tau(sx, sy, mask, drawn)


def interval(samples: Floats) -> tuple[float | None, float | None]:
    """Return the ends of the interval that holds 95 % of the samples, undefined ones left out."""
    known = samples[np.isfinite(samples)]
    if not len(known):
        return None, None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean_estimate(values: Sequence[float | None], samples: Sequence[Floats]) -> Estimate:
    """Return the mean of several taus, such as those of several seeds, with the interval of the mean."""
    known = [value for value in values if value is not None]
    if not known:
        return Estimate(None)
    return Estimate(float(np.mean(known)), *interval(np.mean(samples, axis=0)))


def regrets(predicted: ArrayLike, true: ArrayLike, bins: ArrayLike) -> list[float]:
    """Return for each bin, in order, the true loss of the pick less that of the bin's best; never negative.

    The pick is the lowest predicted; where several share that, their mean, as if one were drawn.
    """
    p, t, numbers = np.asarray(predicted, np.float64), np.asarray(true, np.float64), np.asarray(bins)
    found = []
    for bin_ in np.unique(numbers):
        inside = numbers == bin_
        picked = inside & (p == p[inside].min())
        found.append(float(t[picked].mean() - t[inside].min()))
    return found


def _tau(sx: Signs, sy: Signs, mask: NDArray[np.bool_], drawn: NDArray[np.intp]) -> Floats:
    """Tau-b of each resample: (K, K), (K, K), (K, K), (R, K) -> (R,).

    A pair's weight in a resample is the product of how often its members were drawn; so nothing of (R, K, K) is made.
    """
    counts = np.stack([np.bincount(row, minlength=len(sx)) for row in drawn]).astype(np.float64)  # (R, K)

    def total(matrix: Floats) -> Floats:
        return np.asarray(np.einsum("rk,rk->r", counts @ matrix, counts), dtype=np.float64)

    agree = total(np.where(mask, sx * sy, 0).astype(np.float64))
    x_pairs = total(np.where(mask, sx != 0, False).astype(np.float64))
    y_pairs = total(np.where(mask, sy != 0, False).astype(np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(agree / np.sqrt(x_pairs * y_pairs), dtype=np.float64)


def _as_float(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

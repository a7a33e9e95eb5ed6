"""Rows that were timed while the device was slow, found from the table alone.

HAT's published tables were timed on devices that were now and then slow for minutes: by row order, the residuals of
any good regression stand 22-42 % higher for hundreds of rows on end (`hat-ray latency measure` times canaries to
prevent that; a table from elsewhere has none). A model cannot learn such rows, but can be kept from learning of them.

Method: the log ratios of measured to predicted time, in the order of timing, are cut into stretches of one level each,
by optimal partitioning with a penalty for every cut (Jackson et al. 2005); a stretch whose level stands above the quiet
level by more than `SLOW` is slow.
"""

import itertools

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from hat_ray.space.features import FloatArray

BoolArray = npt.NDArray[np.bool_]

SLOW = 0.08
"""Log ratio by which a stretch stands above the quiet level to count as slow."""

_SHORTEST = 8  # rows of a stretch: fewer are outliers, which the fit withstands
_PENALTY = 12.0  # of a cut, in variances times the log of the number of rows
_QUIET = 0.25  # share of the rows that are surely timed on a quiet device
_OUTLIER = 3.0  # standard deviations from the neighbours' median, beyond which a row counts no more
_NEIGHBOURS = 15
_MOST_STEPS = 4000  # longer tables are cut in steps of several rows


def slow_periods(log_ratios: FloatArray) -> BoolArray:
    """Return the mask of rows that were timed in a slow period: (N,) from the residuals (N,) in the order of timing."""
    if len(log_ratios) < 2 * _SHORTEST:
        return np.zeros(len(log_ratios), dtype=bool)
    step = -(-len(log_ratios) // _MOST_STEPS)
    undisturbed = _without_outliers(log_ratios)
    spread = _spread(undisturbed)
    if spread == 0:
        return np.zeros(len(log_ratios), dtype=bool)
    bounds = [step * cut for cut in _cut(_blocks(undisturbed, step), spread / np.sqrt(step))]
    bounds[-1] = len(log_ratios)
    levels = np.empty(len(log_ratios))
    for begin, end in itertools.pairwise(bounds):
        levels[begin:end] = np.median(log_ratios[begin:end])
    quiet = np.quantile(levels, _QUIET, method="lower")
    return np.asarray(levels > quiet + SLOW, dtype=bool)


def _without_outliers(values: FloatArray) -> FloatArray:
    """Bring single rows that stand far from their neighbours back to them: a cut is for a stretch, not for a row."""
    around = median_filter(values, size=_NEIGHBOURS, mode="nearest")
    reach = _OUTLIER * _spread(values)
    return np.asarray(np.clip(values, around - reach, around + reach), dtype=np.float64)


def _spread(values: FloatArray) -> float:
    """Return the standard deviation of rows about their level, from what lies between neighbours."""
    return float(1.4826 * np.median(np.abs(np.diff(values))) / np.sqrt(2))


def _blocks(values: FloatArray, step: int) -> FloatArray:
    padded = np.pad(values, (0, -len(values) % step), mode="edge")
    return np.asarray(padded.reshape(-1, step).mean(axis=1), dtype=np.float64)


def _cut(values: FloatArray, spread: float) -> list[int]:
    """Return the bounds of stretches: of all partitions the one with the least squares plus penalties."""
    count = len(values)
    sums, squares = (np.concatenate([[0.0], np.cumsum(part)]) for part in (values, values**2))
    penalty = _PENALTY * spread**2 * np.log(count)
    best = np.full(count + 1, np.inf)
    best[0] = -penalty
    before = np.zeros(count + 1, dtype=np.int64)
    for end in range(min(_SHORTEST, count), count + 1):
        begins = np.arange(end - _SHORTEST + 1)
        within = squares[end] - squares[begins] - (sums[end] - sums[begins]) ** 2 / (end - begins)
        total = best[begins] + within + penalty
        before[end] = np.argmin(total)
        best[end] = total[before[end]]
    bounds = [count]
    while bounds[-1] > 0:
        bounds.append(int(before[bounds[-1]]))
    return bounds[::-1]

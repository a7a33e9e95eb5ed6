"""FLOPs against latency: how well FLOPs predict it, from architectures that were timed on one device.

Shapes: `N` timed architectures, in the order of the arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau

from hat_ray.space.features import FloatArray

ALIKE = 0.05
"""FLOPs that differ by at most this share count as equal."""
_FEWEST = 5
"""Fewest architectures for which a correlation is reported."""


@dataclass(frozen=True)
class Correlation:
    """Correlation of two figures over architectures; None where either is constant."""

    architectures: int
    pearson: float | None
    kendall_tau: float | None


@dataclass(frozen=True)
class EqualFlopsPair:
    """Two architectures of nearly equal FLOPs, by their places in the arguments, the faster first."""

    fast: int
    slow: int
    ratio: float
    """Latency of the slow one / latency of the fast one."""


@dataclass(frozen=True)
class FlopsEvidence:
    """Evidence on FLOPs as a predictor of latency, on one device."""

    overall: Correlation
    within: dict[int, Correlation]
    """Among architectures of one decoder depth, by that depth."""
    pair: EqualFlopsPair | None
    """The two with FLOPs alike and latency most unlike; None where no two have FLOPs alike."""


def flops_evidence(flops: Sequence[int], ms: Sequence[float], depths: Sequence[int]) -> FlopsEvidence | None:
    """Compare FLOPs with milliseconds, all (N,); `depths` are decoder layers. None of fewer than five architectures."""
    if len(flops) < _FEWEST:
        return None
    x, y, depth = np.asarray(flops, np.float64), np.asarray(ms, np.float64), np.asarray(depths)
    groups = {int(value): depth == value for value in np.unique(depth)}
    within = {value: _correlation(x[mask], y[mask]) for value, mask in groups.items() if mask.sum() >= _FEWEST}
    return FlopsEvidence(_correlation(x, y), within, most_unequal_pair(x, y))


def most_unequal_pair(flops: FloatArray, ms: FloatArray) -> EqualFlopsPair | None:
    """Return the two whose FLOPs differ by `ALIKE` at most and whose latencies differ most."""
    order = np.argsort(flops, kind="stable")
    sorted_flops, sorted_ms = flops[order], ms[order]
    best: EqualFlopsPair | None = None
    ends = np.searchsorted(sorted_flops, sorted_flops * (1 + ALIKE), side="right")
    for start, end in enumerate(ends):
        window = sorted_ms[start:end]
        fast, slow = start + int(window.argmin()), start + int(window.argmax())
        # all in a window are within 5 % of its first, and so of each other
        ratio = float(sorted_ms[slow] / sorted_ms[fast])
        if fast != slow and (best is None or ratio > best.ratio):
            best = EqualFlopsPair(int(order[fast]), int(order[slow]), ratio)
    return best


def _correlation(x: FloatArray, y: FloatArray) -> Correlation:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(len(x), None, None)
    return Correlation(len(x), float(np.corrcoef(x, y)[0, 1]), float(kendalltau(x, y).statistic))

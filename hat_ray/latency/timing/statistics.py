"""Statistics of repeated timings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_FOR_P99 = 100
"""Samples that a 99th percentile is of, at least."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Spread of a repeated timing, in milliseconds. Quantiles are None where only averages are known."""

    p10_ms: float | None
    p50_ms: float | None
    p90_ms: float | None
    mean_ms: float
    std_ms: float
    p99_ms: float | None = None
    """None of fewer than a hundred samples: it would be one of the slowest."""

    @property
    def typical_ms(self) -> float:
        """The median, or the mean where only averages are known."""
        return self.mean_ms if self.p50_ms is None else self.p50_ms


def spread(samples_ms: Sequence[float]) -> Spread:
    """Summarise one or more samples."""
    values = np.asarray(samples_ms, dtype=np.float64)
    p10, p50, p90, p99 = (float(value) for value in np.quantile(values, (0.1, 0.5, 0.9, 0.99)))
    known = p99 if len(values) >= FEWEST_FOR_P99 else None
    return Spread(p10, p50, p90, float(values.mean()), float(values.std()), known)


def relative_error_of_median(samples_ms: Sequence[float]) -> float:
    """Return the median's relative standard error; needs three samples at least.

    From order statistics, without assuming a distribution: the distance between the two ranks that enclose the median
    with 95 % confidence is 2 * 1.96 standard errors (McKean and Schrader 1984). Timings have long right tails, where
    the usual 1.25 * std / sqrt(n) is far too large.
    """
    values = sorted(samples_ms)
    size = len(values)
    rank = max(1, round((size + 1) / 2 - 1.96 * math.sqrt(size / 4)))
    half_interval = (values[size - rank] - values[rank - 1]) / 2
    return half_interval / 1.96 / values[size // 2]

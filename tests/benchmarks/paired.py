"""What one way of doing a thing costs more than another: CPU time of short blocks in turns, pair by pair.

On a machine that does other work as well two blocks that follow each other meet nearly the same conditions, and the
median of many ratios moves little. Which of a pair comes first changes from pair to pair.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Loss:
    """How much more CPU time a way takes, in percent of the other, by pair; in order."""

    percent: tuple[float, ...]
    plain_ms: float
    """Of the other way, for a block: the median."""

    @property
    def median(self) -> float:
        return float(np.median(self.percent))

    def __str__(self) -> str:
        """Give the median, its 95 % interval by order statistics, the middle half of the pairs, and all of them."""
        count = len(self.percent)
        rank = max(0, int(count / 2 - 0.98 * count**0.5))
        low, high = self.percent[rank], self.percent[count - 1 - rank]
        quarter, three = np.percentile(self.percent, (25, 75))
        return (
            f"{self.median:+.2f} % of CPU time (median of {count} pairs in turns, 95 % interval {low:+.2f} to "
            f"{high:+.2f}; half of the pairs {quarter:+.1f} to {three:+.1f}, all {self.percent[0]:+.1f} to "
            f"{self.percent[-1]:+.1f}; {self.plain_ms:.0f} ms a block without)"
        )


def loss(plain: Callable[[], object], other: Callable[[], object], pairs: int) -> Loss:
    """Compare the CPU time of this process, all its threads, for two ways of doing the same."""
    ways = (plain, other)
    for way in ways:
        way()
    found, whole = [], []
    for pair in range(pairs):
        taken = [0.0, 0.0]
        for which in (0, 1) if pair % 2 else (1, 0):
            began = time.process_time()
            ways[which]()
            taken[which] = time.process_time() - began
        found.append(100 * (taken[1] / taken[0] - 1))
        whole.append(1e3 * taken[0])
    return Loss(tuple(sorted(found)), float(np.median(whole)))

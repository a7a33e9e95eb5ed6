"""The canary: one fixed architecture, timed between the others, that shows when a device is disturbed.

A device that shares its hardware changes its speed by up to a factor of two within seconds. Repetitions between two
canaries that were both as fast as they are on the quiet device is kept; the rest is set aside and timed again.

Decisions
- The quiet level is a low quantile of all canaries of a session, each taken with its neighbours (a running median):
  disturbances only ever slow a device down, and they come and go, while one that is slow throughout (a throttled
  board) is its own quiet level. The running median keeps the scatter of single canaries out of the level.
- The canary runs in the same process between small groups of repetitions, not between architectures: the states of a
  shared machine last about as long as one architecture's timing.
- Kept repetitions are divided by the slowness of the canaries around them (`local_levels`): a device that wanders
  within the tolerance is followed as well.
"""

import math
import statistics
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hat_ray.latency.timing.workload import TranslationTime

_LEVEL_QUANTILE = 0.05
_REMEMBERED = 5000
_CALIBRATION_REPETITIONS = 5
_WINDOW = 7  # canaries of one running median


@dataclass
class CanaryMonitor:
    """Times the canary and judges what lies between two of its timings."""

    translate: Callable[[], TranslationTime]
    tolerance: float
    """A canary is undisturbed when it takes at most this much longer than the quiet level, as a share."""
    clock: Callable[[], float] = time.perf_counter
    """Seconds; for devices whose time is simulated."""
    _latest_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    _medians_ms: deque[float] = field(default_factory=deque)
    _ascending_ms: list[float] = field(default_factory=list)
    """The same medians in order: the level is asked for after every group."""

    @property
    def level_ms(self) -> float:
        """The canary's time on the quiet device, by this session's canaries until now."""
        known = self._ascending_ms or sorted(self._latest_ms)
        return known[int(_LEVEL_QUANTILE * (len(known) - 1))]

    def calibrate(self, seconds: float) -> None:
        """Watch the canary for a while, so that a quiet moment is likely among its timings."""
        until, timed = self.clock() + seconds, 0
        while timed < _CALIBRATION_REPETITIONS or self.clock() < until:
            self.time()
            timed += 1

    def time(self) -> float:
        """Time the canary once; return its milliseconds."""
        ms = self.translate().total_ms
        self._latest_ms.append(ms)
        if len(self._latest_ms) == _WINDOW:
            self._remember(statistics.median(self._latest_ms))
        return ms

    def _remember(self, median_ms: float) -> None:
        self._medians_ms.append(median_ms)
        insort(self._ascending_ms, median_ms)
        if len(self._medians_ms) > _REMEMBERED:
            oldest = self._medians_ms.popleft()
            del self._ascending_ms[bisect_left(self._ascending_ms, oldest)]

    @property
    def limit_ms(self) -> float:
        """The slowest canary that is undisturbed."""
        return self.level_ms * (1 + self.tolerance)


@dataclass(frozen=True, slots=True)
class Group:
    """Repetitions between two canaries."""

    before_ms: float
    after_ms: float
    samples: tuple[TranslationTime, ...]
    joules: float | None = None
    """Energy of the repetitions, without the canaries; None where the system does not report it."""


def local_levels(groups: Sequence[Group], limit_ms: float = math.inf) -> NDArray[np.float64]:
    """Return, for each group, how long the canary took about then: the median of those of it and its neighbours.

    Up to four canaries: the group's own two and one more on either side, so that one odd canary decides nothing. Those
    above the limit do not count beside an undisturbed group: they belong to another state of the device.
    """
    if not groups:
        return np.array([])
    marks = np.array([math.nan, groups[0].before_ms, *(group.after_ms for group in groups), math.nan])
    windows = np.lib.stride_tricks.sliding_window_view(marks, 4)
    undisturbed = np.maximum(windows[:, 1], windows[:, 2]) <= limit_ms
    levels: NDArray[np.float64] = np.nanmedian(
        np.where(undisturbed[:, None] & (windows > limit_ms), math.nan, windows), axis=1
    )
    return levels

"""The canary: one fixed architecture, timed between the others, that shows when a device is disturbed.

A device that shares its hardware changes its speed by up to a factor of two within seconds. Repetitions between two
canaries that were both as fast as they are on the quiet device is kept; the rest is set aside and timed again.

Decisions
- The quiet level is a low quantile of all canaries of a session, each taken with its neighbours (a running median):
  disturbances only ever slow a device down, and they come and go, while one that is slow throughout (a throttled
  board) is its own quiet level. The running median keeps the scatter of single canaries out of the level.
- The canary runs in the same process between small groups of repetitions, not between architectures: the states of a
  shared machine last about as long as one architecture's timing.
- With one thread, canaries and repetitions count in the processor's time: at rest it is the time that passes, and other
  processes' turns are not in it. On a machine with a load of ten, two halves of a timing then agree to 4.5 % where they
  agreed to 11 %. The cost of shared caches and hyperthreads is in both, and the canary shows it. Where the canary
  computes elsewhere, such as in threads of its own, times that passed count.
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
_CPU_SHARE = 0.05
_WINDOW = 7  # canaries of one running median


@dataclass
class CanaryMonitor:
    """Times the canary and judges what lies between two of its timings."""

    translate: Callable[[], TranslationTime]
    tolerance: float
    """A canary is undisturbed when it takes at most this much longer than the quiet level, as a share."""
    clock: Callable[[], float] = time.perf_counter
    """Seconds; for devices whose time is simulated."""
    on_cpu_time: bool = False
    """Whether canaries and repetitions count in the processor's time: `calibrate` decides."""
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
        until, taken = self.clock() + seconds, list[TranslationTime]()
        while len(taken) < _CALIBRATION_REPETITIONS or self.clock() < until:
            taken.append(self.translate())
        self.on_cpu_time = _computes_here(taken)
        for one in taken:
            self._note(self.counted_ms(one))

    def counted_ms(self, one: TranslationTime) -> float:
        """Return the milliseconds of a translation that count: the processor's, or those that passed."""
        return one.cpu_ms if self.on_cpu_time and one.cpu_ms is not None else one.total_ms

    def time(self) -> float:
        """Time the canary once; return its milliseconds that count."""
        ms = self.counted_ms(self.translate())
        self._note(ms)
        return ms

    def _note(self, ms: float) -> None:
        self._latest_ms.append(ms)
        if len(self._latest_ms) == _WINDOW:
            self._remember(statistics.median(self._latest_ms))

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


def _computes_here(taken: Sequence[TranslationTime]) -> bool:
    """Return whether a translation takes the processor's time alone: an undisturbed one takes what passes, none more.

    A tenth of the canaries must be undisturbed; else the processor may be waiting for something.
    """
    shares = [one.cpu_ms / one.total_ms for one in taken if one.cpu_ms is not None and one.total_ms > 0]
    if len(shares) < len(taken):
        return False
    return bool(np.quantile(shares, 0.9) > 1 - _CPU_SHARE and max(shares) < 1 + _CPU_SHARE)


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

"""The canary: one fixed architecture, timed between the others, that shows when a device is disturbed.

A device that shares its hardware changes its speed by up to a factor of two within seconds. What is timed between two
canaries that were both as fast as they are on the quiet device is kept; the rest is set aside and timed again.

Decisions
- The quiet level is a low quantile of all canaries of a session: disturbances only ever slow a device down, and they
  come and go, while one that is slow throughout (a throttled board) is its own quiet level.
- The canary runs in the same process between small groups of repetitions, not between architectures: the states of a
  shared machine last about as long as one architecture's timing.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hat_ray.latency.translation import Sample

_LEVEL_QUANTILE = 0.1
_REMEMBERED = 5000
_CALIBRATION_REPETITIONS = 5


@dataclass
class CanaryWatch:
    """Times the canary and judges what lies between two of its timings."""

    translate: Callable[[], Sample]
    tolerance: float
    """A canary is calm when it takes at most this much longer than the quiet level, as a share."""
    _samples_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    @property
    def level_ms(self) -> float:
        """The canary on the quiet device, as far as this session has seen it."""
        return float(np.quantile(self._samples_ms, _LEVEL_QUANTILE))

    def calibrate(self, seconds: float) -> None:
        """Watch the canary for a while, so that a quiet moment is likely among its timings."""
        until = time.perf_counter() + seconds
        while len(self._samples_ms) < _CALIBRATION_REPETITIONS or time.perf_counter() < until:
            self.time()

    def time(self) -> float:
        """Time the canary once; return its milliseconds."""
        self._samples_ms.append(sum(self.translate()))
        return self._samples_ms[-1]

    def is_calm(self, canary_ms: float) -> bool:
        return canary_ms <= self.level_ms * (1 + self.tolerance)


@dataclass(frozen=True, slots=True)
class Group:
    """Repetitions between two canaries."""

    before_ms: float
    after_ms: float
    samples: tuple[Sample, ...]
    joules: float | None = None
    """What the repetitions took, the canaries left out; None where the system does not tell."""

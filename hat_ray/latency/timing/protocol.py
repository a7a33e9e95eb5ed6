"""The timing protocol: how often a translation is timed, in which state of the process, and what the result is.

Decisions
- The extracted SubTransformer in inference mode, because that is what a user runs. Differs from HAT, which times
  slices of the supernet in training mode.
- Repetitions follow until the median's relative standard error is small enough or the budget is spent; a fixed number
  wastes time on quiet devices and is too small on noisy ones.
- A correction is an estimate: the larger it is, the less certain the row, and its relative error includes that.
- Threads, niceness and garbage collection are the timing's own: Ray starts workers at niceness +15 and sets thread
  counts from what a task reserves. Repetitions between canaries, in several visits, are in `visits.py`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hat_ray.latency.timing.record import Canary
from hat_ray.latency.timing.statistics import Spread, relative_error_of_median, spread
from hat_ray.latency.timing.workload import TranslationTime, Workload

_MAX_WARMUP_WINDOWS = 5
_WARM_BELOW = 0.03  # warm once a window's median gains less than this on the window before
_CORRECTION_DOUBT = 0.1
"""Standard error of a drift correction, as a share of its logarithm: of 37 architectures that were timed while the
canary took twice as long (two or three processes beside one on two hyperthreads), the corrected times were off by 6.7 %
in the mean square."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """A workload, and when the timing of it stops."""

    workload: Workload
    threads: int = 1
    warmup: int = 3
    relative_error: float = 0.01
    min_repetitions: int = 10
    max_repetitions: int = 300
    budget_s: float = 10.0
    patience_s: float = 30.0
    """Seconds to wait for undisturbed moments beyond the budget."""
    visits: int = 1
    """Visits at least, each with its share of the repetitions and of the budget."""

    @property
    def visit_s(self) -> float:
        """Seconds of one visit."""
        return self.budget_s / self.visits

    @property
    def visit_repetitions(self) -> int:
        """Repetitions that one visit contributes at least, where its seconds suffice."""
        return math.ceil(self.min_repetitions / self.visits)


@dataclass(frozen=True)
class Timing:
    """The repeated timings of one SubTransformer, in milliseconds; sample i of all columns is the same translation."""

    total_samples_ms: tuple[float, ...]
    encoder_samples_ms: tuple[float, ...]
    """Empty where the engine does not split its time; likewise `decoder_samples_ms`."""
    decoder_samples_ms: tuple[float, ...]
    warmups: int
    niceness: int | None
    seconds: float
    """Seconds of the whole timing, warm-up included."""
    disturbed: int = 0
    """Repetitions set aside because a canary beside them was slow."""
    canary: Canary | None = None
    energy_j: float | None = None
    """Joules of one repetition: the mean over those that count; None where the system does not report it."""
    relative_error: float = 0.0
    """The relative standard error of the total's median: of its scatter with the device's wandering taken out, and of
    the drift correction."""
    undisturbed: bool = True
    """Whether only repetitions of undisturbed moments count; False: none came, and all do."""
    visits: int | None = None
    """Visits that they are of; None: timed without a canary."""

    @property
    def repetitions(self) -> int:
        return len(self.total_samples_ms)

    @cached_property
    def encoder(self) -> Spread | None:
        return spread(self.encoder_samples_ms) if self.encoder_samples_ms else None

    @cached_property
    def decoder(self) -> Spread | None:
        return spread(self.decoder_samples_ms) if self.decoder_samples_ms else None

    @cached_property
    def total(self) -> Spread:
        return spread(self.total_samples_ms)


def timing_of(
    taken: "Accepted", warmups: int, niceness: int | None, seconds: float, visits: int | None = None
) -> Timing:
    """Return the timing that accepted repetitions make."""
    # kept as 32-bit numbers in the table: rounded here once, so that a row read back equals the row written
    encoder = _rounded([one.encoder_ms for one in taken.samples])
    decoder = _rounded([one.decoder_ms for one in taken.samples])
    whole = _rounded([one.total_ms for one in taken.samples])
    return Timing(
        tuple(e + d for e, d in zip(encoder, decoder, strict=True)) or whole,
        encoder,
        decoder,
        warmups,
        niceness,
        seconds,
        taken.disturbed,
        taken.canary,
        None if taken.joules is None else taken.joules / len(taken.samples),
        taken.relative_error,
        taken.undisturbed,
        visits,
    )


def _rounded(samples_ms: Sequence[float | None]) -> tuple[float, ...]:
    """Return samples in 32 bits; none at all where one lacks this part."""
    known = [ms for ms in samples_ms if ms is not None]
    return tuple(np.array(known, dtype=np.float32).tolist()) if len(known) == len(samples_ms) else ()


@dataclass(frozen=True)
class Accepted:
    """The repetitions that count."""

    samples: list[TranslationTime]
    levelled_ms: list[float]
    """Their times with the device's wandering taken out, on any common scale."""
    slowness: float = 1.0
    """How much longer they took than on the quiet device, by the canaries around them."""
    joules: float | None = None
    disturbed: int = 0
    canary: Canary | None = None
    undisturbed: bool = True

    @property
    def relative_error(self) -> float:
        """The median's relative standard error, that of the drift correction included; needs three repetitions."""
        return math.hypot(relative_error_of_median(self.levelled_ms), _CORRECTION_DOUBT * abs(math.log(self.slowness)))


def enough(totals_ms: Sequence[float], protocol: Protocol, seconds: float) -> bool:
    if len(totals_ms) < protocol.min_repetitions:
        return len(totals_ms) >= 3 and seconds > 3 * protocol.budget_s  # a slow device: three, however far apart
    if len(totals_ms) >= protocol.max_repetitions or seconds > protocol.budget_s:
        return True
    return relative_error_of_median(totals_ms) <= protocol.relative_error


def warm_up(translate: Callable[[], TranslationTime], protocol: Protocol, clock: Callable[[], float]) -> int:
    """Repeat in windows until one is no longer faster than the window before; return the repetitions made."""
    started, previous = clock(), float("inf")
    for window in range(_MAX_WARMUP_WINDOWS):
        median = float(np.median([translate().total_ms for _ in range(protocol.warmup)]))
        if median > previous * (1 - _WARM_BELOW) or clock() - started > protocol.visit_s / 3:
            return (window + 1) * protocol.warmup
        previous = median
    return _MAX_WARMUP_WINDOWS * protocol.warmup

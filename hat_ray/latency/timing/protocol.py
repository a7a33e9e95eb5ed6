"""The timing protocol: how often a translation (`translation.py`) is timed, and in which state of the process.

Decisions
- The extracted SubTransformer in inference mode, because that is what a user runs. Differs from HAT, which times
  slices of the supernet in training mode.
- With a canary (`canary.py`) repetitions come in small groups between two canaries, and only those of undisturbed
  groups count; when no undisturbed moments come, all do. Each is divided by how much slower than on the quiet device
  the canaries around it were, and the row's drift correction is what that does to the median.
- An undisturbed group or two among many disturbed ones is chance: a canary of a few milliseconds fits between two time
  slices of a busy core, a larger model does not. So few undisturbed repetitions count as none, unless they are half of
  all.
- A correction is an estimate: the larger it is, the less certain the row, and its relative error includes that.
- Repetitions follow until the median's relative standard error is small enough or the budget is spent; a fixed number
  wastes time on quiet devices and is too small on noisy ones.
- Threads, niceness and garbage collection are the timing's own: Ray starts workers at niceness +15 and sets thread
  counts from what a task reserves.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.table.row import Canary
from hat_ray.latency.timing.canary import CanaryMonitor, Group, local_levels
from hat_ray.latency.timing.process import timing_state
from hat_ray.latency.timing.sensors.energy import EnergyMeter, NoMeter, joules_since
from hat_ray.latency.timing.statistics import Spread, relative_error_of_median, spread
from hat_ray.latency.timing.workload import TranslationTime, Workload, translation
from hat_ray.model.protocol import Engine, evaluating

_NO_METER = NoMeter()
_MAX_WARMUP_WINDOWS = 5
_WARM_BELOW = 0.03  # warm once a window's median gains less than this on the window before
_FEW_UNDISTURBED = 5  # undisturbed repetitions below which undisturbed is chance
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

    @classmethod
    def of(cls, config: LatencyConfig, vocab_size: int, source_vocab_size: int | None = None) -> "Protocol":
        shape = config.batch, config.beam, config.source_length, config.target_length
        workload = Workload(*shape, vocab_size, source_vocab_size=source_vocab_size)
        return cls(
            workload,
            config.threads,
            config.warmup,
            config.relative_error,
            config.min_repetitions,
            config.max_repetitions,
            config.budget_s,
            config.patience_s,
        )


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


def time_architecture(
    model: Engine,
    protocol: Protocol,
    watch: CanaryMonitor | None = None,
    meter: EnergyMeter = _NO_METER,
) -> Timing:
    """Time a SubTransformer on its runtime and device, with a canary between where one is given."""
    with ready(model, protocol.threads) as niceness:
        return repeat(translation(model, protocol.workload), protocol, niceness, watch, meter)


@contextmanager
def ready(model: Engine, threads: int) -> Iterator[int | None]:
    """Bring a model and this process into the state of timing; yield the niceness that holds."""
    with evaluating(model), timing_state(threads) as niceness, torch.inference_mode():
        yield niceness


def repeat(
    translate: Callable[[], TranslationTime],
    protocol: Protocol,
    niceness: int | None = None,
    watch: CanaryMonitor | None = None,
    meter: EnergyMeter = _NO_METER,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Warm up, then repeat until the protocol is satisfied; `clock` returns seconds, `meter` joules."""
    started = clock()
    warmups = _warm_up(translate, protocol, clock)
    if watch is None:
        taken = _repeat_plainly(translate, protocol, meter, clock)
    else:
        taken = _repeat_between_canaries(translate, protocol, watch, meter, clock)
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
        clock() - started,
        taken.disturbed,
        taken.canary,
        None if taken.joules is None else taken.joules / len(taken.samples),
        math.hypot(relative_error_of_median(taken.levelled_ms), _correction_error(taken.canary)),
        taken.undisturbed,
    )


def _rounded(samples_ms: Sequence[float | None]) -> tuple[float, ...]:
    """Return samples in 32 bits; none at all where one lacks this part."""
    known = [ms for ms in samples_ms if ms is not None]
    return tuple(np.array(known, dtype=np.float32).tolist()) if len(known) == len(samples_ms) else ()


def _correction_error(canary: Canary | None) -> float:
    return 0.0 if canary is None else _CORRECTION_DOUBT * abs(math.log(canary.drift_correction))


@dataclass(frozen=True)
class _AcceptedRepetitions:
    """The repetitions that count."""

    samples: list[TranslationTime]
    levelled_ms: list[float]
    """Their totals with the device's wandering taken out, on any common scale."""
    joules: float | None = None
    disturbed: int = 0
    canary: Canary | None = None
    undisturbed: bool = True


def _repeat_plainly(
    translate: Callable[[], TranslationTime], protocol: Protocol, meter: EnergyMeter, clock: Callable[[], float]
) -> _AcceptedRepetitions:
    samples: list[TranslationTime] = []
    joules, timed_from = meter.read(), clock()
    while not _enough([sample.total_ms for sample in samples], protocol, clock() - timed_from):
        samples.append(translate())
    return _AcceptedRepetitions(samples, [sample.total_ms for sample in samples], joules_since(meter, joules))


def _repeat_between_canaries(
    translate: Callable[[], TranslationTime],
    protocol: Protocol,
    watch: CanaryMonitor,
    meter: EnergyMeter,
    clock: Callable[[], float],
) -> _AcceptedRepetitions:
    """Repeat in groups between canaries until those of undisturbed groups suffice; all count when these are too few."""
    groups: list[Group] = []
    started, before = clock(), watch.time()
    while True:
        undisturbed = _drift_corrected(groups, watch, undisturbed_only=True)
        seconds = clock() - started
        if _enough(undisturbed.levelled_ms, protocol, seconds) or (
            groups and seconds > protocol.budget_s + protocol.patience_s
        ):
            break
        samples: list[TranslationTime] = []
        spent_ms, joules = 0.0, meter.read()
        while not samples or spent_ms < 2 * before:  # the canary takes a third of the time at most
            samples.append(translate())
            spent_ms += samples[-1].total_ms
        spent_j = joules_since(meter, joules)
        after = watch.time()
        groups.append(Group(before, after, tuple(samples), spent_j))
        before = after
    counts = len(undisturbed.samples) >= _FEW_UNDISTURBED or (
        len(undisturbed.samples) >= 3 and len(undisturbed.samples) >= undisturbed.disturbed
    )
    return undisturbed if counts else _drift_corrected(groups, watch, undisturbed_only=False)


def _drift_corrected(groups: Sequence[Group], watch: CanaryMonitor, *, undisturbed_only: bool) -> _AcceptedRepetitions:
    """Return the repetitions of undisturbed groups, or of all, corrected by the canaries around them."""
    limit_ms = watch.limit_ms
    levels = local_levels(groups, limit_ms)
    kept = [
        (group, level)
        for group, level in zip(groups, levels, strict=True)
        if not undisturbed_only or max(group.before_ms, group.after_ms) <= limit_ms
    ]
    samples = [sample for group, _ in kept for sample in group.samples]
    levelled = [sample.total_ms * watch.level_ms / level for group, level in kept for sample in group.samples]
    if not samples:
        return _AcceptedRepetitions([], [])
    correction = float(np.median(levelled) / np.median([sample.total_ms for sample in samples]))
    canary = Canary(kept[0][0].before_ms, kept[-1][0].after_ms, correction, watch.level_ms)
    told = [group.joules for group, _ in kept if group.joules is not None]
    joules = sum(told) if len(told) == len(kept) else None
    disturbed = sum(len(group.samples) for group in groups) - len(samples)
    return _AcceptedRepetitions(samples, levelled, joules, disturbed, canary, undisturbed_only)


def _enough(totals_ms: Sequence[float], protocol: Protocol, seconds: float) -> bool:
    if len(totals_ms) < protocol.min_repetitions:
        return len(totals_ms) >= 3 and seconds > 3 * protocol.budget_s  # a slow device: three, however far apart
    if len(totals_ms) >= protocol.max_repetitions or seconds > protocol.budget_s:
        return True
    return relative_error_of_median(totals_ms) <= protocol.relative_error


def _warm_up(translate: Callable[[], TranslationTime], protocol: Protocol, clock: Callable[[], float]) -> int:
    """Repeat in windows until one is no longer faster than the window before; return the repetitions made."""
    started, previous = clock(), float("inf")
    for window in range(_MAX_WARMUP_WINDOWS):
        median = float(np.median([translate().total_ms for _ in range(protocol.warmup)]))
        if median > previous * (1 - _WARM_BELOW) or clock() - started > protocol.budget_s / 3:
            return (window + 1) * protocol.warmup
        previous = median
    return _MAX_WARMUP_WINDOWS * protocol.warmup

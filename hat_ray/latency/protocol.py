"""The timing protocol: how often a translation (`translation.py`) is timed, and in which state of the process.

Decisions
- The extracted SubTransformer in inference mode, because that is what a user runs. Differs from HAT, which times
  slices of the supernet in training mode.
- With a canary (`canary.py`) repetitions come in small groups between two canaries, and only those of calm groups
  count. When no calm moments come, all count, divided by how much slower the canaries beside them were.
- Repetitions follow until the median's relative standard error is small enough or the budget is spent; a fixed number
  wastes time on quiet devices and is too small on noisy ones.
- Threads, niceness and garbage collection are the timing's own: Ray starts workers at niceness +15 and sets thread
  counts from what a task reserves.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from hat_ray.latency.canary import CanaryWatch, Group
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.process import timing_state
from hat_ray.latency.row import Canary
from hat_ray.latency.sensors.energy import EnergyMeter, NoMeter, joules_since
from hat_ray.latency.stats import Spread, relative_error_of_median, spread
from hat_ray.latency.translation import Sample, Workload, translation
from hat_ray.model.subtransformer import SubTransformer

_NO_METER = NoMeter()
_MAX_WARMUP_WINDOWS = 5
_WARM_BELOW = 0.03  # warm once a window's median gains less than this on the window before


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
    """How long to wait for calm moments beyond the budget."""

    @classmethod
    def of(cls, config: LatencyConfig, vocab_size: int) -> "Protocol":
        workload = Workload(config.batch, config.beam, config.source_length, config.target_length, vocab_size)
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
    """The repeated timings of one SubTransformer, in milliseconds; sample i of both sides is the same translation."""

    encoder_samples_ms: tuple[float, ...]
    decoder_samples_ms: tuple[float, ...]
    warmups: int
    niceness: int | None
    seconds: float
    """What the whole timing took, warm-up included."""
    disturbed: int = 0
    """Repetitions set aside because a canary beside them was slow."""
    canary: Canary | None = None
    energy_j: float | None = None
    """Joules of one translation: the mean over the repetitions that count; None where the system does not tell."""

    @property
    def repetitions(self) -> int:
        return len(self.encoder_samples_ms)

    @cached_property
    def total_samples_ms(self) -> tuple[float, ...]:
        return tuple(e + d for e, d in zip(self.encoder_samples_ms, self.decoder_samples_ms, strict=True))

    @cached_property
    def encoder(self) -> Spread:
        return spread(self.encoder_samples_ms)

    @cached_property
    def decoder(self) -> Spread:
        return spread(self.decoder_samples_ms)

    @cached_property
    def total(self) -> Spread:
        return spread(self.total_samples_ms)

    @cached_property
    def relative_error(self) -> float:
        """The relative standard error of the total's median."""
        return relative_error_of_median(self.total_samples_ms)


def time_architecture(
    model: SubTransformer,
    protocol: Protocol,
    watch: CanaryWatch | None = None,
    meter: EnergyMeter = _NO_METER,
) -> Timing:
    """Time a SubTransformer on the torch device that holds its weights, with a canary between where one is given."""
    with ready(model, protocol.threads) as niceness:
        return repeat(translation(model, protocol.workload), protocol, niceness, watch, meter)


@contextmanager
def ready(model: SubTransformer, threads: int) -> Iterator[int | None]:
    """Bring a model and this process into the state of timing; yield the niceness that holds."""
    was_training = model.training
    model.eval()
    try:
        with timing_state(threads) as niceness, torch.inference_mode():
            yield niceness
    finally:
        model.train(was_training)


def repeat(
    translate: Callable[[], Sample],
    protocol: Protocol,
    niceness: int | None = None,
    watch: CanaryWatch | None = None,
    meter: EnergyMeter = _NO_METER,
) -> Timing:
    """Warm up, then repeat until the protocol says stop."""
    started = time.perf_counter()
    warmups = _warm_up(translate, protocol)
    if watch is None:
        joules = meter.read()
        samples, disturbed, canary = _repeat_plainly(translate, protocol), 0, None
        spent_j = joules_since(meter, joules)
    else:
        samples, disturbed, canary, spent_j = _repeat_between_canaries(translate, protocol, watch, meter)
    # kept as 32-bit numbers in the table: rounded here once, so that a row read back equals the row written
    encoder = np.array([sample.encoder_ms for sample in samples], dtype=np.float32).tolist()
    decoder = np.array([sample.decoder_ms for sample in samples], dtype=np.float32).tolist()
    seconds = time.perf_counter() - started
    energy_j = None if spent_j is None else spent_j / len(samples)
    return Timing(tuple(encoder), tuple(decoder), warmups, niceness, seconds, disturbed, canary, energy_j)


def _repeat_plainly(translate: Callable[[], Sample], protocol: Protocol) -> list[Sample]:
    samples: list[Sample] = []
    timed_from = time.perf_counter()
    while not _enough(samples, protocol, time.perf_counter() - timed_from):
        samples.append(translate())
    return samples


def _repeat_between_canaries(
    translate: Callable[[], Sample], protocol: Protocol, watch: CanaryWatch, meter: EnergyMeter
) -> tuple[list[Sample], int, Canary, float | None]:
    """Repeat in groups between canaries; return the samples that count, how many do not, the canary's part, joules."""
    groups: list[Group] = []
    started, before = time.perf_counter(), watch.time()
    while True:
        calm = [g for g in groups if watch.is_calm(max(g.before_ms, g.after_ms))]
        samples = [sample for group in calm for sample in group.samples]
        seconds = time.perf_counter() - started
        if _enough(samples, protocol, seconds) or (groups and seconds > protocol.budget_s + protocol.patience_s):
            break
        samples, spent_ms, joules = [], 0.0, meter.read()
        while not samples or spent_ms < 2 * before:  # the canary takes a third of the time at most
            samples.append(translate())
            spent_ms += sum(samples[-1])
        spent_j = joules_since(meter, joules)
        after = watch.time()
        groups.append(Group(before, after, tuple(samples), spent_j))
        before = after
    counted = calm if len(samples) >= min(3, protocol.min_repetitions) else groups
    beside = [ms for group in counted for ms in (group.before_ms, group.after_ms)]
    canary = Canary(counted[0].before_ms, counted[-1].after_ms, watch.level_ms / float(np.median(beside)))
    kept = [sample for group in counted for sample in group.samples]
    told = [group.joules for group in counted if group.joules is not None]
    spent_j = sum(told) if len(told) == len(counted) else None
    return kept, sum(len(group.samples) for group in groups) - len(kept), canary, spent_j


def _enough(samples: list[Sample], protocol: Protocol, seconds: float) -> bool:
    if len(samples) < protocol.min_repetitions:
        return len(samples) >= 3 and seconds > 3 * protocol.budget_s  # a slow device: three samples, whatever they say
    if len(samples) >= protocol.max_repetitions or seconds > protocol.budget_s:
        return True
    return relative_error_of_median([sum(sample) for sample in samples]) <= protocol.relative_error


def _warm_up(translate: Callable[[], Sample], protocol: Protocol) -> int:
    """Repeat in windows until one is no longer faster than the window before; return the repetitions made."""
    started, previous = time.perf_counter(), float("inf")
    for window in range(_MAX_WARMUP_WINDOWS):
        median = float(np.median([sum(translate()) for _ in range(protocol.warmup)]))
        if median > previous * (1 - _WARM_BELOW) or time.perf_counter() - started > protocol.budget_s / 3:
            return (window + 1) * protocol.warmup
        previous = median
    return _MAX_WARMUP_WINDOWS * protocol.warmup

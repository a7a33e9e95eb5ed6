"""Visits: an architecture is timed in several short visits, spread over a session, each between canaries.

Decisions
- With a canary (`canary.py`) repetitions come in small groups between two canaries. Each is divided by how much slower
  than on the quiet device the canaries around it were, and the row's drift correction is what that does to the median.
- Disturbances last for seconds to minutes. One long visit lies in one of them or waits for its end; short ones meet
  several states of the device, and other architectures use the time between. Two copies of one model differ by some
  per cent in speed: each visit builds its own.
- Repetitions of undisturbed groups alone count where there are as many as a timing needs; else all do. A few
  undisturbed groups among many disturbed ones are chance: a canary of a few milliseconds fits between two time slices
  of a busy core, a larger model does not.
- Whether a group was undisturbed is judged when the row is made, by the quiet level that the session knows by then.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from hat_ray.latency.timing.canary import CanaryMonitor, Group, local_levels
from hat_ray.latency.timing.protocol import Accepted, Protocol, Timing, enough, timing_of, warm_up
from hat_ray.latency.timing.record import Canary
from hat_ray.latency.timing.sensors.energy import EnergyMeter, NoMeter, joules_since
from hat_ray.latency.timing.statistics import relative_error_of_median
from hat_ray.latency.timing.workload import TranslationTime

_NO_METER = NoMeter()
_LEAST = 3  # repetitions of a row, however slow the device is


def repeat(
    translate: Callable[[], TranslationTime],
    protocol: Protocol,
    niceness: int | None = None,
    watch: CanaryMonitor | None = None,
    meter: EnergyMeter = _NO_METER,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Warm up, then repeat until the protocol is satisfied; `clock` returns seconds, `meter` joules."""
    if watch is not None:
        sitting = Sitting()
        while not sitting.is_over(watch, protocol):
            sitting.visits.append(visit(translate, protocol, watch, niceness, meter, clock))
        return sitting.timing(watch, protocol)
    started = clock()
    warmups = warm_up(translate, protocol, clock)
    samples: list[TranslationTime] = []
    joules, timed_from = meter.read(), clock()
    while not enough([sample.total_ms for sample in samples], protocol, clock() - timed_from):
        samples.append(translate())
    taken = Accepted(samples, [sample.total_ms for sample in samples], joules=joules_since(meter, joules))
    return timing_of(taken, warmups, niceness, clock() - started)


@dataclass(frozen=True)
class Visit:
    """Repetitions between canaries, in a row."""

    groups: tuple[Group, ...]
    warmups: int
    niceness: int | None
    seconds: float
    """Seconds of the whole visit, warm-up included."""

    @property
    def repetitions(self) -> int:
        return sum(len(group.samples) for group in self.groups)


def visit(
    translate: Callable[[], TranslationTime],
    protocol: Protocol,
    watch: CanaryMonitor,
    niceness: int | None = None,
    meter: EnergyMeter = _NO_METER,
    clock: Callable[[], float] = time.perf_counter,
) -> Visit:
    """Warm up, then repeat in groups between canaries for one visit's share of the repetitions, or of the budget."""
    began = clock()
    warmups = warm_up(translate, protocol, clock)
    groups: list[Group] = []
    started, before = clock(), watch.time()
    while not groups or not _visited(groups, watch, protocol, clock() - started):
        samples: list[TranslationTime] = []
        spent_ms, joules = 0.0, meter.read()
        while not samples or spent_ms < 2 * before:  # the canary takes a third of the time at most
            samples.append(translate())
            spent_ms += watch.counted_ms(samples[-1])
        spent_j = joules_since(meter, joules)
        after = watch.time()
        groups.append(Group(before, after, tuple(samples), spent_j))
        before = after
    return Visit(tuple(groups), warmups, niceness, clock() - began)


def _visited(groups: Sequence[Group], watch: CanaryMonitor, protocol: Protocol, seconds: float) -> bool:
    """Return whether a visit has done its share."""
    if seconds > protocol.visit_s:
        return True
    calm = _accepted([groups], watch, undisturbed_only=True).levelled_ms
    if len(calm) < max(_LEAST, protocol.visit_repetitions):
        return False
    error = protocol.relative_error * math.sqrt(protocol.visits)
    return len(calm) * protocol.visits >= protocol.max_repetitions or relative_error_of_median(calm) <= error


@dataclass(frozen=True)
class Earlier:
    """What an interrupted session wrote of an architecture: its repetitions count as they were corrected then."""

    samples: list[TranslationTime]
    correction: float
    quiet_ms: float
    """The level of that correction."""
    visits: int

    @classmethod
    def of(
        cls,
        canary: Canary | None,
        visits: int | None,
        encoder_samples_ms: Sequence[float],
        decoder_samples_ms: Sequence[float],
        total_samples_ms: Sequence[float] = (),
    ) -> "Earlier | None":
        """Return the repetitions of a row that has fewer visits than it was to get; None where it holds none."""
        if canary is None or canary.quiet_ms is None or visits is None:
            return None
        parts = zip(encoder_samples_ms, decoder_samples_ms, strict=True)
        samples = [TranslationTime.of_parts(*part) for part in parts] or list(map(TranslationTime, total_samples_ms))
        return cls(samples, canary.drift_correction, canary.quiet_ms, visits) if samples else None


@dataclass
class Sitting:
    """All visits to one architecture."""

    earlier: Earlier | None = None
    visits: list[Visit] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(one.seconds for one in self.visits)

    @property
    def number(self) -> int:
        """Visits, those of an earlier session included."""
        return len(self.visits) + (self.earlier.visits if self.earlier else 0)

    def is_over(self, watch: CanaryMonitor, protocol: Protocol) -> bool:
        """Return whether the row is good enough, or the time for it is spent."""
        if self.number < protocol.visits:
            return False
        every = self.accepted(watch, protocol)
        if len(every.levelled_ms) < _LEAST:
            return False
        seconds = self.seconds
        if seconds > protocol.budget_s + protocol.patience_s:
            return True
        return every.undisturbed and enough(every.levelled_ms, protocol, seconds)

    def accepted(self, watch: CanaryMonitor, protocol: Protocol) -> Accepted:
        """Return the repetitions that count: those of undisturbed moments where they suffice, else all."""
        groups = [one.groups for one in self.visits]
        calm = _accepted(groups, watch, undisturbed_only=True, earlier=self.earlier)
        few = min(protocol.min_repetitions, (len(calm.samples) + calm.disturbed) / 2)
        if len(calm.samples) >= max(_LEAST, few):
            return calm
        return _accepted(groups, watch, undisturbed_only=False, earlier=self.earlier)

    def timing(self, watch: CanaryMonitor, protocol: Protocol) -> Timing:
        """Return what the visits give together."""
        taken = self.accepted(watch, protocol)
        warmups = sum(one.warmups for one in self.visits)
        return timing_of(taken, warmups, self.visits[-1].niceness, self.seconds, self.number)


def _accepted(
    visits: Sequence[Sequence[Group]],
    watch: CanaryMonitor,
    *,
    undisturbed_only: bool,
    earlier: Earlier | None = None,
) -> Accepted:
    """Return the repetitions of undisturbed groups, or of all, corrected by the canaries around them."""
    limit_ms, level_ms = watch.limit_ms, watch.level_ms
    kept = [
        (group, level)
        for groups in visits
        for group, level in zip(groups, local_levels(groups, limit_ms), strict=True)
        if not undisturbed_only or max(group.before_ms, group.after_ms) <= limit_ms
    ]
    samples = [sample for group, _ in kept for sample in group.samples]
    counted = [watch.counted_ms(sample) for sample in samples]
    levelled = [watch.counted_ms(sample) * level_ms / level for group, level in kept for sample in group.samples]
    disturbed = sum(len(group.samples) for groups in visits for group in groups) - len(samples)
    metered = [group.joules for group, _ in kept if group.joules is not None]
    joules = sum(metered) if len(metered) == len(kept) and earlier is None else None
    marks = (kept[0][0].before_ms, kept[-1][0].after_ms) if kept else (level_ms, level_ms)
    if earlier is not None:
        then = [sample.total_ms * earlier.correction * level_ms / earlier.quiet_ms for sample in earlier.samples]
        samples, counted, levelled = earlier.samples + samples, then + counted, then + levelled
    if not samples:
        return Accepted([], [], disturbed=disturbed)
    correction = float(np.median(levelled) / np.median([sample.total_ms for sample in samples]))
    slowness = float(np.median(counted) / np.median(levelled))
    canary = Canary(*marks, correction, level_ms)
    return Accepted(samples, levelled, slowness, joules, disturbed, canary, undisturbed_only)

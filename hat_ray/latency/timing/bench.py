"""The bench: visits to architectures in turns on one device, their canary, and what they give. Imports no PyTorch.

A fleet's session (`session.py`) and a board's kit (`latency/kit`) both time with this code. An architecture is any key
that can be hashed.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Generic, TypeVar

from hat_ray.latency.timing.canary import CanaryMonitor
from hat_ray.latency.timing.protocol import Protocol
from hat_ray.latency.timing.record import MeasurementContext, Record
from hat_ray.latency.timing.sensors.energy import Energy
from hat_ray.latency.timing.sensors.machine_state import Sensors
from hat_ray.latency.timing.visits import Earlier, Sitting, visit
from hat_ray.latency.timing.workload import TranslationTime

Key = TypeVar("Key")
Opened = Callable[[], AbstractContextManager[tuple[Callable[[], TranslationTime], int | None]]]
"""Builds a model in the state of timing; returns the function of one repetition, and the niceness that holds."""

AT_A_TIME = 16
"""Architectures that are visited in turns: a minute passes between two visits to one, and few are begun at the end."""


class Bench(Generic[Key]):
    """One device at work: the canary's history, and all visits."""

    def __init__(
        self, protocol: Protocol, watch: CanaryMonitor, sensors: Sensors, calibration_s: float, seed: str
    ) -> None:
        """`seed` decides the order of turns."""
        self.protocol, self.watch, self.sensors = protocol, watch, sensors
        self.sittings: dict[Key, Sitting] = {}
        self._calibration_s, self._calibrated = calibration_s, False
        self._order = random.Random(seed)
        self._levels_ms: dict[Key, float] = {}
        self._contexts: dict[Key, MeasurementContext] = {}
        """Circumstances of the latest visit."""

    def calibrate(self) -> None:
        """Watch the canary, once, before anything is timed; the canary's model is in the state of timing."""
        if not self._calibrated:
            self.watch.calibrate(self._calibration_s)
            self._calibrated = True

    def visit(self, key: Key, context: MeasurementContext, opened: Opened, earlier: Earlier | None = None) -> Record:
        """Visit an architecture once; return what all its visits give.

        `earlier` is what an interrupted session wrote of it, which counts from the first visit on.
        """
        with opened() as (translate, niceness):
            self.sensors.start()
            one = visit(translate, self.protocol, self.watch, niceness, self.sensors.meter)
            machine_state = self.sensors.stop()
        self.sittings.setdefault(key, Sitting(earlier)).visits.append(one)
        self._contexts[key] = replace(context, machine_state=machine_state, niceness=niceness)
        return self.record(key)

    def record(self, key: Key) -> Record:
        """Return what all visits to an architecture give until now."""
        self._levels_ms[key] = self.watch.level_ms
        timing = self.sittings[key].timing(self.watch, self.protocol)
        pairs, joules = len(self.protocol.workload.pairs), timing.energy_j  # a repetition translates each pair once
        return Record(
            encoder=timing.encoder,
            decoder=timing.decoder,
            total=timing.total,
            encoder_samples_ms=timing.encoder_samples_ms,
            decoder_samples_ms=timing.decoder_samples_ms,
            total_samples_ms=() if timing.encoder_samples_ms else timing.total_samples_ms,
            repetitions=timing.repetitions,
            warmups=timing.warmups,
            disturbed=timing.disturbed,
            relative_error=timing.relative_error,
            canary=timing.canary,
            context=replace(self._contexts[key], niceness=timing.niceness),
            energy=None if joules is None else Energy(joules / pairs, self.sensors.meter.source),
            visits=timing.visits,
        )

    def turns(self, keys: Sequence[Key], over: Set[Key]) -> Iterator[Key]:
        """Yield the architectures whose timing is not `over`, again and again, each time in another random order.

        Some at a time: when the seconds are spent, few have fewer visits than they were to get.
        """
        for start in range(0, len(keys), AT_A_TIME):
            while todo := [one for one in keys[start : start + AT_A_TIME] if one not in over]:
                self._order.shuffle(todo)
                yield from todo

    def is_over(self, key: Key) -> bool:
        """Return whether an architecture needs no more visits."""
        sitting = self.sittings.get(key)
        return sitting is not None and sitting.is_over(self.watch, self.protocol)

    def misjudged(self) -> Mapping[Key, Record]:
        """Return new records of those for which the device turned out to be quieter than known."""
        most = self.watch.level_ms * (1 + self.watch.tolerance) if self.sittings else 0.0
        return {one: self.record(one) for one in self.sittings if self._levels_ms.get(one, 0.0) > most}

"""Results of a sweep: milliseconds at each choice of each dimension on each device, and the size of each effect."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hat_ray.latency.sweep import Base, DimensionSweep, SweepPlan
from hat_ray.latency.table.row import LatencyRow
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import cost
from hat_ray.space.dimension import Choice
from hat_ray.space.json_field import ArchitectureField

_SURE = 1.96
"""Standard errors on either side of an interval of 95 %."""


@dataclass(frozen=True)
class TimedPoint:
    """One timed choice. Milliseconds are drift-corrected: one translation's median, its p10 and p90, its two parts."""

    choice: Choice
    architecture: ArchitectureField
    flops: int
    """Of one sentence of the timed target length, in HAT's convention."""
    ms: float
    p10_ms: float | None
    p90_ms: float | None
    encoder_ms: float | None
    """None where the runtime does not split its time; likewise `decoder_ms`."""
    decoder_ms: float | None
    relative_error: float | None
    """The relative standard error of `ms`."""


@dataclass(frozen=True)
class Effect:
    """Effect on latency of going from a dimension's smallest choice to its largest."""

    ratio: float
    """Latency at the largest choice / latency at the smallest."""
    low: float
    high: float
    """The interval of 95 % that the errors of the two medians leave for `ratio`; see `rate_device`."""
    flops_ratio: float
    encoder_ms: float | None
    decoder_ms: float | None
    """Additional milliseconds of the encoder and the decoder; they need not add up: medians do not. None where the
    runtime does not split its time."""

    @property
    def is_sure(self) -> bool:
        """Return whether the two latencies differ by more than their errors."""
        return not self.low <= 1 <= self.high


@dataclass(frozen=True)
class TimedSweep:
    """One dimension on one device, its points ascending by choice."""

    device: str
    """The device's slug."""
    dimension: str
    effect: Effect
    points: tuple[TimedPoint, ...]


@dataclass(frozen=True)
class SweptDevice:
    """A device and its name for readers."""

    slug: str
    title: str
    base_ms: float
    """The base's latency there."""


@dataclass(frozen=True)
class SweepResult:
    """A whole sweep: the output of stage `sweep`."""

    space: str
    """The search space's name."""
    base: ArchitectureField
    base_choice: Base
    devices: tuple[SweptDevice, ...]
    sweeps: tuple[TimedSweep, ...]

    def on(self, slug: str) -> list[TimedSweep]:
        """Return a device's sweeps, the most influential dimension first."""
        return sorted((one for one in self.sweeps if one.device == slug), key=lambda one: -effect_size(one.effect))

    def by_effect(self) -> list[str]:
        """Return the dimensions, first the one that matters most on the average device."""
        total: dict[str, float] = {}
        for one in self.sweeps:
            total[one.dimension] = total.get(one.dimension, 0.0) + effect_size(one.effect)
        return sorted(total, key=lambda dimension: -total[dimension])


def effect_size(effect: Effect) -> float:
    """Return the distance of a ratio from 1, in either direction: 0 for no effect."""
    return abs(math.log(effect.ratio))


def rate_device(
    plan: SweepPlan, rows: Mapping[Architecture, LatencyRow], slug: str, length: int
) -> tuple[TimedSweep, ...]:
    """Rate every dimension on one device; `rows` must hold all that the plan times, `length` counts FLOPs.

    No row counts as surer than the least sure one of the device: an error from repetitions within seconds does not see
    what disturbed the device for longer.
    """
    floor = max(rows[architecture].relative_error or 0.0 for architecture in plan.architectures)
    return tuple(_timed(sweep, rows, slug, length, floor) for sweep in plan.dimensions)


def _timed(
    sweep: DimensionSweep, rows: Mapping[Architecture, LatencyRow], slug: str, length: int, floor: float
) -> TimedSweep:
    points = tuple(_point(one.choice, rows[one.architecture], one.architecture, length) for one in sweep.points)
    return TimedSweep(slug, sweep.dimension, effect_of(points, floor), points)


def _point(choice: Choice, row: LatencyRow, architecture: Architecture, length: int) -> TimedPoint:
    correction, total = row.corrected_ms / row.latency_ms, row.total
    return TimedPoint(
        choice=choice,
        architecture=architecture,
        flops=cost(architecture, length).flops,
        ms=row.corrected_ms,
        p10_ms=total.p10_ms * correction if total and total.p10_ms is not None else None,
        p90_ms=total.p90_ms * correction if total and total.p90_ms is not None else None,
        encoder_ms=row.encoder.typical_ms * correction if row.encoder else None,
        decoder_ms=row.decoder.typical_ms * correction if row.decoder else None,
        relative_error=row.relative_error,
    )


def effect_of(points: Sequence[TimedPoint], error_floor: float = 0.0) -> Effect:
    """Compare a dimension's last point with its first; each median's relative error is `error_floor` at least."""
    first, last = points[0], points[-1]
    ratio = last.ms / first.ms
    errors = [max(point.relative_error or 0.0, error_floor) for point in (first, last)]
    spread = math.exp(_SURE * math.hypot(*errors))
    return Effect(
        ratio=ratio,
        low=ratio / spread,
        high=ratio * spread,
        flops_ratio=last.flops / first.flops,
        encoder_ms=_difference(last.encoder_ms, first.encoder_ms),
        decoder_ms=_difference(last.decoder_ms, first.decoder_ms),
    )


def _difference(last_ms: float | None, first_ms: float | None) -> float | None:
    return None if last_ms is None or first_ms is None else last_ms - first_ms

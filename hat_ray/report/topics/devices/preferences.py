"""What each device prefers: the best scored architecture at equal demands, and how it differs from device to device.

Decisions
- Devices differ in pace by orders of magnitude, so a limit in milliseconds is not the same demand on two of them. A
  share of what the largest architecture takes on that very device is.
- A frontier has most of its points where the search was asked to look. So it is read at equal steps of that share, and
  only at steps that every device keeps: each device is described by the same limits.
- With one device the comparison is with the scored architectures that are as fast as its best ones: what is slower or
  faster differs in depth for that reason alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from hat_ray.report.data import Device, ReportData
from hat_ray.search.candidates import Candidate
from hat_ray.space.architecture import Architecture, choices_of
from hat_ray.space.dimension import Dimension
from hat_ray.space.dimensions import BY_NAME, DIMENSIONS

SHARES = tuple(step / 20 for step in range(1, 20))
"""Limits, as shares of the largest architecture's latency: 5 % to 95 %."""
DRAWN_SHARE = 0.5
"""The limit whose architectures are drawn, or the first above it that every device keeps."""
AS_FAST = 0.1
"""Architectures are as fast as one another when their latencies differ by less."""
TELLING = 0.1
"""A dimension is named when it differs by this share at least ..."""
STEADY = 0.75
"""... and in the same direction at this share of the limits at which it differs at all."""


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


_READ_FIRST = ("_depths", "_embed_dims", "_ffn_dims", "_heads", "_cross_layers")
"""The order of reading, by the ends of names; other dimensions follow. A decoder's stand before the encoder's."""


def _mean_of(dimension: Dimension, architecture: Architecture) -> float:
    return _mean(tuple(map(dimension.number, choices_of(architecture, dimension))))


def _turn(dimension: Dimension) -> tuple[int, bool]:
    known = [place for place, end in enumerate(_READ_FIRST) if dimension.name.endswith(end)]
    return (known[0] if known else len(_READ_FIRST)), dimension.side != "decoder"


PREFERENCES: Mapping[str, Callable[[Architecture], float]] = {
    one.name: partial(_mean_of, one) for one in sorted(DIMENSIONS, key=_turn)
}
"""What an architecture is described by; what differs by layer is averaged over layers."""


@dataclass(frozen=True)
class DevicePreference:
    """One device: its best scored architecture at each limit, and those that are as fast as it."""

    device: Device
    largest_ms: float
    """What shares are taken of."""
    best: tuple[Candidate, ...]
    """One for each share."""
    rivals: tuple[tuple[Candidate, ...], ...]
    """For each share the scored architectures that are as fast as the best one, itself included."""

    def mean(self, dimension: str) -> float:
        return _mean(self.values(dimension))

    def values(self, dimension: str) -> list[float]:
        """Return a dimension of the best architecture at each limit."""
        return [PREFERENCES[dimension](one.architecture) for one in self.best]

    def rival_values(self, dimension: str) -> list[float]:
        """Return the mean of a dimension over those that are as fast, at each limit."""
        return [_mean([PREFERENCES[dimension](one.architecture) for one in group]) for group in self.rivals]


@dataclass(frozen=True)
class DevicePreferences:
    """All devices at the same limits."""

    shares: tuple[float, ...]
    devices: tuple[DevicePreference, ...]

    @property
    def drawn(self) -> int:
        """Which of the shares is drawn."""
        return next((i for i, share in enumerate(self.shares) if share >= DRAWN_SHARE), len(self.shares) - 1)

    @property
    def varying(self) -> list[str]:
        """The dimensions that are not the same for all that is compared."""
        return [name for name in PREFERENCES if len(set(self.shown(name))) > 1]

    @property
    def named(self) -> list[str]:
        """The dimensions without those that every compared architecture leaves at the value of what is not named."""
        best = [one.architecture for entry in self.devices for one in entry.best]
        used = {name: {choice for a in best for choice in choices_of(a, BY_NAME[name])} for name in PREFERENCES}
        return [name for name, choices in used.items() if choices != {BY_NAME[name].absent}]

    def shown(self, dimension: str) -> list[float]:
        """Return every value of a dimension that is compared: of all devices, or of the one and what is as fast."""
        values = [value for one in self.devices for value in one.values(dimension)]
        return [*values, *self.devices[0].rival_values(dimension)] if len(self.devices) == 1 else values

    def others(self, entry: DevicePreference, dimension: str) -> list[float]:
        """Return the rival at each limit: the other devices' mean, or architectures as fast on it."""
        if len(self.devices) == 1:
            return entry.rival_values(dimension)
        rest = [one.values(dimension) for one in self.devices if one is not entry]
        return [_mean(column) for column in zip(*rest, strict=True)]


@dataclass(frozen=True)
class Difference:
    """A dimension in which a device's best architectures differ from the others."""

    dimension: str
    mine: float
    theirs: float

    @property
    def size(self) -> float:
        """Distance: the same for a half and for a double."""
        return abs(math.log(self.mine / self.theirs))


def device_preferences(data: ReportData) -> DevicePreferences | None:
    """Read each device's scored architectures at equal demands; None where nothing was scored."""
    scored = {d.slug: [c for c in data.candidates if d.slug in c.latency_ms] for d in data.devices}
    found = [device for device in data.devices if scored[device.slug]]
    devices = [(device, ms) for device in found if (ms := largest_ms(data, device)) is not None]
    best = {device.slug: _best(scored[device.slug], device.slug, ms) for device, ms in devices}
    shares = [i for i in range(len(SHARES)) if all(picks[i] is not None for picks in best.values())]
    if not devices or not shares:
        return None
    return DevicePreferences(
        tuple(SHARES[i] for i in shares),
        tuple(
            _of_device(
                device, ms, [pick for i in shares if (pick := best[device.slug][i]) is not None], scored[device.slug]
            )
            for device, ms in devices
        ),
    )


def largest_ms(data: ReportData, device: Device) -> float | None:
    """Return the latency that shares refer to: the largest architecture's, or that of the slowest scored one."""
    if device.largest_ms is not None:
        return device.largest_ms
    largest = data.first("largest")
    latency = largest.latency.get(device.slug) if largest else None
    if latency is not None and latency.predicted_ms is not None:
        return latency.predicted_ms
    return max((c.latency_ms[device.slug] for c in data.candidates if device.slug in c.latency_ms), default=None)


def differences(found: DevicePreferences, entry: DevicePreference) -> list[Difference]:
    """Return the dimensions in which a device differs clearly and steadily, the largest difference first."""
    found_in = []
    for name in PREFERENCES:
        mine, theirs = entry.values(name), found.others(entry, name)
        one = Difference(name, _mean(mine), _mean(theirs))
        if one.size >= math.log(1 + TELLING) and _steady(mine, theirs):
            found_in.append(one)
    return sorted(found_in, key=lambda one: -one.size)


def _steady(mine: Sequence[float], theirs: Sequence[float]) -> bool:
    """Return whether a difference has one direction at most limits, and so is not one outlier's."""
    signs = [m > t for m, t in zip(mine, theirs, strict=True) if m != t]
    return bool(signs) and max(sum(signs), len(signs) - sum(signs)) >= STEADY * len(signs)


def _best(scored: Sequence[Candidate], slug: str, largest: float) -> list[Candidate | None]:
    """Return the architecture of the least loss within each share; None where nothing is as fast."""
    found: list[Candidate | None] = []
    for share in SHARES:
        within = [one for one in scored if one.latency_ms[slug] <= share * largest]
        found.append(min(within, key=lambda one: (one.loss_bits, one.latency_ms[slug]), default=None))
    return found


def _of_device(
    device: Device, largest: float, best: Sequence[Candidate], scored: Sequence[Candidate]
) -> DevicePreference:
    slug = device.slug

    def as_fast(one: Candidate) -> tuple[Candidate, ...]:
        ms = one.latency_ms[slug]
        return tuple(other for other in scored if abs(other.latency_ms[slug] / ms - 1) <= AS_FAST)

    return DevicePreference(device, largest, tuple(best), tuple(as_fast(one) for one in best))

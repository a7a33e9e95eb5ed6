"""A device's latency in a search: predictions, their intervals, and measurements."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hat_ray.search.candidates import Candidate
from hat_ray.search.limits import LatencyFunction
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray, places_of

IntervalFunction = Callable[[Sequence[Architecture]], tuple[FloatArray, FloatArray]]
"""The milliseconds, (N,) and (N,), between which architectures' latency on one device lies nearly always."""

Times = Mapping[Architecture, float]
"""Measured milliseconds on one device."""


@dataclass(frozen=True)
class DeviceLatency:
    """How one device's latency is predicted."""

    bound_ms: LatencyFunction
    """The milliseconds that limits are compared with."""
    typical_ms: LatencyFunction
    """The prediction itself: the same, unless `search.limit_confidence` is set."""
    interval_ms: IntervalFunction

    def corrected(self, measured: Times) -> LatencyFunction:
        """Return `bound_ms` with measured milliseconds in the place of predicted ones."""

        def bound(architectures: Sequence[Architecture]) -> FloatArray:
            times = np.array(self.bound_ms(architectures), dtype=np.float64)
            for place, architecture in places_of(architectures, measured):
                times[place] = measured[architecture]
            return times

        return bound if measured else self.bound_ms


def refreshed(
    candidates: Sequence[Candidate], devices: Mapping[str, DeviceLatency], measured: Mapping[str, Times]
) -> list[Candidate]:
    """Return candidates with their newest predictions and measurements."""
    if not candidates:
        return []
    architectures = [candidate.architecture for candidate in candidates]
    bound = {name: device.bound_ms(architectures).tolist() for name, device in devices.items()}
    ends = {name: device.interval_ms(architectures) for name, device in devices.items()}
    return [
        replace(
            candidate,
            latency_ms={name: column[place] for name, column in bound.items()},
            low_ms={name: float(low[place]) for name, (low, _) in ends.items()},
            high_ms={name: float(high[place]) for name, (_, high) in ends.items()},
            measured_ms={
                name: times[candidate.architecture]
                for name, times in measured.items()
                if candidate.architecture in times
            },
        )
        for place, candidate in enumerate(candidates)
    ]

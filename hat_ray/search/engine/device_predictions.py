"""A device's quantities in a search: predictions, their intervals, and measurements."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hat_ray.latency.quantities import LATENCY
from hat_ray.search.candidates import Candidate
from hat_ray.search.limits import QuantityFunction
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray, places_of

IntervalFunction = Callable[[Sequence[Architecture]], tuple[FloatArray, FloatArray]]
"""The values, (N,) and (N,), between which a quantity of architectures on one device lies nearly always."""

Measurements = Mapping[Architecture, Mapping[str, float]]
"""Measured quantities of architectures on one device, by name; the latency is always among them."""


@dataclass(frozen=True)
class Prediction:
    """How one quantity is predicted on one device."""

    bound: QuantityFunction
    """The values that limits are compared with."""
    typical: QuantityFunction
    """The prediction itself: the same, unless `search.limit_confidence` is set."""
    interval: IntervalFunction

    def corrected(self, name: str, measured: Measurements) -> QuantityFunction:
        """Return `bound` with measured values of the quantity `name` in the place of predicted ones."""
        known = {architecture: values[name] for architecture, values in measured.items() if name in values}

        def bound(architectures: Sequence[Architecture]) -> FloatArray:
            found = np.array(self.bound(architectures), dtype=np.float64)
            for place, architecture in places_of(architectures, known):
                found[place] = known[architecture]
            return found

        return bound if known else self.bound


DevicePredictions = Mapping[str, Prediction]
"""One device's quantities by name: the latency, and what its limits bound beside it."""


def bounds_of(device: DevicePredictions, measured: Measurements | None = None) -> dict[str, QuantityFunction]:
    """Return the values that limits are compared with, by quantity: predicted, or measured where known."""
    return {name: one.corrected(name, measured or {}) for name, one in device.items()}


def refreshed(
    candidates: Sequence[Candidate], devices: Mapping[str, DevicePredictions], measured: Mapping[str, Measurements]
) -> list[Candidate]:
    """Return candidates with their newest predictions and measurements."""
    if not candidates:
        return []
    architectures = [candidate.architecture for candidate in candidates]
    bound = {
        device: {name: one.bound(architectures).tolist() for name, one in of_device.items()}
        for device, of_device in devices.items()
    }
    ends = {device: of_device[LATENCY].interval(architectures) for device, of_device in devices.items()}
    return [
        replace(
            candidate,
            latency_ms={device: columns[LATENCY][place] for device, columns in bound.items()},
            low_ms={device: float(low[place]) for device, (low, _) in ends.items()},
            high_ms={device: float(high[place]) for device, (_, high) in ends.items()},
            measured_ms={device: values[LATENCY] for device, values in _of(candidate, measured).items()},
            quantities=beside_latency(
                {device: {name: some[place] for name, some in columns.items()} for device, columns in bound.items()}
            ),
            measured_quantities=beside_latency(_of(candidate, measured)),
        )
        for place, candidate in enumerate(candidates)
    ]


def _of(candidate: Candidate, measured: Mapping[str, Measurements]) -> dict[str, Mapping[str, float]]:
    return {device: of[candidate.architecture] for device, of in measured.items() if candidate.architecture in of}


def beside_latency(values: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return values by device and quantity without the latency, and without devices that have nothing else."""
    others = {device: {name: value for name, value in of.items() if name != LATENCY} for device, of in values.items()}
    return {device: of for device, of in others.items() if of}

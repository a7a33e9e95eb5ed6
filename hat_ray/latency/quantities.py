"""Quantities that `search.limits` can bound: names, titles, units, how each is known, and the registry.

A quantity is known in one of three ways: it is computed from the architecture, read from the columns that every timing
fills, or measured once more for each architecture in a process of its own. The last two are learnt by a predictor.

Decisions
- This file loads no PyTorch: recipes check names against the registry.
- A quantity may come from another package: its entry point in the group `hat_ray.quantities` names a `Computed`, a
  `Recorded` or a `Measured`.
- MB is 1,000,000 bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hat_ray.core.registry import Member, Registry
from hat_ray.latency.device import DeviceInfo
from hat_ray.model.config import ModelConfig
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray

if TYPE_CHECKING:
    from hat_ray.latency.timing.workload import Workload

LATENCY = "latency_ms"
P90, P99, MODEL_SIZE, PEAK_MEMORY, ENERGY = "p90_ms", "p99_ms", "model_mb", "peak_mb", "energy_j"
MB = 1e6
"""Bytes of one MB."""


@dataclass(frozen=True)
class QuantityFacts:
    """What is known of a quantity before it is imported."""

    title: str
    """For readers, such as "model size"."""
    unit: str


@dataclass(frozen=True)
class DeviceProfile:
    """What a quantity depends on beside the architecture."""

    device: DeviceInfo
    model_config: ModelConfig
    vocab_size: int
    """Entries of the target's vocabulary; `workload.vocab_sizes` has those of both sides."""
    super_dims: tuple[int, int]
    """Widths of the space's widest encoder and decoder."""
    workload: "Workload"


Unavailable = Callable[[DeviceProfile], str | None]
"""Returns why a device has no such quantity, in one line with the remedy, or None where it has."""


@dataclass(frozen=True)
class Computed:
    """A quantity that follows from the architecture, without an error."""

    facts: QuantityFacts
    compute: Callable[[Sequence[Architecture], DeviceProfile], FloatArray]
    """Values, (N,); called for thousands of architectures at once."""
    unavailable: Unavailable | None = None


@dataclass(frozen=True)
class Recorded:
    """A quantity that every timing records in columns of the latency table."""

    facts: QuantityFacts
    columns: tuple[str, ...]
    read: Callable[..., FloatArray]
    """Values, (N,), from the columns, (N,) each; NaN where a row does not know it."""
    remedy: str
    """What to do where a device's rows do not know it."""
    of_latency: bool = False
    """Whether it is learnt as a ratio to the latency."""
    unavailable: Unavailable | None = None
    """Asked on the device itself, before it times something."""


@dataclass(frozen=True)
class Measured:
    """A quantity that is measured for each architecture, after its timing, only where a limit names it."""

    facts: QuantityFacts
    measure: Callable[[Architecture, DeviceProfile], float | None]
    """The value on this machine; None where the system does not report it."""
    remedy: str
    """What to do where a device's rows do not know it."""
    unavailable: Unavailable | None = None


Quantity = Computed | Recorded | Measured


def _identity(values: FloatArray) -> FloatArray:
    return values


def _percentile(corrected_ms: FloatArray, median_ms: FloatArray, percentile_ms: FloatArray) -> FloatArray:
    """Correct a percentile as the median was corrected."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(corrected_ms * percentile_ms / median_ms)


_FACTS = {
    LATENCY: QuantityFacts("latency", "ms"),
    P90: QuantityFacts("90th percentile of the latency", "ms"),
    P99: QuantityFacts("99th percentile of the latency", "ms"),
    MODEL_SIZE: QuantityFacts("model size", "MB"),
    PEAK_MEMORY: QuantityFacts("peak memory", "MB"),
    ENERGY: QuantityFacts("energy of a translation", "J"),
}
LATENCY_MS = Recorded(_FACTS[LATENCY], ("latency_corrected_ms",), _identity, "time architectures on it")
P90_MS = Recorded(
    _FACTS[P90],
    ("latency_corrected_ms", "total_p50_ms", "total_p90_ms"),
    _percentile,
    "imported averages have no percentiles: time architectures on it",
    of_latency=True,
)
P99_MS = Recorded(
    _FACTS[P99],
    ("latency_corrected_ms", "total_p50_ms", "total_p99_ms"),
    _percentile,
    "set latency.min_repetitions to 200 or more, of which half may be disturbed, and latency.budget_s to suit",
    of_latency=True,
)


def _member(name: str, target: str) -> Member[QuantityFacts]:
    return Member(f"hat_ray.latency.{target}", _FACTS[name])


QUANTITIES: Registry[Quantity, QuantityFacts] = Registry(
    "search.limits",
    "hat_ray.quantities",
    {
        LATENCY: _member(LATENCY, "quantities:LATENCY_MS"),
        P90: _member(P90, "quantities:P90_MS"),
        P99: _member(P99, "quantities:P99_MS"),
        MODEL_SIZE: _member(MODEL_SIZE, "model_size:MODEL_MB"),
        PEAK_MEMORY: _member(PEAK_MEMORY, "timing.quantities.peak_memory:PEAK_MB"),
        ENERGY: _member(ENERGY, "timing.quantities.energy:ENERGY_J"),
    },
    facts_of=lambda quantity: quantity.facts,
    requires=("facts", "unavailable"),
)
"""hat-ray's quantities and those of installed packages."""

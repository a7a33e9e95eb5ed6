"""Limits: bounds on a device's quantities that hold together, and the one rule whether a model keeps them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, overload

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, PlainSerializer

from hat_ray.core.text import bound_digits
from hat_ray.core.text import limit as latency_limit
from hat_ray.latency.quantities import LATENCY, QUANTITIES
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray

QuantityFunction = Callable[[Sequence[Architecture]], FloatArray]
"""A quantity of architectures on one device, (N,), as predicted or computed."""
LatencyFunction = QuantityFunction
"""Milliseconds, such as `Predictor.predict`."""
Predictions = Mapping[str, Mapping[str, QuantityFunction]]
"""By device and by quantity: the latency, and what the device's limits bound beside it."""
BoolArray = npt.NDArray[np.bool_]


def _ordered(bounds: Any) -> Any:
    return tuple(sorted(bounds.items())) if isinstance(bounds, Mapping) else bounds


Bounds = Annotated[tuple[tuple[str, float], ...], BeforeValidator(_ordered), PlainSerializer(dict)]
"""The most that each quantity may be, sorted by its name; in JSON an object."""


@dataclass(frozen=True, order=True)
class Limit:
    """The most that quantities of an architecture may be on a device; every bound must hold."""

    device: str
    bounds: Bounds

    @classmethod
    def of(cls, device: str, **bounds: float) -> "Limit":
        """Return the limit with these bounds by quantity: `Limit.of("pi4", latency_ms=40, model_mb=20)`."""
        return cls(device, tuple(sorted(bounds.items())))

    @cached_property
    def by_quantity(self) -> Mapping[str, float]:
        """The bounds by quantity."""
        return dict(self.bounds)

    @property
    def ms(self) -> float:
        """The bound of the latency; infinite where it has none."""
        return self.by_quantity.get(LATENCY, np.inf)

    @property
    def has_latency_only(self) -> bool:
        return tuple(self.by_quantity) == (LATENCY,)

    @property
    def order(self) -> tuple[float, Bounds]:
        """The key that sorts a device's limits by their latency."""
        return self.ms, self.bounds

    @cached_property
    def group(self) -> "Limit":
        """The limit without its latency: limits of one group share a frontier of loss against latency."""
        return Limit(self.device, tuple(bound for bound in self.bounds if bound[0] != LATENCY))

    @overload
    def keeps(self, values: Mapping[str, float]) -> bool: ...
    @overload
    def keeps(self, values: Mapping[str, FloatArray]) -> BoolArray: ...
    def keeps(self, values: Mapping[str, Any]) -> Any:
        """Return whether values by quantity, each (N,) or one number, keep every bound: (N,) or one answer.

        The values hold the latency, and every quantity that is bounded.
        """
        kept = values[LATENCY] <= self.ms
        for name, most in self.group.bounds:
            kept = kept & (values[name] <= most)
        return kept

    @overload
    def excess(self, values: Mapping[str, float]) -> float: ...
    @overload
    def excess(self, values: Mapping[str, FloatArray]) -> FloatArray: ...
    def excess(self, values: Mapping[str, Any]) -> Any:
        """Return the excess of values by quantity over the bounds: the sum of the shares by which each is exceeded.

        Where all hold, it is negative: minus the share that is left under the nearest bound.
        """
        shares = np.stack([np.asarray(values[name], dtype=np.float64) / most - 1 for name, most in self.bounds])
        above = np.maximum(shares, 0).sum(axis=0)
        return np.where(above > 0, above, shares.max(axis=0))

    def broken(self, values: Mapping[str, float]) -> tuple[str, ...]:
        """Return the quantities whose bounds values break."""
        return tuple(name for name, most in self.bounds if values[name] > most)

    @property
    def text(self) -> str:
        """The bounds in words, such as "40 ms, model 20 MB, p90 60 ms"."""
        parts = [latency_limit(self.ms)] if LATENCY in self.by_quantity else []
        return ", ".join(parts + [_short_text(name, most) for name, most in self.group.bounds])

    @property
    def key(self) -> str:
        """The bounds as one word for file names and seeds: "40ms", or "40ms-20model_mb"."""
        parts = [f"{self.ms:.6g}ms"] if LATENCY in self.by_quantity else []
        return "-".join(parts + [f"{most:.6g}{name}" for name, most in self.group.bounds])

    def __str__(self) -> str:
        return f"{self.text} on {self.device}"


def quantity_text(name: str, value: float) -> str:
    """Return a value with its quantity's title and unit."""
    facts = QUANTITIES.facts(name)
    return f"{facts.title} {bound_digits(value)} {facts.unit}"


def _short_text(name: str, value: float) -> str:
    unit = QUANTITIES.facts(name).unit
    return f"{name.removesuffix(f'_{unit.lower()}')} {bound_digits(value)} {unit}"


@dataclass(frozen=True)
class Measured:
    """A quantity as it was measured, and the relative standard error of that; None: not known."""

    value: float
    relative_error: float | None = None


class Verdict(StrEnum):
    """Whether a measured model keeps a limit."""

    KEPT = "kept"
    WITHIN_ERROR = "within error"
    """Above the limit by less than two standard errors of the measurement, and by less than a tenth."""
    MISSED = "missed"
    NOT_MEASURED = "not measured"

    @property
    def holds(self) -> bool:
        """Whether the measurement does not contradict the limit."""
        return self in (Verdict.KEPT, Verdict.WITHIN_ERROR)


_WORST_FIRST = (Verdict.MISSED, Verdict.NOT_MEASURED, Verdict.WITHIN_ERROR, Verdict.KEPT)
_ERRORS = 2.0
"""Standard errors by which a measurement may be above a limit and still be within its error."""
_LARGEST_ERROR = 0.05
"""Relative error that counts in favour of a model at most: a disturbed machine must not make every limit hold."""


def verdict(limit: Limit, measured: Mapping[str, Measured]) -> Verdict:
    """Compare what was measured, by quantity, with a limit: the one rule of search, terminal, page and comparison.

    A computed quantity counts as measured without an error. The worst answer of all bounds is the limit's.
    """
    found = {bound_verdict(most, measured.get(name)) for name, most in limit.bounds}
    return next(one for one in _WORST_FIRST if one in found)


def bound_verdict(most: float, found: Measured | None) -> Verdict:
    """Compare one measured quantity with its bound."""
    if found is None:
        return Verdict.NOT_MEASURED
    if found.value <= most:
        return Verdict.KEPT
    within = found.value * (1 - _ERRORS * min(found.relative_error or 0.0, _LARGEST_ERROR)) < most
    return Verdict.WITHIN_ERROR if within else Verdict.MISSED

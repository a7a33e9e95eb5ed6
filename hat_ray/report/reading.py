"""How models read: their roles, comparisons of two of them, and whether they keep their limits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from hat_ray.core.text import bound_digits, fixed, significant
from hat_ray.latency.quantities import LATENCY, P90, QUANTITIES
from hat_ray.report.data import ChosenModel, Latency, ReportData
from hat_ray.search.limits import Measured, Verdict, bound_verdict, verdict
from hat_ray.search.selection import Kind


@dataclass(frozen=True)
class Comparison:
    """A model against another on one device."""

    speedup: float | None
    """How many times faster; below 1 it is slower."""
    bleu: float | None
    """BLEU gained; negative when lost."""


def latency_ms(model: ChosenModel, device: str) -> float | None:
    """Return the measured latency, or the predicted one where nothing was measured."""
    latency = model.latency.get(device)
    if latency is None:
        return None
    return latency.measured_ms if latency.measured_ms is not None else latency.predicted_ms


def compare(model: ChosenModel, other: ChosenModel, device: str) -> Comparison:
    mine, its = latency_ms(model, device), latency_ms(other, device)
    return Comparison(
        speedup=its / mine if mine and its else None,
        bleu=model.bleu - other.bleu if model.bleu is not None and other.bleu is not None else None,
    )


def mean_spread(values: Sequence[float | None], digits: int) -> str:
    """Return the mean of several seeds with their sample standard deviation, such as "30.2 ± 0.4"; of one its value."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < 2 or len(known) < len(values):
        return fixed(values[0] if values else None, digits)
    return f"{fixed(fmean(known), digits)} ± {fixed(stdev(known), digits)}"


VERDICT_MARKS = {Verdict.KEPT: "✓", Verdict.WITHIN_ERROR: "≈", Verdict.MISSED: "✗", Verdict.NOT_MEASURED: ""}
VERDICT_RULE = (
    "✓ every bound is kept by what was measured (of the latency the median); ≈ one is exceeded by less than two "
    "standard errors, at most a tenth; ✗ one is exceeded further"
)
"""What the marks mean."""


def limit_verdict(model: ChosenModel, device: str) -> Verdict:
    """Return whether what was measured keeps the model's limit; not measured where it has none."""
    return Verdict.NOT_MEASURED if model.limit is None else verdict(model.limit, measured_of(model, device))


def measured_of(model: ChosenModel, device: str) -> dict[str, Measured]:
    """Return the measured values of a model on a device, by quantity."""
    latency = model.latency.get(device)
    found = {name: Measured(one.measured) for name, one in model.quantities.items() if one.measured is not None}
    if latency is not None and latency.measured_ms is not None:
        found[LATENCY] = Measured(latency.measured_ms, latency.relative_error)
        if latency.p90_ms is not None and P90 in model.quantities:  # newer than that of the search
            found[P90] = Measured(latency.p90_ms, latency.relative_error)
    return found


@dataclass(frozen=True)
class BoundFigure:
    """One bound of a model's limit: what it allows, and what was predicted and measured."""

    name: str
    most: float
    predicted: float | None
    low: float | None
    high: float | None
    """The prediction's 90 % interval; None for a computed quantity."""
    measured: float | None
    verdict: Verdict

    @property
    def text(self) -> str:
        """The figure in words, such as "model size 18.2 of 20 MB"; a predicted one is called so."""
        facts = QUANTITIES.facts(self.name)
        known = significant(self.predicted if self.measured is None else self.measured)
        return f"{facts.title} {known} of {bound_digits(self.most)} {facts.unit}" + (
            " (predicted)" if self.measured is None else ""
        )


def bound_figures(model: ChosenModel, device: str) -> list[BoundFigure]:
    """Return the bounds of a model's limit on a device, the latency first."""
    latency, measured = model.latency.get(device, Latency()), measured_of(model, device)
    found = []
    for name, most in sorted(model.limit.bounds if model.limit else (), key=lambda bound: bound[0] != LATENCY):
        beside, timed = model.quantities.get(name), measured.get(name)
        predicted: tuple[float | None, float | None, float | None] = (None, None, None)
        if name == LATENCY:
            predicted = latency.predicted_ms, latency.low_ms, latency.high_ms
        elif beside is not None:
            predicted = beside.predicted, beside.low, beside.high
        value = None if timed is None else timed.value
        found.append(BoundFigure(name, most, *predicted, value, bound_verdict(most, timed)))
    return found


def headline_winner(data: ReportData, device: str) -> ChosenModel | None:
    """Return the winner to speak of first: the best BLEU among those that keep their limit, else among all."""
    winners = data.winners(device)
    kept = [winner for winner in winners if limit_verdict(winner, device).holds] or list(winners)
    return max(kept, key=lambda winner: winner.bleu if winner.bleu is not None else -1.0, default=None)


BY_HAND: dict[Kind, str] = {
    "scaled-depth": "Scaled by hand, fewer layers",
    "scaled-width": "Scaled by hand, narrower",
    "deep-shallow": "Scaled by hand, deep encoder and shallow decoder",
    "deep-shallow-ssru": "Scaled by hand, deep encoder and shallow SSRU decoder",
}
"""The families of models that an engineer scales by hand."""


def role(model: ChosenModel) -> str:
    """Return the role of a model: chosen, scaled by hand, random or largest."""
    if model.kind == "winner":
        return f"Chosen for ≤ {model.limit.text}" if model.limit else "Chosen"
    if model.kind == "random" and model.limit:
        return f"Random, no faster than the choice for {model.limit.text}"
    if model.kind == "largest":
        return "Largest of the space"
    for_limit = f" for ≤ {model.limit.text}" if model.limit else ""
    return f"{BY_HAND.get(model.kind, 'Random')}{for_limit}"

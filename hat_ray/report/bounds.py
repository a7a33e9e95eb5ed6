"""Which bound of a limit decides its winner, and what a looser bound would buy: read off the search's candidates.

Decisions
- A bound decides where the least loss falls once that single bound is lifted, all others kept. Bounds may also decide
  together only: lifting one of them alone changes nothing, lifting all does.
- What a step of a bound buys is the fall of the least loss within the limit when that bound alone is one step looser.
  Nothing is extrapolated: where no candidate lies in the step, it buys nothing.
- Losses are inherited ones: the only ones that all candidates have, also where trained finalists chose the winner. So
  the least loss within a limit is compared, which need not be the winner's.
- A quantity counts as measured by the search, or else as predicted, as it does where winners are picked.
- The noise is of differences of inherited losses: the standard deviation of what training alone makes of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

import numpy as np

from hat_ray.latency.quantities import LATENCY
from hat_ray.search.candidates import Candidate
from hat_ray.search.engine.finalists import Finals
from hat_ray.search.frontier import pareto_front
from hat_ray.search.limits import Limit
from hat_ray.search.selection import RetrainedModel
from hat_ray.search.winners import LimitWinner
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray

FEWEST = 3
"""Trained architectures from which the noise of inherited losses is judged, at least."""
ONE_UNIT = (0.01, 0.1)
"""Shares of a bound between which one unit is its step."""
SMALL = 0.05
"""Share of a bound that its step is at most, where it is not one unit."""


@dataclass(frozen=True)
class BoundPrice:
    """What one bound of a limit costs, in bits of inherited loss; the other bounds are kept throughout."""

    name: str
    most: float
    step: float
    """By how much it is loosened, in its own unit."""
    lifted_gain_bits: float
    """By how much the least loss falls without this bound."""
    step_gain_bits: float
    """By how much it falls one step further up."""
    next_value: float | None
    """What the first candidate with a lower loss needs; None: there is none."""
    next_gain_bits: float
    """By how much its loss is lower; 0: there is none."""

    @property
    def decides(self) -> bool:
        """Whether the least loss falls where this bound alone is lifted."""
        return self.lifted_gain_bits > 0


@dataclass(frozen=True)
class LimitPrices:
    """What the bounds of one limit cost."""

    limit: Limit
    best: str
    """Id of the candidate with the least inherited loss within the limit."""
    best_loss_bits: float
    winner: str | None
    """Id of the search's winner."""
    winner_loss_bits: float | None
    """Its inherited loss."""
    together_gain_bits: float
    """By how much the least loss falls without any bound."""
    bounds: tuple[BoundPrice, ...]
    """The latency first."""


@dataclass(frozen=True)
class LossNoise:
    """By how much a difference of inherited losses misses that after training."""

    bits: float
    """Standard deviation of that, for two architectures."""
    trained: int
    """Architectures that it was judged by."""
    finalists: bool
    """Whether these are finalists after their first rung; False: the models that were built."""


@dataclass(frozen=True)
class Prices:
    """What the bounds of a run's limits cost."""

    limits: tuple[LimitPrices, ...]
    noise: LossNoise | None
    """None: too few candidates were trained to judge it."""


def prices(
    candidates: Sequence[Candidate],
    winners: Sequence[LimitWinner],
    finals: Finals | None,
    trained: Sequence[RetrainedModel],
) -> Prices | None:
    """Return what the bounds of each winner's limit cost; None without winners."""
    found = [price(candidates, one.limit, one.architecture) for one in winners]
    limits = tuple(one for one in found if one is not None)
    return Prices(limits, loss_noise(finals, trained)) if limits else None


def price(candidates: Sequence[Candidate], limit: Limit, winner: Architecture | None = None) -> LimitPrices | None:
    """Return what the bounds of a limit cost; None where no candidate keeps it."""
    some = usable(candidates, limit)
    names = sorted(limit.by_quantity, key=lambda name: name != LATENCY)
    losses, values = np.array([one.loss_bits for one in some]), {name: _values(some, limit, name) for name in names}
    kept = {name: values[name] <= limit.by_quantity[name] for name in names}
    within = np.flatnonzero(np.logical_and.reduce(list(kept.values())))
    if len(within) == 0:
        return None
    best = some[int(within[np.argmin(losses[within])])]
    bounds = []
    for name in names:
        others = np.logical_and.reduce([np.full(len(some), True), *(kept[other] for other in names if other != name)])
        bounds.append(_bound(name, limit.by_quantity[name], best.loss_bits, losses[others], values[name][others]))
    won = next((one for one in some if one.architecture == winner), None)
    return LimitPrices(
        limit=limit,
        best=best.architecture.id,
        best_loss_bits=best.loss_bits,
        winner=None if winner is None else winner.id,
        winner_loss_bits=None if won is None else won.loss_bits,
        together_gain_bits=best.loss_bits - float(losses.min()),
        bounds=tuple(bounds),
    )


def _bound(name: str, most: float, least: float, losses: FloatArray, values: FloatArray) -> BoundPrice:
    """Price one bound; losses and values, (N,), of the candidates that keep the others, the best within among them."""
    step = step_of(most)
    better = losses < least
    next_value = float(values[better].min()) if better.any() else None
    next_loss = least if next_value is None else float(losses[values <= next_value].min())
    return BoundPrice(
        name=name,
        most=most,
        step=step,
        lifted_gain_bits=least - float(losses.min()),
        step_gain_bits=least - float(losses[values <= most + step].min()),
        next_value=next_value,
        next_gain_bits=least - next_loss,
    )


def step_of(most: float) -> float:
    """Return the step by which a bound is loosened.

    It is one unit where this is 1 % to 10 % of the bound: one of 40 ms, one of 12 MB. Elsewhere it is the largest of 1,
    2 and 5 times a power of ten that is at most 5 % of the bound: 10 of 300 MB, 0.1 of 2.3 ms.
    """
    if ONE_UNIT[0] * most <= 1 <= ONE_UNIT[1] * most:
        return 1.0
    power = math.floor(math.log10(SMALL * most))
    return max(step for digit in (1, 2, 5) if (step := float(f"{digit}e{power}")) <= SMALL * most or digit == 1)


def best_by_bound(candidates: Sequence[Candidate], limit: Limit, name: str) -> list[tuple[float, float]]:
    """Return the least loss by the value of one bound, the others kept: a pair wherever the loss falls, from below."""
    others = Limit(limit.device, tuple(bound for bound in limit.bounds if bound[0] != name))
    some = [one for one in usable(candidates, limit) if others.keeps(one.known(limit.device))]
    values = _values(some, limit, name)
    places = pareto_front([one.loss_bits for one in some], values)
    return list(dict.fromkeys((float(values[place]), some[place].loss_bits) for place in places))


def usable(candidates: Sequence[Candidate], limit: Limit) -> list[Candidate]:
    """Return the candidates with a whole loss of which all is known that a limit bounds, in the order of asking."""
    return [
        one
        for one in candidates
        if not one.estimated
        and math.isfinite(one.loss_bits)
        and limit.device in one.latency_ms
        and one.known(limit.device).keys() >= limit.by_quantity.keys()
    ]


def _values(candidates: Sequence[Candidate], limit: Limit, name: str) -> FloatArray:
    return np.array([one.known(limit.device)[name] for one in candidates], dtype=np.float64)


def loss_noise(finals: Finals | None, trained: Sequence[RetrainedModel]) -> LossNoise | None:
    """Return the noise of differences of inherited losses, by what training made of them.

    It is judged by the finalists after their first rung; where these are fewer than three, by the models that were
    built, each architecture once, after their main training.
    """
    rungs = [(one.inherited_loss_bits, one.rung_losses_bits[:1]) for one in (finals.finalists if finals else ())]
    by_finalists = noise_bits([(inherited, losses[0]) for inherited, losses in rungs if losses])
    if by_finalists is not None:
        return LossNoise(*by_finalists, finalists=True)
    built = {one.trainings[0].folder: (one.inherited_loss_bits, one.trainings[0].loss_bits) for one in trained}
    by_models = noise_bits(list(built.values()))
    return None if by_models is None else LossNoise(*by_models, finalists=False)


def noise_bits(pairs: Sequence[tuple[float, float]]) -> tuple[float, int] | None:
    """Return the noise of a difference of two first losses as a forecast of the second ones', and how many pairs count.

    With second = first + shift + error, the error of a difference has the standard deviation √2 times that of one.
    None with fewer than three pairs of finite losses.
    """
    changes = [after - before for before, after in pairs if math.isfinite(before) and math.isfinite(after)]
    return (math.sqrt(2) * stdev(changes), len(changes)) if len(changes) >= FEWEST else None

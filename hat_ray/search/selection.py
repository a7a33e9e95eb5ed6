"""Which models are trained from scratch: the winners of the search, and what they are compared with."""

import logging
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hat_ray.core.codec import Loss
from hat_ray.core.determinism import stream_seed
from hat_ray.latency.quantities import LATENCY
from hat_ray.search.limits import Limit, Predictions, QuantityFunction
from hat_ray.space.architecture import Architecture
from hat_ray.space.json_field import ArchitectureField
from hat_ray.space.search_space import SearchSpace

log = logging.getLogger(__name__)

DRAWS = 3_000
WIDER = (1.1, 1.25, 1.5, math.inf)
"""How many times slower than its winner a random rival may be, the first bound that enough rivals keep."""
Kind = Literal["winner", "largest", "random"]


@dataclass(frozen=True)
class SelectedModel:
    """A model to train. A random baseline belongs to the winner of the same limit."""

    kind: Kind
    architecture: ArchitectureField
    limit: Limit | None = None


@dataclass(frozen=True)
class OtherStart:
    """What training an architecture from another start gave."""

    start: str
    """`scratch`, `inherited`, or the trained model that it started from."""
    folder: str
    """Its folder within the stage's."""
    loss_bits: Loss
    updates: int
    seconds: float


@dataclass(frozen=True)
class RetrainedModel:
    """What training one architecture gave."""

    inherited_loss_bits: Loss
    """Its validation loss with the weights that it inherits, before."""
    scratch_loss_bits: Loss
    """Its validation loss after training, from scratch or what else `start` names."""
    updates: int
    seconds: float
    start: str = "scratch"
    """What its training started from: `scratch`, `inherited`, or a trained model."""
    others: tuple[OtherStart, ...] = ()
    """The same architecture trained from other starts."""


@dataclass(frozen=True)
class RetrainOutput:
    """What stage `retrain` trained: which models and why, and each architecture's figures by its id."""

    selected: tuple[SelectedModel, ...]
    models: dict[str, RetrainedModel]

    @property
    def architectures(self) -> list[Architecture]:
        """Each architecture once."""
        return unique_architectures(self.selected)


def select(
    space: SearchSpace,
    winners: Mapping[Limit, Architecture],
    predictions: Predictions,
    *,
    largest: bool,
    randoms: int,
    seed: int,
) -> list[SelectedModel]:
    """List the winners, their random rivals and the largest architecture, in this order."""
    selected: list[SelectedModel] = []
    for limit, architecture in winners.items():
        selected.append(SelectedModel("winner", architecture, limit))
        names = [f"{most:g}{name}" for name, most in limit.group.bounds]
        rng = random.Random(stream_seed(seed, "rival", limit.device, f"{limit.ms:g}", *names))
        for rival in slower_rivals(space, architecture, predictions[limit.device], limit.group, randoms, rng):
            selected.append(SelectedModel("random", rival, limit))
    if largest:
        selected.append(SelectedModel("largest", space.largest()))
    return selected


def slower_rivals(
    space: SearchSpace,
    winner: Architecture,
    functions: Mapping[str, QuantityFunction],
    group: Limit,
    count: int,
    rng: random.Random,
) -> list[Architecture]:
    """Draw architectures uniformly among those predicted to be no faster than the winner, and hardly slower.

    They keep what `group`, the winner's limit, bounds beside the latency.

    Much slower ones are larger and would win by size alone: the rivals take at most 10 % longer, or where too few such
    are found 25 %, 50 %, or anything. Fewer come back, with a warning, when nothing slower is found.
    """
    needed = float(functions[LATENCY]([winner])[0])
    draws = list(dict.fromkeys(draw for _ in range(DRAWS) if (draw := space.sample(rng)) != winner))
    values = {LATENCY: functions[LATENCY](draws), **{name: functions[name](draws) for name, _ in group.bounds}}
    some = list(zip(draws, values[LATENCY], group.keeps(values), strict=True))
    for bound in WIDER:
        rivals = [draw for draw, ms, kept in some if kept and needed <= ms <= bound * needed][:count]
        if len(rivals) == count:
            return rivals
    log.warning("only %d of %d random architectures as slow as %s were found", len(rivals), count, winner.id)
    return rivals


def unique_architectures(selected: Sequence[SelectedModel]) -> list[Architecture]:
    """Return each architecture once: two limits may have one winner."""
    return list(dict.fromkeys(entry.architecture for entry in selected))

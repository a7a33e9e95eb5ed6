"""Which models are trained: the winners of the search, and what they are compared with; and what that gave."""

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
HandScaled = Literal["scaled-depth", "scaled-width", "deep-shallow", "deep-shallow-ssru"]
OF_EVERY_SPACE: tuple[HandScaled, ...] = ("scaled-depth", "scaled-width", "deep-shallow")
SSRU_STUDENT: HandScaled = "deep-shallow-ssru"
"""The family of models scaled by hand that needs a space with SSRU layers."""
HAND_SCALED: tuple[HandScaled, ...] = (*OF_EVERY_SPACE, SSRU_STUDENT)
Kind = Literal["winner", "largest", "random"] | HandScaled


@dataclass(frozen=True)
class Matching:
    """How a model that is scaled by hand was matched to a limit."""

    latency_ms: float
    measured: bool
    """False: predicted, since only a latency table knows the device, or the device could not be reached."""
    outside: str | None = None
    """Why it lies outside of the search space; None: it lies inside."""


@dataclass(frozen=True)
class SelectedModel:
    """A model to train. A baseline with a limit is the rival of the winner under the same limit."""

    kind: Kind
    architecture: ArchitectureField
    limit: Limit | None = None
    matching: Matching | None = None
    """Of a model that is scaled by hand."""


@dataclass(frozen=True)
class MissingRival:
    """A family of models scaled by hand that has none under a limit, and why."""

    kind: HandScaled
    limit: Limit
    reason: str


@dataclass(frozen=True)
class Selection:
    """The models to train, and the families without one."""

    selected: tuple[SelectedModel, ...]
    missing: tuple[MissingRival, ...] = ()


@dataclass(frozen=True)
class TrainedOnce:
    """What one training of an architecture gave."""

    start: str
    """`scratch`, `inherited`, or the trained model that it started from."""
    seed: int
    """Number of the training among those from this start, from 0 on; each has a random stream of its own."""
    folder: str
    """Its folder within the stage's."""
    loss_bits: Loss
    """Its validation loss."""
    updates: int
    seconds: float


@dataclass(frozen=True)
class RetrainedModel:
    """What training one architecture gave."""

    inherited_loss_bits: Loss
    """Its validation loss with the weights that it inherits, before; infinite outside of the search space."""
    trainings: tuple[TrainedOnce, ...]
    """The first one is the model that is timed, compared and exported."""

    @property
    def start(self) -> str:
        """What the main training started from."""
        return self.trainings[0].start

    @property
    def starts(self) -> list[str]:
        """What it was trained from, the main start first."""
        return list(dict.fromkeys(one.start for one in self.trainings))

    def begun_from(self, start: str) -> list[TrainedOnce]:
        """Return the trainings from one start, the first seed's first."""
        return [one for one in self.trainings if one.start == start]

    @property
    def repeats(self) -> list[TrainedOnce]:
        """The trainings from the main start: one a seed."""
        return self.begun_from(self.start)


@dataclass(frozen=True)
class RetrainOutput:
    """What stage `retrain` trained: which models and why, and each architecture's figures by its id."""

    selected: tuple[SelectedModel, ...]
    models: dict[str, RetrainedModel]
    missing: tuple[MissingRival, ...] = ()
    """Families of models scaled by hand that have none under a limit."""

    def contests(self) -> dict[str, list[str]]:
        """Return by the winner's id the ids of the models that it is compared with: rivals of its limits, the largest.

        A rival that is the winner itself is none.
        """
        found: dict[str, list[str]] = {}
        for winner in (one for one in self.selected if one.kind == "winner"):
            rivals = [one for one in self.selected if one.kind != "winner" and one.limit in (None, winner.limit)]
            ids = [one.architecture.id for one in rivals if one.architecture != winner.architecture]
            known = found.setdefault(winner.architecture.id, [])
            known += [id for id in dict.fromkeys(ids) if id not in known]
        return found

    @property
    def architectures(self) -> list[Architecture]:
        """Each architecture once."""
        return unique_architectures(self.selected)


HandRivals = Mapping[Limit, Sequence[SelectedModel]]
"""By the winner's limit its rivals that are scaled by hand."""


def select(
    space: SearchSpace,
    winners: Mapping[Limit, Architecture],
    predictions: Predictions,
    *,
    largest: bool,
    randoms: int,
    seed: int,
    by_hand: HandRivals | None = None,
) -> list[SelectedModel]:
    """List the winners, each followed by its rivals (scaled by hand, then random), and the largest architecture."""
    selected: list[SelectedModel] = []
    for limit, architecture in winners.items():
        selected.append(SelectedModel("winner", architecture, limit))
        selected += (by_hand or {}).get(limit, ())
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

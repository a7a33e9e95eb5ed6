"""What a search was at one moment, as plain JSON values."""

import math
import random
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Order = Annotated[int, Field(ge=0)]


class _Saved(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SavedProposal(_Saved):
    """An architecture that was asked for; its place in the list is its order."""

    architecture: dict[str, Any]
    generation: int
    origin: str
    parents: tuple[str, ...]


class HatState(_Saved):
    """HAT's generation under way."""

    populations: tuple[tuple[tuple[int, ...], ...], ...]
    """By limit, the genes of each member."""
    generation: int
    next: Order
    spent: Order


class PlannedChild(_Saved):
    """An architecture that the surrogate search will propose."""

    limit: Order | None
    """Place of the limit that it is for; None: it is to widen the frontier."""
    architecture: dict[str, Any]
    parents: tuple[str, ...]


class SurrogateState(_Saved):
    """What the surrogate search has planned, and the scales that it has learned."""

    plan: tuple[PlannedChild, ...]
    planned_at: Order
    """Losses that were known when the plan was made."""
    without: tuple[Order, ...]
    """Places of the limits that the plan found nothing for."""
    kept: tuple[PlannedChild, ...] = ()
    """What plans before it bred and kept as parents of the next one's."""
    scales: dict[str, float]
    scales_at: Order
    """Losses that the scales were learned from."""


class AlgorithmState(_Saved):
    """What an algorithm holds beside the archive."""

    random_fails: tuple[int, ...] = ()
    """Places of the limits that random draws hardly ever keep."""
    exhausted: tuple[int, ...] = ()
    """Places of the limits that no new architecture was found for."""
    hat: HatState | None = None
    surrogate: SurrogateState | None = None


class EvolutionState(_Saved):
    """Everything of an `Evolution` that is not an argument of its constructor."""

    random_state: tuple[int, tuple[int, ...], float | None]
    proposals: tuple[SavedProposal, ...]
    losses: tuple[tuple[Order, float | None], ...]
    """Order of a proposal and its loss, in the order of telling; None where scoring gave no number."""
    estimated: tuple[Order, ...] = ()
    """Orders of the proposals whose loss is an estimate."""
    again: tuple[Order, ...]
    algorithm: AlgorithmState


def pack_loss(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None


def unpack_loss(loss: float | None) -> float:
    return math.inf if loss is None else loss


def pack_random(rng: random.Random) -> tuple[int, tuple[int, ...], float | None]:
    version, internal, gauss = rng.getstate()
    return version, tuple(internal), gauss

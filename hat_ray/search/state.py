"""What a search was at one moment, as plain JSON values."""

import math
import random
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class SavedProposal(BaseModel):
    """An architecture that was asked for; its place in the list is its order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: dict[str, Any]
    generation: int
    origin: str
    parents: tuple[str, ...]


Order = Annotated[int, Field(ge=0)]


class EvolutionState(BaseModel):
    """Everything of an `Evolution` that is not an argument of its constructor."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    random_state: tuple[int, tuple[int, ...], float | None]
    proposals: tuple[SavedProposal, ...]
    losses: tuple[tuple[Order, float | None], ...]
    """Order of a proposal and its loss, in the order of telling; None where scoring gave no number."""
    again: tuple[Order, ...]
    random_fails: tuple[int, ...]
    """Places of the limits that random draws hardly ever keep."""
    exhausted: tuple[int, ...]
    """Places of the limits that no new architecture was found for."""


def pack_loss(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None


def unpack_loss(loss: float | None) -> float:
    return math.inf if loss is None else loss


def pack_random(rng: random.Random) -> tuple[int, tuple[int, ...], float | None]:
    version, internal, gauss = rng.getstate()
    return version, tuple(internal), gauss

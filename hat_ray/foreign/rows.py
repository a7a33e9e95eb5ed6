"""Rows of embeddings and output biases, brought from a foreign vocabulary's order into ours and back.

Legend: V our entries, W theirs, D width. `order` holds the foreign id of each of our entries.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hat_ray.corpus.vocabulary import MISSING
from hat_ray.errors import CheckpointError

Order = Sequence[int]

NEVER = -100.0
"""Output bias of an entry that the foreign vocabulary lacks: its probability is 0 in single precision, and its share of
a smoothed loss stays finite."""


def rows_of(theirs: Tensor, order: Order) -> Tensor:
    """(W, D) -> (V, D), zeros where the foreign vocabulary has no entry."""
    ours = theirs.new_zeros(len(order), *theirs.shape[1:])
    there, places = _known(order)
    ours[there] = theirs[places]
    return ours


def biases_of(theirs: Tensor, order: Order) -> Tensor:
    """(W,) -> (V,), `NEVER` where the foreign vocabulary has no entry."""
    ours = rows_of(theirs, order)
    ours[torch.tensor(order) == MISSING] = NEVER
    return ours


def rows_to(ours: Tensor, order: Order) -> Tensor:
    """(V, D) -> (W, D): undo `rows_of`."""
    there, places = _known(order)
    theirs = ours.new_zeros(len(there), *ours.shape[1:])
    theirs[places] = ours[there]
    return theirs


def require_order(order: Order, count: int, side: str, source: str) -> None:
    """Raise CheckpointError unless a vocabulary names each of `count` foreign ids once."""
    known = sorted(theirs for theirs in order if theirs != MISSING)
    if known != list(range(count)):
        raise CheckpointError(
            f"{source}: the {side} vocabulary has {len(known)} entries, the model {count}: it is of another model"
        )


def _known(order: Order) -> tuple[Tensor, Tensor]:
    """Return our ids that the foreign vocabulary has, and its ids of them."""
    places = torch.tensor(order)
    there = (places != MISSING).nonzero().flatten()
    return there, places[there]

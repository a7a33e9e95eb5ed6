"""The last rung of a search: each limit's best candidates are trained on for a little, and the worse half is dropped.

Inherited losses of candidates that keep one limit lie close together, and order them badly. A few updates of each alone
separate them. This file holds the choice of the finalists and the halving; the trainings stand in
`pipeline/trained/finalists.py`.

Decisions
- Halving is synchronous: a limit's half is dropped when all of its finalists have their loss. Limits share finalists,
  so an architecture stays as long as it is in the better half of one limit.
- The finalists of a limit differ in widths and depths: of each such outline the candidate with the lowest inherited
  loss stands for all. Inherited losses order outlines badly, and differ little within one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from hat_ray.core.codec import Loss
from hat_ray.search.candidates import Candidate
from hat_ray.search.frontier import scored_whole
from hat_ray.search.limits import Limit
from hat_ray.search.rivals.families import hand_scaled as members_of
from hat_ray.search.selection import HandScaled
from hat_ray.space.architecture import Architecture
from hat_ray.space.genes import GeneCode, Rows
from hat_ray.space.json_field import ArchitectureField
from hat_ray.space.search_space import SearchSpace

FILE = "finalists.json"
DISTANCE = 0.1
"""Share of the genes by which finalists of one outline differ, where there are enough candidates."""
_LOOKED_AT = 50
"""Candidates for each place among the finalists of a limit, among which those that differ are sought."""

Alive = Mapping[Limit, Sequence[Architecture]]
"""The finalists that each limit still has."""


@dataclass(frozen=True)
class Finalist:
    """A candidate that was trained on, and its validation loss after each rung that it took part in."""

    architecture: ArchitectureField
    inherited_loss_bits: Loss
    limits: tuple[Limit, ...]
    """Those that it stood for."""
    rung_losses_bits: tuple[Loss, ...] = ()

    @property
    def merit(self) -> tuple[int, float]:
        """The key that sorts finalists, the best first: more rungs, then a lower last loss."""
        return -len(self.rung_losses_bits), _comparable(self.rung_losses_bits[-1] if self.rung_losses_bits else None)


@dataclass(frozen=True)
class FinalPlace:
    """One finalist under one limit: its places by inherited loss and after its last rung, from 1."""

    finalist: Finalist
    before: int
    after: int


@dataclass(frozen=True)
class Finals:
    """The finalists of all limits."""

    FORMAT: ClassVar[int] = 1

    updates: tuple[int, ...]
    """Updates of each rung."""
    finalists: tuple[Finalist, ...]
    seconds: float = 0.0
    """Of all trainings, validation included."""
    complete: bool = False
    """Whether the last rung is over."""

    def of(self, limit: Limit) -> tuple[Finalist, ...]:
        """Return the finalists of a limit, the best first."""
        return tuple(sorted((one for one in self.finalists if limit in one.limits), key=lambda one: one.merit))

    def places(self, limit: Limit) -> tuple[FinalPlace, ...]:
        """Return the finalists of a limit with their places before and after, the best first."""
        after = self.of(limit)
        before = sorted(after, key=lambda one: one.inherited_loss_bits)
        return tuple(FinalPlace(one, before.index(one) + 1, place) for place, one in enumerate(after, 1))

    def best(self, limit: Limit) -> Architecture | None:
        """Return the architecture with the lowest loss after the last rung; None where a limit has none."""
        return next((one.architecture for one in self.of(limit)), None)

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits that have finalists."""
        return tuple(dict.fromkeys(limit for one in self.finalists for limit in one.limits))

    @property
    def updates_made(self) -> int:
        """The updates of all trainings."""
        return sum(sum(self.updates[: len(one.rung_losses_bits)]) for one in self.finalists)


def pick_finalists(
    candidates: Sequence[Candidate],
    limits: Sequence[Limit],
    count: int,
    space: SearchSpace,
    hand_scaled: Sequence[HandScaled] = (),
) -> dict[Limit, list[Candidate]]:
    """Return for each limit up to `count` candidates that keep it, by all that is known, the lowest loss first.

    Then follows, of each family in `hand_scaled`, the slowest member that is a candidate and keeps the limit.
    """
    families = [members_of(space, kind, inside=True) for kind in hand_scaled]
    code, whole = GeneCode(space), [one for one in scored_whole(candidates) if math.isfinite(one.loss_bits)]
    found = {}
    for limit in limits:
        within = [one for one in whole if limit.keeps(one.known(limit.device))]
        scaled = _slowest_of_each(families, {one.architecture: one for one in within})
        within = sorted(within, key=lambda one: (one.loss_bits, one.order))[: count * _LOOKED_AT]
        chosen = _different(within, count, code)
        found[limit] = [*chosen, *(one for one in scaled if one not in chosen)]
    return found


def _slowest_of_each(
    families: Sequence[Sequence[Architecture]], within: Mapping[Architecture, Candidate]
) -> list[Candidate]:
    """Return the candidate of each family that comes first in it, each once."""
    first = [next((within[one] for one in family if one in within), None) for family in families]
    return list({one.architecture: one for one in first if one is not None}.values())


def _different(ordered: Sequence[Candidate], count: int, code: GeneCode) -> list[Candidate]:
    """Return the first of each outline; where these are too few the next that differ in genes, then the next best."""
    if not ordered:
        return []
    rows, outlines = code.encode([one.architecture for one in ordered]), [_outline(one) for one in ordered]
    chosen = [place for place, outline in enumerate(outlines) if outline not in outlines[:place]][:count]
    for place in range(len(ordered)):
        if len(chosen) < count and all(_distance(rows[place], rows[other]) >= DISTANCE for other in chosen):
            chosen.append(place)
    chosen += [place for place in range(len(ordered)) if place not in chosen][: count - len(chosen)]
    return [ordered[place] for place in sorted(chosen)]


def _outline(candidate: Candidate) -> tuple[int, int, int, int]:
    """Return the widths and depths, which inherited losses compare worst; heads and hidden widths they hardly see."""
    encoder, decoder = candidate.architecture.encoder, candidate.architecture.decoder
    return encoder.embed_dim, encoder.depth, decoder.embed_dim, decoder.depth


def _distance(one: Rows, other: Rows) -> float:
    """Return the share of the genes that differ, of those that either has."""
    either = (one > 0) | (other > 0)
    return float(np.mean((one != other)[either]))


def first_rung(picked: Mapping[Limit, Sequence[Candidate]], updates: Sequence[int]) -> tuple[Finals, Alive]:
    """Return the finals before their first rung."""
    limits: dict[Architecture, list[Limit]] = {}
    losses = {one.architecture: one.loss_bits for some in picked.values() for one in some}
    for limit, some in picked.items():
        for one in some:
            limits.setdefault(one.architecture, []).append(limit)
    entries = tuple(Finalist(one, losses[one], tuple(of)) for one, of in limits.items())
    alive = {limit: [one.architecture for one in some] for limit, some in picked.items() if some}
    return Finals(tuple(updates), entries), alive


def contested(alive: Alive) -> list[Architecture]:
    """Return each architecture once that a limit with a choice left still has."""
    return unique(one for some in alive.values() if len(some) > 1 for one in some)


def after_rung(finals: Finals, losses: Mapping[Architecture, float], seconds: float) -> Finals:
    """Return the finals with the losses of one more rung."""
    entries = tuple(
        replace(one, rung_losses_bits=(*one.rung_losses_bits, losses[one.architecture]))
        if one.architecture in losses
        else one
        for one in finals.finalists
    )
    return replace(finals, finalists=entries, seconds=finals.seconds + seconds)


def halved(alive: Alive, losses: Mapping[Architecture, float]) -> Alive:
    """Return the better half of each limit's finalists; of an odd number the larger half.

    What another limit trained counts here as well. A limit without a choice keeps what it has.
    """
    return {
        limit: sorted(some, key=lambda one: _comparable(losses[one]))[: -(-len(some) // 2)] if len(some) > 1 else some
        for limit, some in alive.items()
    }


def unique(architectures: Iterable[Architecture]) -> list[Architecture]:
    return list(dict.fromkeys(architectures))


def _comparable(loss: float | None) -> float:
    """Return a loss as a number that sorts: what gave none stands last."""
    return math.inf if loss is None or math.isnan(loss) else loss

"""New architectures that keep a limit: at random, or as children of others; every search for one is bounded."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from hat_ray.search.engine.archive import Archive
from hat_ray.search.limits import Limit
from hat_ray.space.architecture import Architecture
from hat_ray.space.genes import GeneCode
from hat_ray.space.search_space import SearchSpace

_POOLS = (8, 24, 64)
"""Children drawn and predicted together, one pool after another until a new one keeps the limit."""
_RANDOM_POOLS = (16, 128, 1024)
_SMALL_STEPS = (0.3, 0.1, 0.03)
"""Mutation probabilities for leaving the surest architecture when nothing else keeps the limit."""
_COUNTABLE = 4096
"""Most networks of a space that is enumerated when draws find nothing new."""


@dataclass(frozen=True)
class Child:
    """A new architecture, how it was made, and the ids of what it was made from."""

    architecture: Architecture
    origin: str
    parents: tuple[str, ...] = ()


Draw = Callable[[], Child]


class Breeder:
    """Draws children and returns the first that was never proposed and keeps a limit."""

    def __init__(self, space: SearchSpace, rng: random.Random) -> None:
        self._space, self._rng = space, rng
        self._code = GeneCode(space)
        self.random_fails: set[Limit] = set()
        """Limits that random draws hardly ever keep: they are not tried again."""
        self._all: list[Architecture] | None = None

    def at_random(self, archive: Archive, limit: Limit) -> Child | None:
        """Return a random architecture."""
        if limit in self.random_fails:
            return None
        found = _first_new(archive, limit, lambda: Child(self._space.sample(self._rng), "random"), _RANDOM_POOLS)
        if found is None:
            self.random_fails.add(limit)
        return found

    def child(
        self, archive: Archive, limit: Limit, choose: Callable[[], Architecture], mutation_probability: float
    ) -> Child | None:
        """Return a child by mutation or cross-over, with equal chance; `choose` picks a parent."""
        ways: list[Draw] = [
            lambda: self._mutant(choose(), mutation_probability),
            lambda: self._cross(choose(), choose(), mutation_probability),
        ]
        first = self._rng.randrange(2)
        return _first_new(archive, limit, ways[first], _POOLS) or _first_new(archive, limit, ways[1 - first], _POOLS)

    def near(self, archive: Archive, limit: Limit, parents: Sequence[Architecture]) -> Child | None:
        """Return a mutation of the limit's surest architecture or of one of `parents`, where all else fails."""
        some = [archive.surest[limit], *parents]
        for step in _SMALL_STEPS:
            found = _first_new(archive, limit, partial(self._mutant_of, some, step), _POOLS)
            if found:
                return found
        return self._one_by_one(archive, limit)

    def _mutant_of(self, some: Sequence[Architecture], probability: float) -> Child:
        return self._mutant(self._rng.choice(some), probability)

    def _mutant(self, parent: Architecture, probability: float) -> Child:
        return Child(self._code.child([parent], self._rng, probability), "mutation", (parent.id,))

    def _cross(self, first: Architecture, second: Architecture, probability: float) -> Child:
        if first == second:
            return self._mutant(first, probability)
        return Child(self._code.child([first, second], self._rng), "crossover", (first.id, second.id))

    def _one_by_one(self, archive: Archive, limit: Limit) -> Child | None:
        if self._all is None:
            self._all = self._code.all() if self._space.size() <= _COUNTABLE else []
        new = [architecture for architecture in self._all if architecture not in archive.proposals]
        within = [one for one, kept in zip(new, archive.keeping(new, limit), strict=True) if kept]
        return Child(self._rng.choice(within), "random") if within else None


def _first_new(archive: Archive, limit: Limit, draw: Draw, pools: Sequence[int]) -> Child | None:
    """Return the first of the drawn children that was never proposed and keeps a limit; draw pool after pool."""
    for size in pools:
        children = [draw() for _ in range(size)]
        new = [child for child in children if child.architecture not in archive.proposals]
        for child, kept in zip(new, archive.keeping([child.architecture for child in new], limit), strict=True):
            if kept:
                return child
    return None

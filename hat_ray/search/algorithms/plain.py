"""The plain algorithms: random search, and steady-state evolution with ageing."""

import random
from typing import ClassVar

from hat_ray.search.algorithms.base import RoundRobin, SearchProblem
from hat_ray.search.algorithms.breeding import Child
from hat_ray.search.algorithms.registry import AgingOptions, AlgorithmOptions
from hat_ray.search.engine.archive import Archive
from hat_ray.search.limits import Limit
from hat_ray.space.architecture import Architecture


class RandomSearch(RoundRobin):
    """Draws uniformly, and keeps the limit of the turn."""

    def find(self, archive: Archive, limit: Limit) -> Child | None:
        return self.breeder.at_random(archive, limit) or self.breeder.near(archive, limit, ())


class AgingEvolution(RoundRobin):
    """Breeds from the winners of small tournaments among the latest architectures (Real et al., 2019).

    The oldest die, however good: an architecture that was scored well by luck does not have children for ever.
    """

    Options: ClassVar[type[AlgorithmOptions]] = AgingOptions

    def __init__(self, problem: SearchProblem, options: AlgorithmOptions, rng: random.Random) -> None:
        super().__init__(problem, options, rng)
        assert isinstance(options, AgingOptions)
        self._tournament = min(options.tournament, options.population)
        self._probability = options.mutation_probability

    def find(self, archive: Archive, limit: Limit) -> Child | None:
        if len(archive.proposals) < self.population:
            return self.breeder.at_random(archive, limit) or self.breeder.near(archive, limit, ())
        latest = archive.latest(limit, self.population)
        return (
            self._child(archive, limit, latest)
            or self.breeder.at_random(archive, limit)
            or self.breeder.near(archive, limit, latest)
        )

    def _child(self, archive: Archive, limit: Limit, latest: list[Architecture]) -> Child | None:
        if not latest:
            return None
        return self.breeder.child(archive, limit, lambda: self._winner(archive, latest), self._probability)

    def _winner(self, archive: Archive, latest: list[Architecture]) -> Architecture:
        some = self.rng.sample(latest, min(self._tournament, len(latest)))
        return min(some, key=lambda architecture: archive.losses[architecture])

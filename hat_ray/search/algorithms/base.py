"""The plain algorithms, and what all have in common: random search, and steady-state evolution with ageing.

Decisions
- The limits take turns. A limit for which nothing new is found leaves its turns to the others until a new architecture
  is told that keeps it.
- Every device's fastest architecture is asked first: it is the left end of the frontier, and the last resort.
"""

import logging
import random
from abc import ABC, abstractmethod

from hat_ray.search.algorithms.breeding import Breeder, Child
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.archive import Archive, Proposal
from hat_ray.search.engine.state import AlgorithmState
from hat_ray.search.limits import Limit
from hat_ray.space.architecture import Architecture

logger = logging.getLogger(__name__)

_GENERATION = 100
"""Evaluations that count as one generation where none is waited for: HAT's new ones in each."""


class Algorithm(ABC):
    """Proposes from what an archive knows.

    `propose` is called for each new architecture and `told` after each loss. `save` and `load` carry what neither the
    archive nor the random generator holds.
    """

    def __init__(self, archive: Archive, config: SearchConfig, rng: random.Random) -> None:
        self.archive, self.config, self.rng = archive, config, rng

    @property
    def spent(self) -> int:
        """Evaluations that are used up, those told from outside included."""
        return len(self.archive.proposals)

    @property
    @abstractmethod
    def dry(self) -> bool:
        """Whether nothing new is found for any limit."""

    @abstractmethod
    def propose(self, left: int) -> Proposal | None:
        """Return a new architecture, spending at most `left` evaluations; None when there is none now."""

    @abstractmethod
    def told(self, kept: list[Limit]) -> None:
        """Learn that an architecture was told which keeps these limits."""

    @abstractmethod
    def latency_changed(self) -> None:
        """Forget what was concluded from the latency functions before."""

    @abstractmethod
    def save(self) -> AlgorithmState: ...

    @abstractmethod
    def load(self, state: AlgorithmState) -> None: ...


class ByTurns(Algorithm):
    """An algorithm that finds one architecture for one limit at a time."""

    def __init__(self, archive: Archive, config: SearchConfig, rng: random.Random) -> None:
        super().__init__(archive, config, rng)
        self.breeder = Breeder(archive, rng, config.mutation_chance)
        self._exhausted: set[Limit] = set()

    @abstractmethod
    def find(self, limit: Limit) -> Child | None:
        """Return a new architecture that keeps a limit; None when none is found."""

    @property
    def dry(self) -> bool:
        return len(self._exhausted) == len(self.archive.limits)

    def turns(self) -> list[Limit]:
        """Return the limits for which something new may be found, in the order of their next turns."""
        limits, order = self.archive.limits, len(self.archive.proposals)
        ordered = [limits[(order + turn) % len(limits)] for turn in range(len(limits))]
        return [limit for limit in ordered if limit not in self._exhausted]

    def propose(self, left: int) -> Proposal | None:
        order = len(self.archive.proposals)
        for limit in self.turns():
            child = self._fastest(limit) or self.find(limit)
            if child:
                return Proposal(child.architecture, order, self._generation(order), child.origin, child.parents)
            self._exhausted.add(limit)
            logger.info("no new architecture under %s was found after %d: its share goes to the others", limit, order)
        return None

    def _fastest(self, limit: Limit) -> Child | None:
        start = self.archive.fastest[limit.device]
        if start in self.archive.proposals or not self.archive.keeps(start, limit):
            return None
        return Child(start, "fastest")

    def _generation(self, order: int) -> int:
        past = order - self.config.initial
        return 0 if past < 0 else 1 + past // _GENERATION

    def told(self, kept: list[Limit]) -> None:
        self._exhausted.difference_update(kept)  # a new parent may have new children

    def latency_changed(self) -> None:
        self._exhausted.clear()
        self.breeder.random_fails.clear()

    def save(self) -> AlgorithmState:
        limits = self.archive.limits
        return AlgorithmState(
            random_fails=tuple(limits.index(limit) for limit in limits if limit in self.breeder.random_fails),
            exhausted=tuple(limits.index(limit) for limit in limits if limit in self._exhausted),
        )

    def load(self, state: AlgorithmState) -> None:
        self.breeder.random_fails = {self.archive.limits[place] for place in state.random_fails}
        self._exhausted = {self.archive.limits[place] for place in state.exhausted}


class RandomSearch(ByTurns):
    """Uniform draws that keep the limit of the turn."""

    def find(self, limit: Limit) -> Child | None:
        return self.breeder.at_random(limit) or self.breeder.near(limit, ())


class AgingEvolution(ByTurns):
    """Children of the winners of small tournaments among the latest, one after another (Real et al., 2019).

    The oldest die, however good: an architecture that was scored well by luck has no children for ever.
    """

    def find(self, limit: Limit) -> Child | None:
        if len(self.archive.proposals) < self.config.initial:
            return self.breeder.at_random(limit) or self.breeder.near(limit, ())
        latest = self.archive.latest(limit, self.config.initial)
        child = self.breeder.child(limit, lambda: self._winner(latest)) if latest else None
        return child or self.breeder.at_random(limit) or self.breeder.near(limit, latest)

    def _winner(self, latest: list[Architecture]) -> Architecture:
        some = self.rng.sample(latest, min(self.config.elite, len(latest)))
        return min(some, key=lambda architecture: self.archive.losses[architecture])

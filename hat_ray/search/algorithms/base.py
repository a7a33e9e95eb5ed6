"""What a search algorithm is, and the base of those that serve one limit at a time.

Life of an algorithm: the engine (`engine/ask_tell.py`) creates it with the problem, its checked options and a seeded
random generator. It calls `ask` for each new architecture and `tell` for each loss that arrived, in any order and with
several architectures asked for and not scored. The archive holds everything that was asked for and scored. An
algorithm keeps only the rest, returns it as `state`, and takes it back by `restore`.

A new algorithm: implement `SearchAlgorithm`, or inherit `RoundRobin` and write `find`. Then name the class in the
recipe (`search.algorithm: my_package:MySearch`), or register it by an entry point of the group `hat_ray.algorithms`.
`tests/contracts/test_algorithms.py` holds what every algorithm must keep.

Decisions of `RoundRobin`
- The limits take turns. A limit for which nothing new is found leaves its turns to the others until a new architecture
  that keeps it is scored.
- Every device's fastest architecture is asked first, the left end of the frontier; then the one that keeps a limit on
  several quantities with the most room, the last resort.
"""

import logging
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from hat_ray.search.algorithms.breeding import Breeder, Child
from hat_ray.search.algorithms.registry import AlgorithmOptions
from hat_ray.search.engine.archive import Archive, Proposal, Scored
from hat_ray.search.limits import Limit
from hat_ray.space.search_space import SearchSpace

logger = logging.getLogger(__name__)

_GENERATION = 100
"""Evaluations that count as one generation where none is waited for: HAT's new ones in each."""

StateT = TypeVar("StateT", bound=BaseModel)


@dataclass(frozen=True)
class SearchProblem:
    """What is searched: a space, and the limits that winners must keep. The archive predicts quantities."""

    space: SearchSpace
    limits: tuple[Limit, ...]


class SearchAlgorithm(Protocol[StateT]):
    """Proposes architectures from what the archive holds."""

    State: ClassVar[type[BaseModel]]
    """The class of `state`: saved as JSON, and checked when it is read."""
    Options: ClassVar[type[AlgorithmOptions]]
    """The class of the settings in `search.algorithm_options`."""

    def __init__(self, problem: SearchProblem, options: AlgorithmOptions, rng: random.Random) -> None:
        """Draw from `rng` alone: the engine saves and restores it."""

    def ask(self, archive: Archive, left: int) -> Proposal | None:
        """Return an architecture that is not in `archive.proposals`; None when there is none now.

        `left` is how many evaluations the search may still spend.
        """

    def tell(self, archive: Archive, scored: Scored) -> None:
        """Learn that an architecture was scored; the archive holds its loss already.

        It may be one that was never asked for: another search scored it.
        """

    def predictions_changed(self, archive: Archive) -> None:
        """Forget conclusions from the old predictors; the archive has new ones."""

    @property
    def exhausted(self) -> bool:
        """Whether nothing new is found for any limit."""

    @property
    def repeats(self) -> int:
        """Evaluations spent on architectures that were known already; 0 unless the algorithm counts them."""

    def state(self) -> StateT:
        """Return the state that neither the archive nor the random generator holds."""

    def restore(self, state: StateT) -> None:
        """Continue from what `state` returned; the archive is filled before the next `ask`."""


class State(BaseModel):
    """Base of the states of hat-ray's own algorithms."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RoundRobinState(State):
    """Limits for which a search was in vain."""

    random_fails: tuple[Limit, ...] = ()
    """Those that random draws hardly ever keep."""
    exhausted: tuple[Limit, ...] = ()
    """Those for which no new architecture was found."""


class RoundRobin(ABC):
    """An algorithm that finds one architecture for one limit at a time."""

    State: ClassVar[type[BaseModel]] = RoundRobinState
    Options: ClassVar[type[AlgorithmOptions]] = AlgorithmOptions

    def __init__(self, problem: SearchProblem, options: AlgorithmOptions, rng: random.Random) -> None:
        self.problem, self.rng = problem, rng
        self.population = options.population
        self.breeder = Breeder(problem.space, rng)
        self._exhausted: set[Limit] = set()

    @abstractmethod
    def find(self, archive: Archive, limit: Limit) -> Child | None:
        """Return a new architecture that keeps a limit; None when none is found."""

    @property
    def exhausted(self) -> bool:
        return len(self._exhausted) == len(self.problem.limits)

    @property
    def repeats(self) -> int:
        return 0

    def turns(self, archive: Archive) -> list[Limit]:
        """Return the limits for which something new may be found, in the order of their next turns."""
        limits, order = self.problem.limits, len(archive.proposals)
        ordered = [limits[(order + turn) % len(limits)] for turn in range(len(limits))]
        return [limit for limit in ordered if limit not in self._exhausted]

    def ask(self, archive: Archive, left: int) -> Proposal | None:
        order = len(archive.proposals)
        for limit in self.turns(archive):
            child = _first(archive, limit) or self.find(archive, limit)
            if child:
                return Proposal(child.architecture, child.origin, self._generation(order), child.parents)
            self._exhausted.add(limit)
            logger.info(
                "no new architecture under %s after %d proposals: the other limits share its turns", limit, order
            )
        return None

    def _generation(self, order: int) -> int:
        past = order - self.population
        return 0 if past < 0 else 1 + past // _GENERATION

    def tell(self, archive: Archive, scored: Scored) -> None:
        self._exhausted.difference_update(scored.kept)  # a new parent may have new children

    def predictions_changed(self, archive: Archive) -> None:
        self._exhausted.clear()
        self.breeder.random_fails.clear()

    def state(self) -> RoundRobinState:
        return RoundRobinState(
            random_fails=tuple(limit for limit in self.problem.limits if limit in self.breeder.random_fails),
            exhausted=tuple(limit for limit in self.problem.limits if limit in self._exhausted),
        )

    def restore(self, state: RoundRobinState) -> None:
        self.breeder.random_fails = set(state.random_fails)
        self._exhausted = set(state.exhausted)


def _first(archive: Archive, limit: Limit) -> Child | None:
    for origin, start in (("fastest", archive.fastest[limit.device]), ("surest", archive.surest[limit])):
        if start not in archive.proposals and archive.keeps(start, limit):
            return Child(start, origin)
    return None

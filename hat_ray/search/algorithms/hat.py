"""HAT's evolution, exact, for comparison (HAT, section 3.2 and its published settings).

HAT: 125 genes a generation, 25 parents, 50 mutations with probability 0.3, 50 cross-overs. Parents are evaluated again
in the next generation, genes of layers past the depth are carried along, and the same network may stand in a
generation several times: all of that counts as evaluations here too, so that 3,750 of them are HAT's 3,750.

Differs from HAT: a scored network is not scored again, only counted; draws that keep the limit are bounded; for several
limits there is one population each, whose generations take turns.
"""

import random
from collections.abc import Callable
from typing import ClassVar

from pydantic import BaseModel, NonNegativeInt

from hat_ray.search.algorithms.base import SearchProblem, State
from hat_ray.search.algorithms.registry import AlgorithmOptions, HatOptions
from hat_ray.search.engine.archive import Archive, Proposal, Scored
from hat_ray.search.limits import Limit
from hat_ray.space.genes import GeneCode

_DRAWS = 2000
"""Most draws for one gene that keeps its limit."""

_Row = list[int]
_Draw = Callable[[], _Row]


class HatState(State):
    """The generation under way."""

    populations: tuple[tuple[tuple[int, ...], ...], ...]
    """By limit, the genes of each member."""
    generation: int
    next: NonNegativeInt
    repeats: NonNegativeInt


class HatEvolution:
    """Generations of genes; each is waited for before the next is bred."""

    State: ClassVar[type[BaseModel]] = HatState
    Options: ClassVar[type[AlgorithmOptions]] = HatOptions

    def __init__(self, problem: SearchProblem, options: AlgorithmOptions, rng: random.Random) -> None:
        assert isinstance(options, HatOptions)
        self._limits, self._options, self._rng = problem.limits, options, rng
        self._mutations = (options.population - options.parents) // 2
        """Children by mutation in a generation: half of the new ones (HAT: 50)."""
        self._crossovers = options.population - options.parents - self._mutations
        self._code = GeneCode(problem.space)
        self._populations: list[list[_Row]] = [[] for _ in problem.limits]
        self._generation = -1
        self._next = 0
        """Place in the population under way of the next gene to be evaluated."""
        self._repeats = 0

    @property
    def repeats(self) -> int:
        return self._repeats

    @property
    def exhausted(self) -> bool:
        return False

    @property
    def _turn(self) -> int:
        return max(self._generation, 0) % len(self._limits)

    def ask(self, archive: Archive, left: int) -> Proposal | None:
        """Return the next gene's network that is not known; None while a generation is waited for or at the end."""
        for _ in range(left):
            if self._generation < 0 or self._next == len(self._populations[self._turn]):
                if len(archive.losses) < len(archive.proposals):
                    return None
                self._breed(archive)
            architecture = self._code.decode(self._populations[self._turn][self._next])
            self._next += 1
            if architecture not in archive.proposals:
                origin = "random" if self._generation < len(self._limits) else self._origin()
                return Proposal(architecture, origin, self._generation // len(self._limits))
            self._repeats += 1
        return None

    def _origin(self) -> str:
        return "mutation" if self._next <= self._options.parents + self._mutations else "crossover"

    def _breed(self, archive: Archive) -> None:
        """Make the next generation, of the limit whose turn it is."""
        self._generation += 1
        self._next = 0
        limit, population = self._limits[self._turn], self._populations[self._turn]
        surest = self._code.encode([archive.surest[limit]])[0].tolist()
        first = not population
        parents = sorted(population, key=lambda row: archive.losses[self._code.decode(row)])[: self._options.parents]
        ways: list[tuple[int, _Draw]] = [
            (self._options.population if first else 0, lambda: self._code.random_row(self._rng)),
            (0 if first else self._mutations, lambda: self._mutant(parents)),
            (0 if first else self._crossovers, lambda: self._cross(parents)),
        ]
        children = [self._within(archive, limit, draw, surest) for count, draw in ways for _ in range(count)]
        self._populations[self._turn] = parents + children

    def _mutant(self, parents: list[_Row]) -> _Row:
        fresh, probability = self._code.random_row(self._rng), self._options.mutation_probability
        parent = self._rng.choice(parents)
        return [new if self._rng.random() < probability else old for new, old in zip(fresh, parent, strict=True)]

    def _cross(self, parents: list[_Row]) -> _Row:
        first, second = self._rng.sample(parents, 2)
        return [a if self._rng.random() < 0.5 else b for a, b in zip(first, second, strict=True)]

    def _within(self, archive: Archive, limit: Limit, draw: _Draw, otherwise: _Row) -> _Row:
        for _ in range(_DRAWS):
            row = draw()
            if archive.keeping([self._code.decode(row)], limit)[0]:
                return row
        return otherwise

    def tell(self, archive: Archive, scored: Scored) -> None:
        """Nothing is learned before the whole generation is scored."""

    def predictions_changed(self, archive: Archive) -> None:
        """The generation under way stays as it was bred."""

    def state(self) -> HatState:
        return HatState(
            populations=tuple(tuple(map(tuple, population)) for population in self._populations),
            generation=self._generation,
            next=self._next,
            repeats=self._repeats,
        )

    def restore(self, state: HatState) -> None:
        self._populations = [[list(row) for row in population] for population in state.populations]
        self._generation, self._next, self._repeats = state.generation, state.next, state.repeats

"""HAT's evolution, exact, for comparison (HAT, section 3.2 and its published settings).

HAT: 125 genes a generation, 25 parents, 50 mutations with probability 0.3, 50 cross-overs. Parents are evaluated again
in the next generation, genes of layers past the depth are carried along, and the same network may stand in a
generation several times: all of that counts as evaluations here too, so that 3,750 of them are HAT's 3,750.

Differs from HAT: what was scored is not scored again, only counted; draws that keep the limit are bounded; for several
limits there are as many populations, whose generations take turns.
"""

import random
from collections.abc import Callable

from hat_ray.search.algorithms.base import Algorithm
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.archive import Archive, Proposal
from hat_ray.search.engine.state import AlgorithmState, HatState
from hat_ray.search.limits import Limit
from hat_ray.space.genes import GeneCode

_DRAWS = 2000
"""Most draws for one gene that keeps its limit."""

_Row = list[int]
_Draw = Callable[[], _Row]


class HatEvolution(Algorithm):
    """Generations of genes; each is waited for before the next is bred."""

    def __init__(self, archive: Archive, config: SearchConfig, rng: random.Random) -> None:
        super().__init__(archive, config, rng)
        self._code = GeneCode(archive.space)
        self._populations: list[list[_Row]] = [[] for _ in archive.limits]
        self._generation = -1
        self._next = 0
        """Place in the population under way of the next gene to be evaluated."""
        self._spent = 0

    @property
    def spent(self) -> int:
        told = sum(proposal.origin == "told" for proposal in self.archive.proposals.values())
        return told + self._spent

    @property
    def dry(self) -> bool:
        return False

    @property
    def _turn(self) -> int:
        return max(self._generation, 0) % len(self.archive.limits)

    def propose(self, left: int) -> Proposal | None:
        """Return the next gene's network that is not known; None while a generation is waited for or at the end."""
        for _ in range(left):
            if self._generation < 0 or self._next == len(self._populations[self._turn]):
                if len(self.archive.losses) < len(self.archive.proposals):
                    return None
                self._breed()
            architecture = self._code.decode(self._populations[self._turn][self._next])
            self._next += 1
            self._spent += 1
            if architecture not in self.archive.proposals:
                origin = "random" if self._generation < len(self.archive.limits) else self._origin()
                generation = self._generation // len(self.archive.limits)
                return Proposal(architecture, len(self.archive.proposals), generation, origin)
        return None

    def _origin(self) -> str:
        return "mutation" if self._next <= self.config.elite + self.config.hat_mutations else "crossover"

    def _breed(self) -> None:
        """Make the next generation, of the limit whose turn it is."""
        self._generation += 1
        self._next = 0
        limit, population = self.archive.limits[self._turn], self._populations[self._turn]
        fastest = self._code.encode([self.archive.fastest[limit.device]])[0].tolist()
        first = not population
        parents = sorted(population, key=self._loss)[: self.config.elite]
        ways: list[tuple[int, _Draw]] = [
            (self.config.initial if first else 0, lambda: self._code.random_row(self.rng)),
            (0 if first else self.config.hat_mutations, lambda: self._mutant(parents)),
            (0 if first else self.config.hat_crossovers, lambda: self._cross(parents)),
        ]
        children = [self._within(limit, draw, fastest) for count, draw in ways for _ in range(count)]
        self._populations[self._turn] = parents + children

    def _mutant(self, parents: list[_Row]) -> _Row:
        fresh, chance = self._code.random_row(self.rng), self.config.mutation_chance
        parent = self.rng.choice(parents)
        return [new if self.rng.random() < chance else old for new, old in zip(fresh, parent, strict=True)]

    def _cross(self, parents: list[_Row]) -> _Row:
        first, second = self.rng.sample(parents, 2)
        return [a if self.rng.random() < 0.5 else b for a, b in zip(first, second, strict=True)]

    def _loss(self, row: _Row) -> float:
        return self.archive.losses[self._code.decode(row)]

    def _within(self, limit: Limit, draw: _Draw, otherwise: _Row) -> _Row:
        for _ in range(_DRAWS):
            row = draw()
            if self.archive.latencies_of([self._code.decode(row)])[limit.device][0] <= limit.ms:
                return row
        return otherwise

    def told(self, kept: list[Limit]) -> None:
        pass

    def latency_changed(self) -> None:
        pass

    def save(self) -> AlgorithmState:
        return AlgorithmState(
            hat=HatState(
                populations=tuple(tuple(map(tuple, population)) for population in self._populations),
                generation=self._generation,
                next=self._next,
                spent=self._spent,
            )
        )

    def load(self, state: AlgorithmState) -> None:
        assert state.hat is not None
        self._populations = [[list(row) for row in population] for population in state.hat.populations]
        self._generation, self._next, self._spent = state.hat.generation, state.hat.next, state.hat.spent

"""Evolution as ask and tell: plain Python, seeded, for several devices and limits at once (HAT, section 3.2).

Life of an architecture: `ask` proposes it, somebody scores it, `tell` brings its loss; in any order and any number at
a time. When its scorer is lost, `retry` makes a later `ask` return it again. `state` at any moment, given to
`load_state` of a new Evolution, continues as if nothing had happened.

Decisions
- Differs from HAT: a loss does not depend on the device. So there is one archive of scored architectures; each limit
  breeds from the best of the *whole* archive that keep it, and the limits take turns.
- Differs from HAT: no architecture is ever proposed twice (in HAT 19 % of the evaluations are parents again, and half
  of the rest are known networks under other genes), and no generation is waited for unless `generation_barrier`.
- Differs from HAT: fewer random ones, fewer parents and gentler mutations by default. On HAT's three published problems
  the mean best after 500 evaluations is then near that of HAT's 3,750 (`tests/benchmarks/bench_search_replay.py`).
- Differs from HAT: every search for a child is bounded. Where random draws cannot keep a tight limit, children of the
  fastest architecture do.
"""

import logging
import math
import random
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hat_ray.errors import SearchError
from hat_ray.search.config import SearchConfig
from hat_ray.search.limits import LatencyFunction, Limit, fastest, require_reachable
from hat_ray.search.state import EvolutionState, SavedProposal, pack_loss, pack_random, unpack_loss
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace

logger = logging.getLogger(__name__)

_POOLS = (8, 24, 64)
"""Children drawn and predicted together, one pool after another until a new one keeps the limit."""
_RANDOM_POOLS = (16, 128, 1024)
_SMALL_STEPS = (0.3, 0.1, 0.03)
"""Mutation probabilities for leaving the fastest architecture when nothing else keeps the limit."""


@dataclass(frozen=True)
class Proposal:
    """An architecture that was asked for, and where it came from."""

    architecture: Architecture
    order: int
    generation: int
    """0 for random ones; then what HAT would count, by order and not by waiting."""
    origin: str
    """`fastest`, `random`, `mutation`, `crossover`, or `told` when it came from outside."""
    parents: tuple[str, ...] = ()
    """Ids of the architectures that it was bred from."""


_Draw = Callable[[], tuple[Architecture, tuple[str, ...]]]


class Evolution:
    """The state of one search: what was proposed, what it scored, and who may have children."""

    def __init__(
        self,
        space: SearchSpace,
        latency_ms: Mapping[str, LatencyFunction],
        limits: Sequence[Limit],
        config: SearchConfig,
        seed: int,
    ) -> None:
        if not limits:
            raise SearchError("a search needs at least one limit, got none: set search.limits_ms")
        self.space, self.limits, self.config = space, tuple(limits), config
        self.budget = config.evaluations
        """How many architectures may be known in all. The session raises it by what it tells from earlier runs, and
        lowers it to what is asked for already when a stop rule holds."""
        self._latency_ms = dict(latency_ms)
        self._rng = random.Random(seed)
        self._fastest = self._require_reachable()
        self._proposals: dict[Architecture, Proposal] = {}
        self._losses: dict[Architecture, float] = {}
        self._times: dict[Architecture, dict[str, float]] = {}
        self._again: list[Architecture] = []
        self._ranked: dict[Limit, list[tuple[float, int, Architecture]]] = {limit: [] for limit in self.limits}
        self._random_fails: set[Limit] = set()
        self._exhausted: set[Limit] = set()

    def _require_reachable(self) -> dict[str, Architecture]:
        """Return each device's fastest architecture; raise SearchError when it does not keep the device's limits."""
        found = {device: fastest(self.space, function) for device, function in self._latency_ms.items()}
        for limit in self.limits:
            if limit.device not in found:
                raise SearchError(f"no predictor for {limit.device}; there are some for {', '.join(found)}")
            require_reachable(limit, found[limit.device][1])
        return {device: architecture for device, (architecture, _) in found.items()}

    # what is known

    @property
    def proposals(self) -> list[Proposal]:
        """Everything that was asked for, in order."""
        return list(self._proposals.values())

    @property
    def losses(self) -> Mapping[Architecture, float]:
        """The loss of everything told; infinite where scoring gave no number."""
        return self._losses

    @property
    def pending(self) -> list[Architecture]:
        """What was asked for and not told yet, in order."""
        return [architecture for architecture in self._proposals if architecture not in self._losses]

    @property
    def finished(self) -> bool:
        """Whether everything asked for is told and nothing new can be asked."""
        no_more = len(self._proposals) >= self.budget or len(self._exhausted) == len(self.limits)
        return no_more and len(self._losses) == len(self._proposals)

    def proposal(self, architecture: Architecture) -> Proposal:
        return self._proposals[architecture]

    def latencies_ms(self, architecture: Architecture) -> dict[str, float]:
        """Return the milliseconds of one architecture by device."""
        if architecture not in self._times:
            self._times[architecture] = self._predict([architecture])[0]
        return dict(self._times[architecture])

    def best(self, limit: Limit) -> Architecture | None:
        """Return the scored architecture with the least loss that keeps a limit."""
        ranked = self._ranked[limit]
        return ranked[0][2] if ranked else None

    # ask and tell

    def ask(self, count: int) -> list[Architecture]:
        """Propose up to `count` architectures; fewer or none when `finished` is near or a generation is waited for."""
        asked: list[Architecture] = []
        while len(asked) < count and self._again:
            asked.append(self._again.pop(0))
        while len(asked) < count and len(self._proposals) < self.budget and not self._must_wait():
            proposal = self._propose()
            if proposal is None:
                break
            self._proposals[proposal.architecture] = proposal
            asked.append(proposal.architecture)
        return asked

    def tell(self, architecture: Architecture, loss: float) -> None:
        """Bring the loss of an architecture, also of one that was never asked for; a NaN counts as infinite."""
        if architecture in self._losses:
            raise SearchError(f"an architecture is scored once, {architecture.id} was told again")
        if architecture not in self._proposals:
            order = len(self._proposals)
            self._proposals[architecture] = Proposal(architecture, order, self._generation(order), "told")
        if architecture in self._again:
            self._again.remove(architecture)
        loss = float(loss)
        self._losses[architecture] = loss if math.isfinite(loss) else math.inf
        if math.isfinite(loss):
            self._rank(architecture, loss)

    def retry(self, architecture: Architecture) -> None:
        """Let a later `ask` return an architecture again because its scorer was lost."""
        if architecture in self._losses or architecture not in self._proposals or architecture in self._again:
            raise SearchError(f"only what is asked for and not told can be retried, got {architecture.id}")
        self._again.append(architecture)

    def retry_pending(self) -> None:
        """Let everything that is asked for and not told be asked again: nobody scores it any more."""
        self._again = self.pending

    def _rank(self, architecture: Architecture, loss: float) -> None:
        times = self.latencies_ms(architecture)
        entry = (loss, self._proposals[architecture].order, architecture)
        for limit in self.limits:
            if times[limit.device] <= limit.ms:
                insort(self._ranked[limit], entry)
                self._exhausted.discard(limit)  # a new parent may have new children

    # how the next one is found

    def _generation(self, order: int) -> int:
        past = order - self.config.population
        return 0 if past < 0 else 1 + past // (self.config.mutations + self.config.crossovers)

    def _must_wait(self) -> bool:
        if not self.config.generation_barrier or len(self._losses) == len(self._proposals):
            return False
        order = len(self._proposals)
        return order > 0 and self._generation(order) > self._generation(order - 1)

    def _propose(self) -> Proposal | None:
        order = len(self._proposals)
        for turn in range(len(self.limits)):
            limit = self.limits[(order + turn) % len(self.limits)]
            if limit in self._exhausted:
                continue
            found = self._find(limit, order)
            if found:
                origin, architecture, parents = found
                return Proposal(architecture, order, self._generation(order), origin, parents)
            self._exhausted.add(limit)
            logger.info("no new architecture under %s was found after %d: its share goes to the others", limit, order)
        return None

    def _find(self, limit: Limit, order: int) -> tuple[str, Architecture, tuple[str, ...]] | None:
        start = self._fastest[limit.device]
        if start not in self._proposals:
            return "fastest", start, ()
        parents = [entry[2] for entry in self._ranked[limit][: self.config.parents]]
        ways: list[tuple[str, _Draw]] = []
        if order >= self.config.population and len(parents) >= 2:
            ways += self._breed(parents)
        if limit not in self._random_fails:
            ways.append(("random", lambda: (self.space.sample(self._rng), ())))
        ways += [("mutation", self._mutation([start, *parents], step)) for step in _SMALL_STEPS]
        for origin, draw in ways:
            found = self._first_new_within(limit, draw, _RANDOM_POOLS if origin == "random" else _POOLS)
            if found:
                return origin, *found
            if origin == "random":
                self._random_fails.add(limit)
        return None

    def _breed(self, parents: list[Architecture]) -> list[tuple[str, _Draw]]:
        """Return mutation and cross-over in the order of their turn; the other follows if the first finds nothing."""
        both = [
            ("mutation", self._mutation(parents, self.config.mutation_probability)),
            ("crossover", self._crossover(parents)),
        ]
        shares = [self.config.mutations, self.config.crossovers]
        first = self._rng.choices([0, 1], shares)[0]
        return [way for way, share in zip(both, shares, strict=True) if share][:: -1 if first else 1]

    def _mutation(self, parents: list[Architecture], probability: float) -> _Draw:
        def draw() -> tuple[Architecture, tuple[str, ...]]:
            parent = self._rng.choice(parents)
            return self.space.mutate(parent, self._rng, probability), (parent.id,)

        return draw

    def _crossover(self, parents: list[Architecture]) -> _Draw:
        def draw() -> tuple[Architecture, tuple[str, ...]]:
            first, second = self._rng.sample(parents, 2)
            return self.space.cross_over(first, second, self._rng), (first.id, second.id)

        return draw

    def _first_new_within(
        self, limit: Limit, draw: _Draw, pools: Sequence[int]
    ) -> tuple[Architecture, tuple[str, ...]] | None:
        for size in pools:
            children = [draw() for _ in range(size)]
            new = [child for child in children if child[0] not in self._proposals]
            times = self._predict([architecture for architecture, _ in new])
            for (architecture, parents), of_device in zip(new, times, strict=True):
                if of_device[limit.device] <= limit.ms:
                    self._times[architecture] = of_device  # kept for what is proposed, not for all that is drawn
                    return architecture, parents
        return None

    def _predict(self, architectures: Sequence[Architecture]) -> list[dict[str, float]]:
        """Return each architecture's milliseconds by device, with one call a device."""
        if not architectures:
            return []
        columns = {device: function(architectures).tolist() for device, function in self._latency_ms.items()}
        return [
            {device: float(column[place]) for device, column in columns.items()} for place in range(len(architectures))
        ]

    # saved and restored

    def state(self) -> EvolutionState:
        """Return everything that is not an argument of the constructor."""
        orders = {architecture: proposal.order for architecture, proposal in self._proposals.items()}
        return EvolutionState(
            random_state=pack_random(self._rng),
            proposals=tuple(
                SavedProposal(
                    architecture=p.architecture.to_dict(), generation=p.generation, origin=p.origin, parents=p.parents
                )
                for p in self._proposals.values()
            ),
            losses=tuple((orders[architecture], pack_loss(loss)) for architecture, loss in self._losses.items()),
            again=tuple(orders[architecture] for architecture in self._again),
            random_fails=tuple(map(self.limits.index, sorted(self._random_fails))),
            exhausted=tuple(map(self.limits.index, sorted(self._exhausted))),
        )

    def load_state(self, state: EvolutionState) -> None:
        """Continue from what `state` returned; only on a new Evolution with the same arguments."""
        if self._proposals:
            raise SearchError("a search state can only be loaded before the first architecture is asked for")
        asked = [Architecture.from_dict(saved.architecture) for saved in state.proposals]
        for order, (architecture, saved) in enumerate(zip(asked, state.proposals, strict=True)):
            proposal = Proposal(architecture, order, saved.generation, saved.origin, saved.parents)
            self._proposals[architecture] = proposal
        for architecture, times in zip(asked, self._predict(asked), strict=True):
            self._times[architecture] = times
        for order, loss in state.losses:
            self.tell(asked[order], unpack_loss(loss))
        self._again = [asked[order] for order in state.again]
        self._random_fails = {self.limits[place] for place in state.random_fails}
        self._exhausted = {self.limits[place] for place in state.exhausted}
        self._rng.setstate(state.random_state)

"""The search as ask and tell: plain Python, seeded, for several devices and limits at once (HAT, section 3.2).

Life of an architecture: `ask` proposes it, somebody scores it, `tell` brings its loss; in any order and any number at
a time. When its scorer is lost, `retry` makes a later `ask` return it again. `state` at any moment, given to
`load_state` of a new Evolution, continues as if nothing had happened.

Decisions
- Differs from HAT: a loss does not depend on the device. So there is one archive of scored architectures, and every
  algorithm proposes for each limit from the *whole* archive; the limits take turns.
- Differs from HAT: no architecture is ever scored twice (in HAT 19 % of the evaluations are parents again, and half of
  the rest are known networks under other genes), and only `hat` waits for generations.
- Differs from HAT: every search for a child is bounded.
- How the next one is found is `search.algorithm`'s: see `surrogate_search.py`, `algorithms.py` and `hat.py`.
"""

import random
from collections.abc import Mapping, Sequence

from hat_ray.core.determinism import one_blas_thread
from hat_ray.errors import SearchError
from hat_ray.search.algorithms.base import AgingEvolution, Algorithm, RandomSearch
from hat_ray.search.algorithms.hat import HatEvolution
from hat_ray.search.algorithms.surrogate.algorithm import SurrogateSearch
from hat_ray.search.config import AlgorithmName, SearchConfig
from hat_ray.search.engine.archive import Archive, Proposal
from hat_ray.search.engine.state import EvolutionState, SavedProposal, pack_loss, pack_random, unpack_loss
from hat_ray.search.limits import LatencyFunction, Limit
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace

__all__ = ["Evolution", "Proposal"]

_ALGORITHMS: Mapping[AlgorithmName, type[Algorithm]] = {
    "surrogate": SurrogateSearch,
    "aging": AgingEvolution,
    "random": RandomSearch,
    "hat": HatEvolution,
}


class Evolution:
    """The state of one search: what was proposed, what it scored, and what is proposed next."""

    def __init__(
        self,
        space: SearchSpace,
        latency_ms: Mapping[str, LatencyFunction],
        limits: Sequence[Limit],
        config: SearchConfig,
        seed: int,
    ) -> None:
        self.space, self.limits, self.config = space, tuple(limits), config
        self._archive = Archive(space, latency_ms, limits)
        self._rng = random.Random(seed)
        self._algorithm = _ALGORITHMS[config.algorithm](self._archive, config, self._rng)
        self._again: list[Architecture] = []
        self.budget = config.evaluations
        """Evaluations in all, those told from outside included; it may be changed at any time."""

    # what is known

    @property
    def proposals(self) -> list[Proposal]:
        """Everything that was asked for or told, in order."""
        return list(self._archive.proposals.values())

    @property
    def losses(self) -> Mapping[Architecture, float]:
        """The loss of everything told, in the order of telling; infinite where scoring gave no number."""
        return self._archive.losses

    @property
    def num_estimated(self) -> int:
        """How many of the losses are estimates."""
        return len(self._archive.estimated)

    @property
    def pending(self) -> list[Architecture]:
        """What was asked for and not told yet, in order."""
        return [architecture for architecture in self._archive.proposals if architecture not in self.losses]

    @property
    def spent(self) -> int:
        """Evaluations that are used up of `budget`: all that was proposed; `hat` counts known networks again."""
        return self._algorithm.spent

    @property
    def done(self) -> int:
        """Evaluations that are over: `spent` without those that nobody has told yet."""
        return self.spent - (len(self._archive.proposals) - len(self.losses))

    @property
    def finished(self) -> bool:
        """Whether everything asked for is told and nothing new can be asked."""
        no_more = self.spent >= self.budget or self._algorithm.dry
        return no_more and len(self.losses) == len(self._archive.proposals)

    def proposal(self, architecture: Architecture) -> Proposal:
        return self._archive.proposals[architecture]

    def latencies_ms(self, architecture: Architecture) -> dict[str, float]:
        """Return the milliseconds of one architecture by device."""
        return dict(self._archive.times(architecture))

    def best(self, limit: Limit) -> Architecture | None:
        """Return the scored architecture with the least loss that keeps a limit."""
        best = self._archive.best(limit, 1)
        return best[0] if best else None

    # ask and tell

    @one_blas_thread()
    def ask(self, count: int) -> list[Architecture]:
        """Propose up to `count` architectures; fewer or none when `finished` is near or a generation is waited for."""
        asked: list[Architecture] = []
        while len(asked) < count and self._again:
            asked.append(self._again.pop(0))
        while len(asked) < count and (left := self.budget - self.spent) > 0:
            proposal = self._algorithm.propose(left)
            if proposal is None:
                break
            self._archive.proposals[proposal.architecture] = proposal
            asked.append(proposal.architecture)
        return asked

    @one_blas_thread()
    def tell(self, architecture: Architecture, loss: float, *, estimated: bool = False) -> None:
        """Bring the loss of an architecture, also of one that was never asked for; a NaN counts as infinite.

        An estimated loss is learned from, but its architecture is never `best` and on no frontier.

        What another search has scored, told at any time, is learned from like the rest: so a search starts warm. Raises
        SearchError when it was told before, SpaceError when it lies outside the space.
        """
        if architecture in self.losses:
            raise SearchError(f"an architecture is scored once, {architecture.id} was told again")
        if architecture not in self._archive.proposals:
            self.space.require(architecture)
            self._archive.proposals[architecture] = Proposal(architecture, len(self._archive.proposals), 0, "told")
        if architecture in self._again:
            self._again.remove(architecture)
        self._algorithm.told(self._archive.told(architecture, float(loss), estimated=estimated))

    def retry(self, architecture: Architecture) -> None:
        """Let a later `ask` return an architecture again because its scorer was lost."""
        if architecture in self.losses or architecture not in self._archive.proposals or architecture in self._again:
            raise SearchError(f"only what is asked for and not told can be retried, got {architecture.id}")
        self._again.append(architecture)

    def retry_pending(self) -> None:
        """Let everything that is asked for and not told be asked again: nobody scores it any more."""
        self._again = self.pending

    @one_blas_thread()
    def update_latency(self, latency_ms: Mapping[str, LatencyFunction]) -> None:
        """Go on with refitted predictors of the same devices: everything known is predicted and ranked anew.

        A limit that nothing keeps any more has no `best` until something is found that does.
        """
        self._archive.update_latency(latency_ms)
        self._algorithm.latency_changed()

    # saved and restored

    def state(self) -> EvolutionState:
        """Return everything that is not an argument of the constructor."""
        orders = {architecture: proposal.order for architecture, proposal in self._archive.proposals.items()}
        return EvolutionState(
            random_state=pack_random(self._rng),
            proposals=tuple(
                SavedProposal(
                    architecture=p.architecture.to_dict(), generation=p.generation, origin=p.origin, parents=p.parents
                )
                for p in self._archive.proposals.values()
            ),
            losses=tuple((orders[architecture], pack_loss(loss)) for architecture, loss in self.losses.items()),
            estimated=tuple(sorted(orders[architecture] for architecture in self._archive.estimated)),
            again=tuple(orders[architecture] for architecture in self._again),
            algorithm=self._algorithm.save(),
        )

    @one_blas_thread()
    def load_state(self, state: EvolutionState) -> None:
        """Continue from what `state` returned; only on a new Evolution with the same arguments.

        After `update_latency` the new Evolution takes the latency functions that were in force when it was saved.
        """
        if self._archive.proposals:
            raise SearchError("a search state can only be loaded before the first architecture is asked for")
        asked = [Architecture.from_dict(saved.architecture) for saved in state.proposals]
        for order, (architecture, saved) in enumerate(zip(asked, state.proposals, strict=True)):
            proposal = Proposal(architecture, order, saved.generation, saved.origin, saved.parents)
            self._archive.proposals[architecture] = proposal
        self._archive.remember(asked)
        estimated = set(state.estimated)
        for order, loss in state.losses:
            self.tell(asked[order], unpack_loss(loss), estimated=order in estimated)
        self._again = [asked[order] for order in state.again]
        self._algorithm.load(state.algorithm)
        self._rng.setstate(state.random_state)

"""The search as ask and tell: plain Python, seeded, for several devices and limits at once (HAT, section 3.2).

Life of an architecture: `ask` proposes it, a scorer scores it, `tell` records its loss; in any order and any number at
a time. When its scorer is lost, `retry` makes a later `ask` return it again. `state` at any moment, given to
`load_state` of a new Evolution, continues as if nothing had happened.

Decisions
- Differs from HAT: a loss does not depend on the device. So there is one archive of scored architectures, and every
  algorithm proposes for each limit from the *whole* archive; the limits take turns.
- Differs from HAT: no architecture is ever scored twice (in HAT 19 % of the evaluations are parents again, and half of
  the rest are known networks under other genes), and only `hat` waits for generations.
- Differs from HAT: every search for a child is bounded.
- `search.algorithm` decides which architecture is proposed next: see `algorithms/base.py`.
"""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from hat_ray.core.determinism import one_blas_thread
from hat_ray.errors import PluginError, SearchError
from hat_ray.search.algorithms.base import SearchAlgorithm, SearchProblem
from hat_ray.search.algorithms.registry import ALGORITHMS, options_of
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.archive import Archive, Proposal, Values
from hat_ray.search.limits import Limit, Predictions
from hat_ray.search.rivals.families import hand_scaled
from hat_ray.search.selection import HandScaled
from hat_ray.space.architecture import Architecture
from hat_ray.space.json_field import ArchitectureField
from hat_ray.space.search_space import SearchSpace

__all__ = ["Evolution", "EvolutionState", "Proposal"]

StateT = TypeVar("StateT", bound=BaseModel)
_SLOWEST = 2
"""Members of a family scaled by hand that are proposed for a limit."""


class SavedProposal(BaseModel):
    """A proposal; its place in the list is its order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: ArchitectureField
    generation: int
    origin: str
    parents: tuple[str, ...]


class EvolutionState(BaseModel, Generic[StateT]):
    """Everything of an `Evolution` that is not an argument of its constructor."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    random_state: tuple[int, tuple[int, ...], float | None]
    proposals: tuple[SavedProposal, ...]
    losses: tuple[tuple[NonNegativeInt, float | None], ...]
    """Order of a proposal and its loss, in the order of arrival; None where scoring gave no number."""
    estimated: tuple[NonNegativeInt, ...]
    """Orders of the proposals whose loss is an estimate."""
    again: tuple[NonNegativeInt, ...]
    """Orders of the proposals that the next `ask` returns again."""
    algorithm: StateT


class Evolution:
    """One search: its archive, and the algorithm that proposes the next architecture."""

    def __init__(
        self,
        space: SearchSpace,
        predictions: Predictions,
        limits: Sequence[Limit],
        config: SearchConfig,
        seed: int,
    ) -> None:
        self.space, self.limits, self.config = space, tuple(limits), config
        self._archive = Archive(space, predictions, limits)
        self._rng = random.Random(seed)
        self.options = options_of(config.algorithm, config.algorithm_options)
        problem = SearchProblem(space, self.limits)
        self._algorithm: SearchAlgorithm[Any] = ALGORITHMS.load(config.algorithm)(problem, self.options, self._rng)
        self._again: list[Architecture] = []
        self.budget = config.evaluations
        """Evaluations in all, external ones included; it may be changed at any time."""
        self._by_hand: list[Proposal] | None = None
        """Members of the families in `search.hand_scaled` that are asked for first; None: not chosen yet."""

    # read

    @property
    def proposals(self) -> list[Proposal]:
        """Every proposal, external ones included, in order."""
        return list(self._archive.proposals.values())

    @property
    def losses(self) -> Mapping[Architecture, float]:
        """The losses by architecture, in the order of arrival; infinite where scoring gave no number."""
        return self._archive.losses

    @property
    def num_estimated(self) -> int:
        """The number of losses that are estimates."""
        return len(self._archive.estimated)

    @property
    def pending(self) -> list[Architecture]:
        """Architectures that were asked for and are not scored yet, in order."""
        return [architecture for architecture in self._archive.proposals if architecture not in self.losses]

    @property
    def spent(self) -> int:
        """Evaluations of `budget` that are used up: every proposal; `hat` counts known networks again."""
        return len(self._archive.proposals) + self._algorithm.repeats

    @property
    def done(self) -> int:
        """Evaluations that are over: `spent` without the architectures that are not scored yet."""
        return self.spent - (len(self._archive.proposals) - len(self.losses))

    @property
    def finished(self) -> bool:
        """Whether every proposal is scored and nothing new can be asked for."""
        no_more = self.spent >= self.budget or self._algorithm.exhausted
        return no_more and len(self.losses) == len(self._archive.proposals)

    def proposal(self, architecture: Architecture) -> Proposal:
        return self._archive.proposals[architecture]

    def latencies_ms(self, architecture: Architecture) -> dict[str, float]:
        """Return the milliseconds of one architecture by device."""
        return self._archive.times(architecture)

    def values(self, architecture: Architecture) -> dict[str, Values]:
        """Return the quantities of one architecture by device."""
        return dict(self._archive.values(architecture))

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
            proposal = self._next_by_hand() or self._algorithm.ask(self._archive, left)
            if proposal is None:
                break
            self._require_new(proposal)
            self._archive.propose(proposal)
            asked.append(proposal.architecture)
        return asked

    def _next_by_hand(self) -> Proposal | None:
        """Return the next model scaled by hand that was not proposed yet."""
        if self._by_hand is None:
            self._by_hand = scaled_proposals(self._archive, self.config.hand_scaled)
        while self._by_hand and self._by_hand[0].architecture in self._archive.proposals:
            self._by_hand.pop(0)
        return self._by_hand[0] if self._by_hand else None

    def _require_new(self, proposal: Proposal) -> None:
        """Refuse what breaks an algorithm's contract: the algorithm may be a user's own."""
        if proposal.architecture in self._archive.proposals:
            raise PluginError(
                f"an algorithm proposes an architecture once, search.algorithm {self.config.algorithm} proposed "
                f"{proposal.architecture.id} again: mend its ask()"
            )
        self.space.require(proposal.architecture)

    @one_blas_thread()
    def tell(self, architecture: Architecture, loss: float, *, estimated: bool = False) -> None:
        """Record the loss of an architecture, also of one that was never asked for; a NaN counts as infinite.

        An estimated loss is learned from, but its architecture is never `best` and on no frontier.

        An architecture that another search scored is external: it is learned from like the rest, so a search starts
        warm. Raises SearchError when it was scored before, SpaceError when it lies outside the space.
        """
        if architecture in self.losses:
            raise SearchError(f"an architecture is scored once, {architecture.id} was scored again")
        if architecture not in self._archive.proposals:
            self.space.require(architecture)
            self._archive.propose(Proposal(architecture, "external"))
        if architecture in self._again:
            self._again.remove(architecture)
        self._algorithm.tell(self._archive, self._archive.record(architecture, float(loss), estimated=estimated))

    def retry(self, architecture: Architecture) -> None:
        """Let a later `ask` return an architecture again because its scorer was lost."""
        if architecture in self.losses or architecture not in self._archive.proposals or architecture in self._again:
            raise SearchError(
                f"only an architecture that is asked for and not scored can be retried, got {architecture.id}"
            )
        self._again.append(architecture)

    def retry_pending(self) -> None:
        """Let a later `ask` return every pending architecture again: nobody scores it any more."""
        self._again = self.pending

    @one_blas_thread()
    def update_predictions(self, predictions: Predictions) -> None:
        """Continue with refitted predictors of the same devices: predict and rank every architecture again.

        A limit that nothing keeps any more has no `best` until something is found that does.
        """
        self._archive.update_predictions(predictions)
        self._by_hand = None
        self._algorithm.predictions_changed(self._archive)

    # save and restore

    @property
    def state_type(self) -> type[EvolutionState[Any]]:
        """The class of `state`, with the algorithm's own part."""
        return EvolutionState.__class_getitem__(self._algorithm.State)  # type: ignore[return-value]

    def state(self) -> EvolutionState[Any]:
        """Return everything that is not an argument of the constructor."""
        orders = {architecture: proposal.order for architecture, proposal in self._archive.proposals.items()}
        return self.state_type(
            random_state=_random_state(self._rng),
            proposals=tuple(
                SavedProposal(architecture=p.architecture, generation=p.generation, origin=p.origin, parents=p.parents)
                for p in self._archive.proposals.values()
            ),
            losses=tuple(
                (orders[architecture], loss if math.isfinite(loss) else None)
                for architecture, loss in self.losses.items()
            ),
            estimated=tuple(sorted(orders[architecture] for architecture in self._archive.estimated)),
            again=tuple(orders[architecture] for architecture in self._again),
            algorithm=self._algorithm.state(),
        )

    @one_blas_thread()
    def load_state(self, state: EvolutionState[Any]) -> None:
        """Continue from what `state` returned; only on a new Evolution with the same arguments.

        After `update_predictions` the new Evolution must have the predictors that were in force when it was saved.
        """
        if self._archive.proposals:
            raise SearchError("a search state can only be loaded before the first architecture is asked for")
        asked = [saved.architecture for saved in state.proposals]
        for saved in state.proposals:
            self._archive.propose(Proposal(saved.architecture, saved.origin, saved.generation, saved.parents))
        self._archive.remember(asked)
        estimated = set(state.estimated)
        for order, loss in state.losses:
            self.tell(asked[order], math.inf if loss is None else loss, estimated=order in estimated)
        self._again = [asked[order] for order in state.again]
        self._algorithm.restore(state.algorithm)
        self._rng.setstate(state.random_state)


def _random_state(rng: random.Random) -> tuple[int, tuple[int, ...], float | None]:
    version, internal, gauss = rng.getstate()
    return version, tuple(internal), gauss


def scaled_proposals(archive: Archive, kinds: Sequence[HandScaled]) -> list[Proposal]:
    """Return of each family, for each limit, the slowest members inside the space that are predicted to keep it.

    There are two: when it is timed, the slowest may miss its limit.
    """
    proposals: dict[Architecture, Proposal] = {}
    for kind in kinds:
        members = hand_scaled(archive.space, kind, inside=True)
        predicted = archive.predict(members, archive.limited)
        for limit in archive.limits if members else ():
            kept = limit.keeps(predicted[limit.device])
            for one in [one for one, good in zip(members, kept, strict=True) if good][:_SLOWEST]:
                proposals.setdefault(one, Proposal(one, kind))
    return list(proposals.values())

"""hat-ray's own search: a model of the loss picks from thousands of cheap children, for several devices and limits.

It begins with random architectures, then makes plans (`planner.py`) for the next few turns of the limits, and makes a
new one when enough losses came. Every loss serves every limit: the model knows no device.

Decisions
- One in eight proposals is a plain child of the best: where the model is wrong, the search is still an evolution. Later
  they are fewer, since a model of more losses is more often right: their share falls with the root of the proposals.
- A plan is a handful of architectures, so that a saved search continues from the plan that it had.
"""

import math
import random
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, NonNegativeInt

from hat_ray.search.algorithms.base import RoundRobin, RoundRobinState, SearchProblem, State
from hat_ray.search.algorithms.breeding import Child
from hat_ray.search.algorithms.registry import AlgorithmOptions, SurrogateOptions
from hat_ray.search.algorithms.surrogate.model import Scales
from hat_ray.search.algorithms.surrogate.planner import Planner
from hat_ray.search.engine.archive import Archive
from hat_ray.search.limits import Limit
from hat_ray.space.json_field import ArchitectureField

_PLAIN, _PLAIN_UNTIL = 1 / 8, 80
"""Share of plain children, and the number of proposals from which on it falls."""
_LEAST_SCORED = 8
"""Losses without which nothing is modelled."""
_PLAN_LEAST = 4
_PLAN_SHARE = 0.02
_PLAN_MOST = 200
"""A plan serves until this share of all losses is new, or this many: children and their turns are compared in pairs."""


class PlannedChild(State):
    """An architecture that the search will propose."""

    limit: Limit | None
    """The limit that it is for; None: it is to widen the frontier."""
    architecture: ArchitectureField
    parents: tuple[str, ...]


class SurrogateState(RoundRobinState):
    """The plan, and the scales that were learned."""

    plan: tuple[PlannedChild, ...]
    planned_at: NonNegativeInt
    """Number of losses when the plan was made."""
    without: tuple[Limit, ...]
    """Limits for which the plan found nothing."""
    kept: tuple[PlannedChild, ...]
    """Children of earlier plans, kept as parents of the next one's."""
    scales: dict[str, float]
    scales_at: NonNegativeInt
    """Number of losses that the scales were learned from."""


class SurrogateSearch(RoundRobin):
    """Proposes architectures that were planned with a model of the loss."""

    State: ClassVar[type[BaseModel]] = SurrogateState
    Options: ClassVar[type[AlgorithmOptions]] = SurrogateOptions

    def __init__(self, problem: SearchProblem, options: AlgorithmOptions, rng: random.Random) -> None:
        super().__init__(problem, options, rng)
        assert isinstance(options, SurrogateOptions)
        self._parents = min(options.parents, options.population)
        self._probability, self._frontier_share = options.mutation_probability, options.frontier_share
        self._planner = Planner(problem.space, self._parents)
        self._plan: list[tuple[Limit | None, Child]] = []
        self._planned_at = 0
        self._without: set[Limit] = set()
        """Limits for which a plan found nothing since the last losses."""

    def find(self, archive: Archive, limit: Limit) -> Child | None:
        order = len(archive.proposals)
        child = None
        if order < self.population or len(archive.losses) < _LEAST_SCORED:
            child = self.breeder.at_random(archive, limit)
        elif self.rng.random() >= _PLAIN * math.sqrt(min(1.0, _PLAIN_UNTIL / order)):
            child = self._planned(archive, limit)
        return child or self._plain(archive, limit)

    def _plain(self, archive: Archive, limit: Limit) -> Child | None:
        parents = archive.best(limit, self._parents)
        child = None
        if parents:
            child = self.breeder.child(archive, limit, lambda: self.rng.choice(parents), self._probability)
        return child or self.breeder.at_random(archive, limit) or self.breeder.near(archive, limit, parents)

    def _planned(self, archive: Archive, limit: Limit) -> Child | None:
        length = min(max(_PLAN_LEAST, int(_PLAN_SHARE * len(archive.losses))), _PLAN_MOST)
        if len(archive.losses) >= self._planned_at + length:
            self._forget_plan()
        child = self._take(archive, limit)
        if child is None and limit not in self._without:
            self._make_plan(archive, limit, length)
            child = self._take(archive, limit)
            if child is None:
                self._without.add(limit)
        return child

    def _take(self, archive: Archive, limit: Limit) -> Child | None:
        """Take the first child that is planned for a limit or for the frontier; drop those proposed meanwhile."""
        for entry in [entry for entry in self._plan if entry[0] in (limit, None)]:
            self._plan.remove(entry)
            if entry[1].architecture not in archive.proposals:
                return entry[1]
        return None

    def _make_plan(self, archive: Archive, limit: Limit, length: int) -> None:
        turns = [limit, *(other for other in self.turns(archive) if other != limit)]
        turns = [turns[place % len(turns)] for place in range(length)]
        share = frontier_share(self._frontier_share, len(archive.limited))
        targets_frontier = [self.rng.random() < share for _ in turns]
        generator = np.random.default_rng(self.rng.getrandbits(64))
        self._plan = self._planner.plan(archive, turns, targets_frontier, generator)
        self._planned_at = len(archive.losses)

    def _forget_plan(self) -> None:
        self._plan = []
        self._without = set()

    def predictions_changed(self, archive: Archive) -> None:
        super().predictions_changed(archive)
        self._forget_plan()
        self._planner.kept = {}

    def state(self) -> SurrogateState:
        planned = [PlannedChild(limit=limit, architecture=c.architecture, parents=c.parents) for limit, c in self._plan]
        kept = [PlannedChild(limit=None, architecture=one, parents=ids) for one, ids in self._planner.kept.items()]
        turns = super().state()
        return SurrogateState(
            random_fails=turns.random_fails,
            exhausted=turns.exhausted,
            plan=tuple(planned),
            planned_at=self._planned_at,
            without=tuple(limit for limit in self.problem.limits if limit in self._without),
            kept=tuple(kept),
            scales=self._planner.scales.of,
            scales_at=self._planner.scales_at,
        )

    def restore(self, state: RoundRobinState) -> None:
        assert isinstance(state, SurrogateState)
        super().restore(state)
        self._plan = [(one.limit, Child(one.architecture, "surrogate", one.parents)) for one in state.plan]
        self._planned_at, self._without = state.planned_at, set(state.without)
        self._planner.kept = {one.architecture: one.parents for one in state.kept}
        self._planner.scales, self._planner.scales_at = Scales(dict(state.scales)), state.scales_at


def frontier_share(setting: float | None, devices: int) -> float:
    """Return the share of the proposals that widen the frontiers: as set, or by the number of devices.

    Measured on HAT's three devices (`bench_search_devices.py`, 20 seeds): 1,000 evaluations for all three reach the
    hypervolume that 900 evaluations for each device alone reach, to 0.0002.
    """
    return 1 - 0.5 / math.sqrt(devices) if setting is None else setting

"""hat-ray's own search: a model of the loss picks from thousands of cheap children; several devices and limits at once.

It begins with random architectures, then makes plans (`planning.py`) for the next few turns of the limits, and makes a
new one when enough losses came. All that was scored serves every limit: the model knows no device.

Decisions
- One in eight proposals is a plain child of the best: where the model is wrong, the search is still an evolution. Later
  they are fewer, since a model of more losses is more often right: their share falls with the root of the proposals.
- A plan is a handful of architectures, so that a saved search continues from the plan that it had.
"""

import math
import random

import numpy as np

from hat_ray.search.algorithms.base import ByTurns
from hat_ray.search.algorithms.breeding import Child
from hat_ray.search.algorithms.surrogate.model import Scales
from hat_ray.search.algorithms.surrogate.planner import Planner
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.archive import Archive
from hat_ray.search.engine.state import AlgorithmState, PlannedChild, SurrogateState
from hat_ray.search.limits import Limit
from hat_ray.space.architecture import Architecture

_PLAIN, _PLAIN_UNTIL = 1 / 8, 80
"""Share of plain children, and the proposals from which on it falls."""
_LEAST_TOLD = 8
"""Losses without which nothing is modelled."""
_PLAN_LEAST = 4
_PLAN_SHARE = 0.02
"""A plan serves until so many losses, or this share of those known, are new."""


class SurrogateSearch(ByTurns):
    """Proposes what was planned with a model of the loss."""

    def __init__(self, archive: Archive, config: SearchConfig, rng: random.Random) -> None:
        super().__init__(archive, config, rng)
        self._planner = Planner(archive, config.elite)
        self._plan: list[tuple[Limit | None, Child]] = []
        self._planned_at = 0
        self._without: set[Limit] = set()
        """Limits for which a plan found nothing since the last losses."""

    def find(self, limit: Limit) -> Child | None:
        order = len(self.archive.proposals)
        child = None
        if order < self.config.initial or len(self.archive.losses) < _LEAST_TOLD:
            child = self.breeder.at_random(limit)
        elif self.rng.random() >= _PLAIN * math.sqrt(min(1.0, _PLAIN_UNTIL / order)):
            child = self._planned(limit)
        return child or self._plain(limit)

    def _plain(self, limit: Limit) -> Child | None:
        parents = self.archive.best(limit, self.config.elite)
        child = self.breeder.child(limit, lambda: self.rng.choice(parents)) if parents else None
        return child or self.breeder.at_random(limit) or self.breeder.near(limit, parents)

    def _planned(self, limit: Limit) -> Child | None:
        length = max(_PLAN_LEAST, int(_PLAN_SHARE * len(self.archive.losses)))
        if len(self.archive.losses) >= self._planned_at + length:
            self._forget_plan()
        child = self._take(limit)
        if child is None and limit not in self._without:
            self._make_plan(limit, length)
            child = self._take(limit)
            if child is None:
                self._without.add(limit)
        return child

    def _take(self, limit: Limit) -> Child | None:
        """Take the first that is planned for a limit or for the frontier; what was told meanwhile is dropped."""
        for entry in [entry for entry in self._plan if entry[0] in (limit, None)]:
            self._plan.remove(entry)
            if entry[1].architecture not in self.archive.proposals:
                return entry[1]
        return None

    def _make_plan(self, limit: Limit, length: int) -> None:
        turns = [limit, *(other for other in self.turns() if other != limit)]
        turns = [turns[place % len(turns)] for place in range(length)]
        share = self.config.widening(len(self.archive.limited))
        widens = [self.rng.random() < share for _ in turns]
        self._plan = self._planner.plan(turns, widens, np.random.default_rng(self.rng.getrandbits(64)))
        self._planned_at = len(self.archive.losses)

    def _forget_plan(self) -> None:
        self._plan = []
        self._without = set()

    def latency_changed(self) -> None:
        super().latency_changed()
        self._forget_plan()
        self._planner.kept = {}

    def save(self) -> AlgorithmState:
        limits = self.archive.limits
        plan = tuple(
            PlannedChild(
                limit=None if limit is None else limits.index(limit),
                architecture=child.architecture.to_dict(),
                parents=child.parents,
            )
            for limit, child in self._plan
        )
        state = SurrogateState(
            plan=plan,
            planned_at=self._planned_at,
            without=tuple(limits.index(limit) for limit in limits if limit in self._without),
            kept=tuple(
                PlannedChild(limit=None, architecture=one.to_dict(), parents=parents)
                for one, parents in self._planner.kept.items()
            ),
            scales=self._planner.scales.of,
            scales_at=self._planner.scales_at,
        )
        return super().save().model_copy(update={"surrogate": state})

    def load(self, state: AlgorithmState) -> None:
        super().load(state)
        saved, limits = state.surrogate, self.archive.limits
        assert saved is not None, "a state of another algorithm"
        self._plan = [
            (
                None if one.limit is None else limits[one.limit],
                Child(Architecture.from_dict(one.architecture), "surrogate", one.parents),
            )
            for one in saved.plan
        ]
        self._planned_at = saved.planned_at
        self._without = {limits[place] for place in saved.without}
        self._planner.kept = {Architecture.from_dict(one.architecture): one.parents for one in saved.kept}
        self._planner.scales, self._planner.scales_at = Scales(dict(saved.scales)), saved.scales_at

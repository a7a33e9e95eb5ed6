"""Plans the next few proposals: models fitted to every loss, thousands of children, the best of them.

Decisions
- Each turn has its own draw of the model's weights (Thompson sampling, half-width): what is uncertain is tried now and
  then, and workers that ask at the same time get different answers.
- Every child is predicted by the devices' own predictors. A linear stand-in for them is ten times cheaper and hides the
  best: a frontier lies where a predictor is lower than its surroundings let expect (HAT's Raspberry Pi: a stand-in
  with an error of 12 to 26 ms on what was scored is 49 to 84 ms off on the true frontier, nearly always too slow).
- Each child that targets the frontier is chosen as if those before it were scored already: they share out the gaps.
- Once the model is good, a search is bounded by how well its children are bred. So the children that the model puts on
  a frontier are kept as parents of the next plan's: over a search an evolution of hundreds of generations, unscored.
"""

from collections.abc import Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from hat_ray.latency.quantities import LATENCY
from hat_ray.search.algorithms.breeding import Child
from hat_ray.search.algorithms.surrogate.acquisition import (
    Acquisition,
    ScoredChildren,
    Stairs,
    best_places,
    with_point,
)
from hat_ray.search.algorithms.surrogate.features import FloatArray, GeneFeatures
from hat_ray.search.algorithms.surrogate.model import Posterior, Scales, learn_scales, targets
from hat_ray.search.engine.archive import Archive
from hat_ray.search.frontier import Staircase
from hat_ray.search.limits import Limit
from hat_ray.space.architecture import Architecture
from hat_ray.space.genes import GeneCode, Rows
from hat_ray.space.search_space import SearchSpace

_ROUNDS = 5
"""How often children are bred, each time also from the best children before."""
_CHILDREN = 350
"""For each frontier."""
_CHILDREN_A_TURN = 45
"""More are bred for a long plan."""
_ELITE_CHILDREN = 8
"""For each turn, the best children that have children."""
_CROSSED = 0.3
"""Share of children that are crossed before they are mutated."""
_MUTATIONS = (0.02, 0.05, 0.1)
"""Probabilities with which a child's genes are drawn anew; each child gets one of them."""
_SPREAD = 0.5
"""Standard deviation of the draws, in that of the posterior."""
_RELEARN = 1.3
"""Scales are learned again when the number of losses has grown by this factor."""
_KEPT = 128
"""Children kept for each frontier."""
_MOST_FITTED = 10_000
"""Losses that the models are fitted to; of more, those of the best, of the frontiers, and a sample of the others."""
_MOST_KEPT_ROWS = 10 * _MOST_FITTED
"""Rows of architectures that are kept for the next plan."""
_EQUAL = 1e-9
"""Losses, in the units of `targets`, that are the same."""


class Planner:
    """Fits the models and plans; holds the scales that it has learned."""

    def __init__(self, space: SearchSpace, parents: int) -> None:
        """`parents`: for each limit, the best architectures that have children."""
        self._count = parents
        self._code = GeneCode(space)
        self._features = GeneFeatures(self._code)
        self._rows: dict[Architecture, Rows] = {}
        self._proposed: set[bytes] = set()
        """Rows of the archive's proposals, as far as they were looked at."""
        self.scales, self.scales_at = Scales.start(), 0
        """The scales, and how many losses they were learned from."""
        self.kept: dict[Architecture, tuple[str, ...]] = {}
        """Children of earlier plans that the model puts on a frontier, not proposed yet, and their scored ancestors."""

    def plan(
        self, archive: Archive, turns: Sequence[Limit], targets_frontier: Sequence[bool], rng: np.random.Generator
    ) -> list[tuple[Limit | None, Child]]:
        """Return a new architecture for each turn, with the limit that it is for, or None when it widens the frontiers.

        A turn that cannot widen them, as far as the models see, serves its limit. A turn whose limit cannot be served
        better widens them. A turn for which nothing is found is left out.
        """
        acquisition = self._fit(archive, turns, targets_frontier, rng)
        kept = {one: ids for one, ids in self.kept.items() if one not in archive.proposals}
        elite = {**kept, **{one: (one.id,) for one in self._parents(archive)}}
        pool = self._breed(archive, list(elite), len(kept), acquisition, rng)
        wider = _widen(pool, acquisition, self._widening_turns(archive, pool, acquisition))
        found = wider | _keep_limits(pool, acquisition, wider)
        ids, architectures = list(elite.values()), self._code.decoded(pool.rows)

        def parents(place: int) -> tuple[str, ...]:
            return tuple(dict.fromkeys(id_ for ancestor in pool.ancestors[place] for id_ in ids[ancestor]))[:2]

        self.kept = {
            architectures[place]: parents(place)
            for place in acquisition.promising(pool, _KEPT)
            if place not in found.values()
        }
        return [
            (None if turn in wider else turns[turn], Child(architectures[place], "surrogate", parents(place)))
            for turn, place in sorted(found.items())
        ]

    def _parents(self, archive: Archive) -> list[Architecture]:
        """Return the best under each limit, and the frontiers."""
        parents = [one for limit in archive.limits for one in archive.best(limit, self._count)]
        parents += [one for group in archive.groups for one in archive.front(group)]
        return list(dict.fromkeys(parents)) or list(
            dict.fromkeys([*archive.fastest.values(), *archive.surest.values()])
        )

    def _encode(self, architectures: Sequence[Architecture]) -> Rows:
        if len(self._rows) > _MOST_KEPT_ROWS:
            self._rows.clear()
        new = [architecture for architecture in architectures if architecture not in self._rows]
        self._rows.update(zip(new, self._code.encode(new), strict=True))
        return np.stack([self._rows[architecture] for architecture in architectures])

    def _fit(
        self, archive: Archive, turns: Sequence[Limit], targets_frontier: Sequence[bool], rng: np.random.Generator
    ) -> Acquisition:
        scored = _fitted_to(archive)
        losses = np.array([archive.losses[architecture] for architecture in scored])
        x, groups, y = self._features(self._encode(scored)), self._features.groups, targets(losses)
        if len(archive.losses) >= _RELEARN * self.scales_at:
            self.scales, self.scales_at = learn_scales(x, groups, y), len(archive.losses)
        posterior = Posterior(x, groups, y, self.scales)
        # the frontiers as the model sees them: a loss that was low by luck would hide what is better
        whole = np.array([architecture not in archive.estimated for architecture in scored])
        expected = np.where(np.isfinite(losses) & whole, x @ posterior.mean(), np.inf)
        weights = np.column_stack([posterior.draws(len(turns), rng, _SPREAD), posterior.mean()])
        stairs = _stairs(archive, scored, expected)
        return Acquisition(self._features, turns, targets_frontier, weights, stairs)

    def _breed(
        self,
        archive: Archive,
        elites: Sequence[Architecture],
        kept: int,
        acquisition: Acquisition,
        rng: np.random.Generator,
    ) -> ScoredChildren:
        """Return new children of the elite, whose first ones were kept and are new, and of the best children before."""
        elite = self._encode(elites)
        self._look_at_proposals(archive)
        seen = {row.tobytes() for row in elite[:kept]}
        own = np.repeat(np.arange(len(elite))[:, None], 2, axis=1)
        pool = self._score(archive, elite[:kept], own[:kept], acquisition)
        parents, ancestors, elite_count = elite, own, kept
        most = max(_CHILDREN * len(acquisition.stairs), _CHILDREN_A_TURN * len(acquisition.turns))
        for _ in range(_ROUNDS):
            rows, ancestor_ids = self._children(parents, ancestors, elite_count, most, rng)
            new = [place for place, row in enumerate(rows) if not self._is_known(row.tobytes(), seen)]
            pool += self._score(archive, rows[new], ancestor_ids[new], acquisition)
            best = np.unique(best_places(acquisition.scores(pool), _ELITE_CHILDREN))
            parents = np.concatenate([pool.rows[best], elite])
            ancestors = np.concatenate([pool.ancestors[best], own])
            elite_count = len(best)
        return pool

    def _look_at_proposals(self, archive: Archive) -> None:
        """Note the rows of what was proposed since the last plan."""
        new = list(islice(archive.proposals, len(self._proposed), None))
        if new:
            self._proposed.update(row.tobytes() for row in self._code.encode(new))

    def _is_known(self, row: bytes, seen: set[bytes]) -> bool:
        """Return whether a row was proposed, or bred for this plan; note it as bred."""
        before = row in self._proposed or row in seen
        seen.add(row)
        return before

    def _score(
        self, archive: Archive, rows: Rows, ancestors: npt.NDArray[np.int64], acquisition: Acquisition
    ) -> ScoredChildren:
        values = archive.predict(self._code.decoded(rows), archive.limited)
        return ScoredChildren(rows, ancestors, acquisition.losses(rows), values)

    def _children(
        self, parents: Rows, ancestors: npt.NDArray[np.int64], elite_count: int, count: int, rng: np.random.Generator
    ) -> tuple[Rows, npt.NDArray[np.int64]]:
        """Return children of parents (N, G), whose first `elite_count` have half of them, and the ids of ancestors."""
        first, second = rng.integers(len(parents), size=(2, count))
        if elite_count:
            first[::2] = rng.integers(elite_count, size=len(first[::2]))
        crosses = rng.random(count) < _CROSSED
        ids = np.stack([ancestors[first, 0], np.where(crosses, ancestors[second, 0], ancestors[first, 1])], axis=1)
        return self._code.bred(parents[first], parents[second], crosses, _MUTATIONS, rng), ids

    def _widening_turns(self, archive: Archive, pool: ScoredChildren, acquisition: Acquisition) -> list[int]:
        """Return the turns that are to widen the frontiers.

        Those that were drawn to, and those whose draw sees nothing better under their limit than the best known.
        """
        scores = acquisition.under_limits(pool)
        best = {limit: archive.best(limit, 1) for limit in dict.fromkeys(acquisition.turns)}
        known = {limit: acquisition.losses(self._encode(some))[0] for limit, some in best.items() if some}
        return [
            turn
            for turn, limit in enumerate(acquisition.turns)
            if acquisition.targets_frontier[turn]
            or (limit in known and scores[:, turn].min(initial=np.inf) >= known[limit][turn] - _EQUAL)
        ]


def _fitted_to(archive: Archive) -> list[Architecture]:
    """Return the architectures whose losses the models are fitted to, in the order of arrival while these are all."""
    if len(archive.losses) <= _MOST_FITTED:
        return list(archive.losses)
    share = _MOST_FITTED // (2 * len(archive.limits))
    some = [one for limit in archive.limits for one in archive.best(limit, share)]
    some += [one for group in archive.groups for one in archive.front(group)]
    return list(dict.fromkeys([*some, *archive.sample(_MOST_FITTED // 2)]))


def _stairs(archive: Archive, scored: Sequence[Architecture], losses: FloatArray) -> Stairs:
    """Return each group's frontier up to its highest limit and the worst loss."""
    worst = float(np.max(losses, where=np.isfinite(losses), initial=-np.inf))
    stairs = {}
    for group in archive.groups:
        values = [archive.values(architecture)[group.device] for architecture in scored]
        times = np.array([one[LATENCY] for one in values])
        kept = np.array([group.keeps(one) for one in values], dtype=bool)
        stairs[group] = Staircase.of(np.where(kept, losses, np.inf), times, (worst, archive.widest_ms(group)))
    return stairs


def _widen(pool: ScoredChildren, acquisition: Acquisition, turns: Sequence[int]) -> dict[int, int]:
    """Return, for turns that widen the frontiers, the place of the pool that adds most after those before."""
    stairs = acquisition.stairs
    found: dict[int, int] = {}
    free = np.ones(len(pool.rows), dtype=bool)
    for turn in turns:
        gains = np.where(free, acquisition.gains(pool.losses[:, turn], pool.values, stairs), 0.0)
        if gains.any():
            found[turn] = best = int(np.argmax(gains))
            free[best] = False
            values = {
                device: {name: float(column[best]) for name, column in columns.items()}
                for device, columns in pool.values.items()
            }
            stairs = with_point(stairs, float(pool.losses[best, turn]), values)
    return found


def _keep_limits(pool: ScoredChildren, acquisition: Acquisition, wider: dict[int, int]) -> dict[int, int]:
    """Return, for each other turn, the best place of the pool that keeps its limit."""
    scores = acquisition.under_limits(pool)
    scores[list(wider.values())] = np.inf
    found: dict[int, int] = {}
    for turn in range(len(acquisition.turns)):
        if turn not in wider and np.isfinite(scores[:, turn]).any():
            found[turn] = best = int(np.argmin(scores[:, turn]))
            scores[best] = np.inf
    return found

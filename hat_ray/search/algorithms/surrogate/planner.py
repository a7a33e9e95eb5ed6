"""Plans the next few proposals: models fitted to everything told, thousands of children, the best of them.

Decisions
- Each turn has its own draw of the model's weights (Thompson sampling, half-width): what is uncertain is tried now and
  then, and workers that ask at the same time get different answers.
- Every child is predicted by the devices' own predictors. A linear stand-in for them is ten times cheaper and hides the
  best: a frontier lies where a predictor says less than its surroundings let expect (HAT's Raspberry Pi: a stand-in
  with an error of 12 to 26 ms on what was scored is 49 to 84 ms off on the true frontier, nearly always too slow).
- Of what is to widen the frontier each is chosen as if those before it were scored already: they share out the gaps.
- Once the model is good, what bounds a search is how well its children are bred. So those that it puts on a frontier
  are kept, and are parents of the next plan's: over a search an evolution of hundreds of generations, unscored.

What is thought of gene rows: losses by several draws of the model, predicted milliseconds; and how good that is.

A turn of the search has a limit that is to be kept with the least loss; some are rather to widen the frontiers of all
devices taken together, where the models see a way to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hat_ray.search.algorithms.breeding import Child
from hat_ray.search.algorithms.surrogate.features import FloatArray, GeneFeatures
from hat_ray.search.algorithms.surrogate.model import Posterior, Scales, learn_scales, targets
from hat_ray.search.engine.archive import Archive
from hat_ray.search.frontier import Staircase, pareto_front
from hat_ray.search.limits import Limit
from hat_ray.space.architecture import Architecture
from hat_ray.space.genes import GeneCode, Rows

Stairs = Mapping[str, Staircase]
"""By device; losses in the units of `targets`."""
Times = Mapping[str, FloatArray]
"""Milliseconds (N,) by device."""


@dataclass(frozen=True)
class Judged:
    """Gene rows (N, G), where they come from, and what is thought of them."""

    rows: Rows
    roots: npt.NDArray[np.int64]
    """Places among the elite that a row comes from, (N, 2)."""
    losses: FloatArray
    """(N, K + 1): by each turn's draw, and last as expected; in the units of `targets`."""
    times: Times
    """As the devices' predictors have it."""

    def __add__(self, other: "Judged") -> "Judged":
        return Judged(
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.roots, other.roots]),
            np.concatenate([self.losses, other.losses]),
            {device: np.concatenate([ms, other.times[device]]) for device, ms in self.times.items()},
        )


@dataclass(frozen=True)
class Judge:
    """The fitted models, a draw of weights for each of K turns, and the frontiers as they are."""

    features: GeneFeatures
    turns: Sequence[Limit]
    widens: Sequence[bool]
    """Whether each turn is to widen the frontiers."""
    weights: FloatArray
    """(P, K + 1), last the expected ones."""
    stairs: Stairs
    areas: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "areas", {device: stairs.area or 1.0 for device, stairs in self.stairs.items()})

    def losses(self, rows: Rows) -> FloatArray:
        """Return what the loss of rows (N, G) is by each draw, and last as expected: (N, K + 1)."""
        return np.asarray(self.features(rows) @ self.weights)

    def scores(self, judged: Judged) -> FloatArray:
        """Return (N, K + 1), lower is better: what is added to the frontiers, or the loss under a limit.

        The last column is what is added if the expected losses hold.
        """
        scores = self.under_limits(judged)
        scores[:, -1] = -self.gains(judged.losses[:, -1], judged.times, self.stairs)
        for turn in np.flatnonzero(self.widens):
            gains = self.gains(judged.losses[:, turn], judged.times, self.stairs)
            if gains.any():
                scores[:, turn] = -gains
        return scores

    def under_limits(self, judged: Judged) -> FloatArray:
        """Return losses (N, K + 1), infinite where a turn's limit is not kept."""
        scores = judged.losses.copy()
        for turn, limit in enumerate(self.turns):
            scores[judged.times[limit.device] > limit.ms, turn] = np.inf
        return scores

    def gains(self, losses: FloatArray, times: Times, stairs: Stairs) -> FloatArray:
        """Return what points (N,) would add to the frontiers, as a share of each one's area, summed over devices."""
        shares = [stair.gains(losses, times[device]) / self.areas[device] for device, stair in stairs.items()]
        return np.asarray(np.sum(shares, axis=0))

    def promising(self, judged: Judged, count: int) -> list[int]:
        """Return the places that should widen a device's frontier and are beaten by none, up to `count` for each."""
        found: dict[int, None] = {}
        losses = judged.losses[:, -1]
        for device, stairs in self.stairs.items():
            gains = stairs.gains(losses, judged.times[device])
            some = np.flatnonzero(gains > 0)
            front = some[pareto_front(losses[some], judged.times[device][some])]
            order = np.argsort(-gains[front], kind="stable")[:count]
            found.update(dict.fromkeys(front[order].tolist()))
        return list(found)


def with_point(stairs: Stairs, loss: float, times: Mapping[str, float]) -> Stairs:
    return {device: stair.with_point(loss, times[device]) for device, stair in stairs.items()}


def best_places(scores: FloatArray, count: int) -> npt.NDArray[np.int64]:
    """Return the places of each column's lowest scores, (count or fewer, K), lowest first."""
    count = min(count, len(scores))
    if count == 0:
        return np.zeros((0, scores.shape[1]), dtype=np.int64)
    some = np.argpartition(scores, count - 1, axis=0)[:count]
    order = np.argsort(np.take_along_axis(scores, some, axis=0), axis=0, kind="stable")
    return np.take_along_axis(some, order, axis=0)


_ROUNDS = 5
"""How often children are bred, each time also from the best children before."""
_CHILDREN = 350
"""For each device."""
_CHILDREN_A_TURN = 45
"""More are bred where a plan is long."""
_STARS = 8
"""For each turn, the best children that have children."""
_CROSSED = 0.3
"""Share of children that are crossed before they are mutated."""
_MUTATIONS = (0.02, 0.05, 0.1)
"""Probabilities with which a child's genes are drawn anew; each child gets one of them."""
_SPREAD = 0.5
"""Standard deviation of the draws, in that of the posterior."""
_RELEARN = 1.3
"""Scales are learned again when so many times as many losses are known."""
_KEPT = 128
"""Children kept for each device."""
_EQUAL = 1e-9
"""Losses, in the units of `targets`, that are the same."""


class Planner:
    """Fits the models and plans; holds the scales that it has learned."""

    def __init__(self, archive: Archive, elite: int) -> None:
        self._archive, self._elite = archive, elite
        self._code = GeneCode(archive.space)
        self._features = GeneFeatures(self._code)
        self._rows: dict[Architecture, Rows] = {}
        self.scales, self.scales_at = Scales.start(), 0
        """The scales, and how many losses they were learned from."""
        self.kept: dict[Architecture, tuple[str, ...]] = {}
        """Children of earlier plans that the model puts on a frontier, not proposed yet, and their scored ancestors."""

    def plan(
        self, turns: Sequence[Limit], widens: Sequence[bool], rng: np.random.Generator
    ) -> list[tuple[Limit | None, Child]]:
        """Return a new architecture for each turn, with the limit that it is for, or None when it widens the frontiers.

        A turn that cannot widen them, as far as the models see, serves its limit, and one whose limit cannot be served
        better widens them; one for which nothing is found is left out.
        """
        judge = self._fit(turns, widens, rng)
        kept = {one: of for one, of in self.kept.items() if one not in self._archive.proposals}
        elite = {**kept, **{one: (one.id,) for one in self._parents()}}
        pool = self._breed(list(elite), len(kept), judge, rng)
        wide = self._widen(pool, judge, self._widening(pool, judge))
        found = wide | self._keep_limits(pool, judge, wide)
        names, architectures = list(elite.values()), self._code.decoded(pool.rows)

        def parents(place: int) -> tuple[str, ...]:
            return tuple(dict.fromkeys(name for root in pool.roots[place] for name in names[root]))[:2]

        self.kept = {
            architectures[place]: parents(place)
            for place in judge.promising(pool, _KEPT)
            if place not in found.values()
        }
        return [
            (None if turn in wide else turns[turn], Child(architectures[place], "surrogate", parents(place)))
            for turn, place in sorted(found.items())
        ]

    def _parents(self) -> list[Architecture]:
        """Return the best under each limit, and the frontiers."""
        parents = [one for limit in self._archive.limits for one in self._archive.best(limit, self._elite)]
        parents += [one for device in self._archive.limited for one in self._archive.front(device)]
        return list(dict.fromkeys(parents)) or list(self._archive.fastest.values())

    def _encode(self, architectures: Sequence[Architecture]) -> Rows:
        new = [architecture for architecture in architectures if architecture not in self._rows]
        self._rows.update(zip(new, self._code.encode(new), strict=True))
        return np.stack([self._rows[architecture] for architecture in architectures])

    def _fit(self, turns: Sequence[Limit], widens: Sequence[bool], rng: np.random.Generator) -> Judge:
        told = list(self._archive.losses)
        losses = np.array(list(self._archive.losses.values()))
        x, groups, y = self._features(self._encode(told)), self._features.groups, targets(losses)
        if len(told) >= _RELEARN * self.scales_at:
            self.scales, self.scales_at = learn_scales(x, groups, y), len(told)
        posterior = Posterior(x, groups, y, self.scales)
        # the frontiers as the model sees them: a loss that was low by luck would hide what is better
        whole = np.array([architecture not in self._archive.estimated for architecture in told])
        expected = np.where(np.isfinite(losses) & whole, x @ posterior.mean(), np.inf)
        times = {
            device: np.array([self._archive.times(architecture)[device] for architecture in told])
            for device in self._archive.limited
        }
        weights = np.column_stack([posterior.draws(len(turns), rng, _SPREAD), posterior.mean()])
        return Judge(self._features, turns, widens, weights, self._stairs(expected, times))

    def _stairs(self, losses: FloatArray, times: dict[str, FloatArray]) -> Stairs:
        """Return each device's frontier up to its highest limit and the worst loss."""
        worst = float(np.max(losses, where=np.isfinite(losses), initial=-np.inf))
        return {
            device: Staircase.of(losses, ms, (worst, max(x.ms for x in self._archive.limits if x.device == device)))
            for device, ms in times.items()
        }

    def _breed(self, elites: Sequence[Architecture], kept: int, judge: Judge, rng: np.random.Generator) -> Judged:
        """Return new children of the elite, whose first ones were kept and are new, and of the best children before."""
        elite = self._encode(elites)
        seen = {row.tobytes() for row in self._encode([*self._archive.proposals, *elites[:kept]])}
        own = np.repeat(np.arange(len(elite))[:, None], 2, axis=1)
        pool = self._judged(elite[:kept], own[:kept], judge)
        parents, roots, stars = elite, own, kept
        most = max(_CHILDREN * len(judge.stairs), _CHILDREN_A_TURN * len(judge.turns))
        for _ in range(_ROUNDS):
            rows, of = self._children(parents, roots, stars, most, rng)
            new = [place for place, row in enumerate(rows) if not _seen(row.tobytes(), seen)]
            pool += self._judged(rows[new], of[new], judge)
            best = np.unique(best_places(judge.scores(pool), _STARS))
            parents, roots = np.concatenate([pool.rows[best], elite]), np.concatenate([pool.roots[best], own])
            stars = len(best)
        return pool

    def _judged(self, rows: Rows, roots: npt.NDArray[np.int64], judge: Judge) -> Judged:
        times = self._archive.latencies_of(self._code.decoded(rows), self._archive.limited)
        return Judged(rows, roots, judge.losses(rows), times)

    def _children(
        self, parents: Rows, roots: npt.NDArray[np.int64], stars: int, count: int, rng: np.random.Generator
    ) -> tuple[Rows, npt.NDArray[np.int64]]:
        """Return children of parents (N, G), of which the first `stars` have half of them, and where they come from."""
        first, second = rng.integers(len(parents), size=(2, count))
        if stars:
            first[::2] = rng.integers(stars, size=len(first[::2]))
        crosses = rng.random(count) < _CROSSED
        of = np.stack([roots[first, 0], np.where(crosses, roots[second, 0], roots[first, 1])], axis=1)
        return self._code.bred(parents[first], parents[second], crosses, _MUTATIONS, rng), of

    def _widening(self, pool: Judged, judge: Judge) -> list[int]:
        """Return the turns that are to widen the frontiers.

        Those that were drawn to, and those whose draw sees nothing better under their limit than the best known.
        """
        scores = judge.under_limits(pool)
        best = {limit: self._archive.best(limit, 1) for limit in dict.fromkeys(judge.turns)}
        known = {limit: judge.losses(self._encode(some))[0] for limit, some in best.items() if some}
        return [
            turn
            for turn, limit in enumerate(judge.turns)
            if judge.widens[turn]
            or (limit in known and scores[:, turn].min(initial=np.inf) >= known[limit][turn] - _EQUAL)
        ]

    def _widen(self, pool: Judged, judge: Judge, turns: Sequence[int]) -> dict[int, int]:
        """Return for turns that are to widen the frontiers the place of the pool that adds most after those before."""
        stairs = judge.stairs
        found: dict[int, int] = {}
        free = np.ones(len(pool.rows), dtype=bool)
        for turn in turns:
            gains = np.where(free, judge.gains(pool.losses[:, turn], pool.times, stairs), 0.0)
            if gains.any():
                found[turn] = best = int(np.argmax(gains))
                free[best] = False
                times = {device: float(ms[best]) for device, ms in pool.times.items()}
                stairs = with_point(stairs, float(pool.losses[best, turn]), times)
        return found

    def _keep_limits(self, pool: Judged, judge: Judge, wide: dict[int, int]) -> dict[int, int]:
        """Return for each other turn the best place of the pool that keeps its limit."""
        scores = judge.under_limits(pool)
        scores[list(wide.values())] = np.inf
        found: dict[int, int] = {}
        for turn in range(len(judge.turns)):
            if turn not in wide and np.isfinite(scores[:, turn]).any():
                found[turn] = best = int(np.argmin(scores[:, turn]))
                scores[best] = np.inf
        return found


def _seen(key: bytes, seen: set[bytes]) -> bool:
    before = key in seen
    seen.add(key)
    return before

"""Plans the next few proposals: models fitted to everything told, thousands of children, the best of them.

Decisions
- Each turn has its own draw of the model's weights (Thompson sampling, half-width): what is uncertain is tried now and
  then, and workers that ask at the same time get different answers.
- Latency is nearly linear in the same features, so a stand-in for each device screens the children; what is planned
  was predicted by the device's own predictor.
- Of what is to widen the frontier each is chosen as if those before it were scored already: they share out the gaps.
- Once the model is good, what bounds a search is how well its children are bred. So those that it puts on a frontier
  are kept, and are parents of the next plan's: over a search an evolution of hundreds of generations, unscored.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hat_ray.search.archive import Archive
from hat_ray.search.breeding import Child
from hat_ray.search.frontier import Staircase
from hat_ray.search.gene_features import FloatArray, GeneFeatures
from hat_ray.search.genes import GeneCode, Rows
from hat_ray.search.judge import Judge, Judged, LatencyStandIn, Stairs, best_places, with_point
from hat_ray.search.limits import Limit
from hat_ray.search.surrogate import Posterior, Scales, learn_scales, targets
from hat_ray.space.architecture import Architecture

_ROUNDS = 3
"""How often children are bred, each time also from the best children before."""
_CHILDREN = 1200
_CHILDREN_A_TURN = 150
"""More are bred where a plan is long."""
_STARS = 8
"""For each turn, the best children that have children."""
_CROSSED = 0.3
"""Share of children that are crossed before they are mutated."""
_MUTATIONS = (0.02, 0.05, 0.1, 0.2)
"""Probabilities with which a child's genes are drawn anew; each child gets one of them."""
_SPREAD = 0.5
"""Standard deviation of the draws, in that of the posterior."""
_RELEARN = 1.3
"""Scales are learned again when so many times as many losses are known."""
_CHECKED = 24
"""Children for each limit that the predictors are asked for together; then the next ones."""
_CHECKS = 4
_SHORTLIST = 24
"""Children for each growth of the frontier that the predictors are asked for."""

_KEPT = 64
"""Children kept for each device."""

_Known = dict[int, tuple[Architecture, dict[str, float]]]
"""Architectures and their predicted milliseconds by place in the pool."""


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

        A turn that cannot widen them, as far as the models see, serves its limit; one for which nothing is found is
        left out.
        """
        judge = self._fit(turns, widens, rng)
        kept = {one: of for one, of in self.kept.items() if one not in self._archive.proposals}
        elite = {**kept, **{one: (one.id,) for one in self._parents()}}
        pool = self._breed(list(elite), len(kept), judge, rng)
        known: _Known = {}
        wide = self._widen(pool, judge, known)
        found = wide | self._keep_limits(pool, judge, known, wide)
        names = list(elite.values())

        def parents(place: int) -> tuple[str, ...]:
            return tuple(dict.fromkeys(name for root in pool.roots[place] for name in names[root]))[:2]

        self.kept = {
            self._code.decode(pool.rows[place]): parents(place)
            for place in judge.promising(pool, _KEPT)
            if place not in found.values()
        }
        return [
            (None if turn in wide else turns[turn], Child(known[place][0], "surrogate", parents(place)))
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
        stand_ins = {device: LatencyStandIn.fit(x, groups, ms) for device, ms in times.items()}
        weights = np.column_stack([posterior.draws(len(turns), rng, _SPREAD), posterior.mean()])
        return Judge(self._features, turns, widens, weights, stand_ins, self._stairs(expected, times))

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
        self._archive.remember([one for one in elites[:kept] if not self._archive.knows(one)])
        times = [self._archive.times(architecture) for architecture in elites]
        errors = judge.errors(elite, {d: np.array([one[d] for one in times]) for d in judge.stand_ins})
        seen = {row.tobytes() for row in self._encode([*self._archive.proposals, *elites[:kept]])}
        own = np.repeat(np.arange(len(elite))[:, None], 2, axis=1)
        pool = judge.look(elite[:kept], own[:kept], errors)
        parents, roots, stars = elite, own, kept
        for _ in range(_ROUNDS):
            rows, of = self._children(parents, roots, stars, max(_CHILDREN, _CHILDREN_A_TURN * len(judge.turns)), rng)
            new = [place for place, row in enumerate(rows) if not _seen(row.tobytes(), seen)]
            pool += judge.look(rows[new], of[new], errors)
            best = np.unique(best_places(judge.scores(pool), _STARS))
            parents, roots = np.concatenate([pool.rows[best], elite]), np.concatenate([pool.roots[best], own])
            stars = len(best)
        return pool

    def _children(
        self, parents: Rows, roots: npt.NDArray[np.int64], stars: int, count: int, rng: np.random.Generator
    ) -> tuple[Rows, npt.NDArray[np.int64]]:
        """Return children of parents (N, G), of which the first `stars` have half of them, and where they come from."""
        first, second = rng.integers(len(parents), size=(2, count))
        if stars:
            first[::2] = rng.integers(stars, size=len(first[::2]))
        crosses = rng.random(count) < _CROSSED
        crossed = self._code.crossed(parents[first], parents[second], rng)
        rows = np.where(crosses[:, None], crossed, parents[first])
        of = np.stack([roots[first, 0], np.where(crosses, roots[second, 0], roots[first, 1])], axis=1)
        return self._code.mutated(rows, rng.choice(_MUTATIONS, size=count), rng), of

    def _widen(self, pool: Judged, judge: Judge, known: _Known) -> dict[int, int]:
        """Return for turns that are to widen the frontiers the place of the pool that adds most after those before."""
        turns = [turn for turn, widens in enumerate(judge.widens) if widens]
        for _ in range(_CHECKS):
            likely = self._greedy(pool, judge, turns, _SHORTLIST)
            new = {place for places in likely.values() for place in places} - known.keys()
            if not new:
                break
            self._predict(pool, new, known)
            for device, ms in pool.times.items():  # a time that looked short by error alone is found out
                ms[list(new)] = [known[place][1][device] for place in new]
        checked = sorted(known)
        chosen = self._greedy(pool.of(checked), judge, turns, 1)
        return {turn: checked[places[0]] for turn, places in chosen.items() if places}

    def _greedy(self, pool: Judged, judge: Judge, turns: Sequence[int], count: int) -> dict[int, list[int]]:
        """Return for each turn the places that add most to the stairs, to which each turn's best is added in turn."""
        stairs = judge.stairs
        found: dict[int, list[int]] = {}
        free = np.ones(len(pool.rows), dtype=bool)
        for turn in turns:
            gains = np.where(free, judge.gains(pool.losses[:, turn], pool.times, stairs), 0.0)
            places = best_places(-gains[:, None], count)[:, 0]
            found[turn] = [int(place) for place in places if gains[place] > 0]
            for best in found[turn][:1]:
                free[best] = False
                times = {device: float(ms[best]) for device, ms in pool.times.items()}
                stairs = with_point(stairs, float(pool.losses[best, turn]), times)
        return found

    def _keep_limits(self, pool: Judged, judge: Judge, known: _Known, wide: dict[int, int]) -> dict[int, int]:
        """Return for each other turn the best place of the pool that keeps its limit by the predictor."""
        limits = {turn: limit for turn, limit in enumerate(judge.turns) if turn not in wide}
        scores = judge.under_limits(pool)
        best = best_places(scores, _CHECKED * _CHECKS)
        found: dict[int, int] = {}
        for start in range(0, len(best), _CHECKED):
            likely = {
                turn: [int(p) for p in best[start : start + _CHECKED, turn] if np.isfinite(scores[p, turn])]
                for turn in limits
                if turn not in found
            }
            self._predict(pool, {place for places in likely.values() for place in places}, known)
            for turn, places in likely.items():
                limit, taken = limits[turn], {*found.values(), *wide.values()}
                within = [place for place in places if place not in taken and known[place][1][limit.device] <= limit.ms]
                found.update({turn: within[0]} if within else {})
        return found

    def _predict(self, pool: Judged, places: set[int], known: _Known) -> None:
        new = sorted(places - known.keys())
        architectures = [self._code.decode(row) for row in pool.rows[new]]
        columns = self._archive.latencies_of(architectures)
        for position, (place, architecture) in enumerate(zip(new, architectures, strict=True)):
            known[place] = architecture, {device: float(ms[position]) for device, ms in columns.items()}


def _seen(key: bytes, seen: set[bytes]) -> bool:
    before = key in seen
    seen.add(key)
    return before

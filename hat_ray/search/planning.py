"""Plans the next few proposals: models fitted to everything told, thousands of children, the best that keep a limit.

Decisions
- Each turn has its own draw of the model's weights (Thompson sampling, half-width): what is uncertain is tried now and
  then, and workers that ask at the same time get different answers.
- Latency is nearly linear in the same features, so a stand-in for each device screens the children; what is planned
  was predicted by the device's own predictor. The best lie at the limit: just above it by the stand-in is let through.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hat_ray.search.archive import Archive
from hat_ray.search.breeding import Child
from hat_ray.search.gene_features import FloatArray, GeneFeatures
from hat_ray.search.genes import GeneCode, Rows
from hat_ray.search.limits import Limit
from hat_ray.search.surrogate import Posterior, Scales, learn_scales, targets
from hat_ray.space.architecture import Architecture

_ROUNDS = 3
"""How often children are bred, each time also from the best children before."""
_CHILDREN = 1200
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
_LATENCY_SCALES = Scales.start().but(pair=0.02, noise=0.01)
_CHECKED = 24
"""Children of a turn that the predictors are asked for together; then the next ones."""
_CHECKS = 4

_Roots = npt.NDArray[np.int64]
"""Places among the elite that a row comes from, (N, 2)."""


@dataclass(frozen=True)
class _Pool:
    """Children that were never proposed, and what each turn's draw thinks of them."""

    rows: Rows
    """(N, G)"""
    roots: _Roots
    scores: FloatArray
    """(N, K): lower is better, infinite where the turn's limit is not kept."""

    def best(self, count: int) -> npt.NDArray[np.int64]:
        """Return the places of each turn's best, (count or fewer, K), best first."""
        count = min(count, len(self.rows))
        if count == 0:
            return np.zeros((0, self.scores.shape[1]), dtype=np.int64)
        some = np.argpartition(self.scores, count - 1, axis=0)[:count]
        order = np.argsort(np.take_along_axis(self.scores, some, axis=0), axis=0, kind="stable")
        return np.take_along_axis(some, order, axis=0)

    def with_(self, other: "_Pool") -> "_Pool":
        return _Pool(
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.roots, other.roots]),
            np.concatenate([self.scores, other.scores]),
        )


class Planner:
    """Fits the models and plans; holds the scales that it has learned."""

    def __init__(self, archive: Archive, elite: int) -> None:
        self._archive, self._elite = archive, elite
        self._code = GeneCode(archive.space)
        self._features = GeneFeatures(self._code)
        self._rows: dict[Architecture, Rows] = {}
        self.scales, self.scales_at = Scales.start(), 0
        """The scales, and how many losses they were learned from."""

    def plan(self, aims: Sequence[Limit], rng: np.random.Generator) -> list[Child | None]:
        """Return a new architecture for each aim that keeps it, None where none is found."""
        judge = self._fit(aims, rng)
        different = tuple(dict.fromkeys(aims))
        elite = list(dict.fromkeys(a for aim in different for a in self._archive.best(aim, self._elite)))
        elite = elite or [self._archive.fastest[aim.device] for aim in different]
        pool = self._breed(self._encode(elite), judge, rng)
        found = self._choose(pool, aims)
        return [
            Child(found[turn][0], "surrogate", tuple(dict.fromkeys(elite[root].id for root in found[turn][1])))
            if turn in found
            else None
            for turn in range(len(aims))
        ]

    def _encode(self, architectures: Sequence[Architecture]) -> Rows:
        new = [architecture for architecture in architectures if architecture not in self._rows]
        self._rows.update(zip(new, self._code.encode(new), strict=True))
        return np.stack([self._rows[architecture] for architecture in architectures])

    def _fit(self, aims: Sequence[Limit], rng: np.random.Generator) -> "_Judge":
        told = list(self._archive.losses)
        x, groups = self._features(self._encode(told)), self._features.groups
        y = targets(np.array(list(self._archive.losses.values())))
        if len(told) >= _RELEARN * self.scales_at:
            self.scales, self.scales_at = learn_scales(x, groups, y), len(told)
        weights = Posterior(x, groups, y, self.scales).draws(len(aims), rng, _SPREAD)
        times = [self._archive.times(architecture) for architecture in told]
        stand_ins = {
            device: _LatencyStandIn.fit(x, groups, np.array([by_device[device] for by_device in times]))
            for device in dict.fromkeys(aim.device for aim in aims)
        }
        return _Judge(self._features, weights, stand_ins, aims)

    def _breed(self, elite: Rows, judge: "_Judge", rng: np.random.Generator) -> _Pool:
        """Return new children of the elite (N, G), and of the best children before."""
        seen = {row.tobytes() for row in self._encode(list(self._archive.proposals))}
        elite_roots = np.repeat(np.arange(len(elite))[:, None], 2, axis=1)
        parents, roots = elite, elite_roots
        pool = _Pool(elite[:0], elite_roots[:0], np.zeros((0, len(judge.aims))))
        for _ in range(_ROUNDS):
            rows, of = self._children(parents, roots, rng)
            new = [place for place, row in enumerate(rows) if not _seen(row.tobytes(), seen)]
            pool = pool.with_(_Pool(rows[new], of[new], judge.scores(rows[new])))
            stars = np.unique(pool.best(_STARS))
            parents = np.concatenate([pool.rows[stars], elite])
            roots = np.concatenate([pool.roots[stars], elite_roots])
        return pool

    def _children(self, parents: Rows, roots: _Roots, rng: np.random.Generator) -> tuple[Rows, _Roots]:
        first, second = rng.integers(len(parents), size=(2, _CHILDREN))
        crosses = rng.random(_CHILDREN) < _CROSSED
        crossed = self._code.crossed(parents[first], parents[second], rng)
        rows = np.where(crosses[:, None], crossed, parents[first])
        of = np.stack([roots[first, 0], np.where(crosses, roots[second, 0], roots[first, 1])], axis=1)
        return self._code.mutated(rows, rng.choice(_MUTATIONS, size=_CHILDREN), rng), of

    def _choose(self, pool: _Pool, aims: Sequence[Limit]) -> dict[int, tuple[Architecture, list[int]]]:
        """Return by aim's place the best of the pool that keeps it by the predictor, with its roots; no one twice."""
        best = pool.best(_CHECKED * _CHECKS)
        known: dict[int, tuple[Architecture, dict[str, float]]] = {}
        found: dict[int, int] = {}
        for start in range(0, len(best), _CHECKED):
            part = best[start : start + _CHECKED]
            likely = {
                turn: [int(place) for place in part[:, turn] if np.isfinite(pool.scores[place, turn])]
                for turn in range(len(aims))
                if turn not in found
            }
            asked = sorted({place for places in likely.values() for place in places} - known.keys())
            known.update(zip(asked, self._predict(pool.rows[asked]), strict=True))
            for turn, places in likely.items():
                aim, taken = aims[turn], set(found.values())
                within = [place for place in places if place not in taken and known[place][1][aim.device] <= aim.ms]
                found.update({turn: within[0]} if within else {})
        return {turn: (known[place][0], pool.roots[place].tolist()) for turn, place in found.items()}

    def _predict(self, rows: Rows) -> list[tuple[Architecture, dict[str, float]]]:
        architectures = [self._code.decode(row) for row in rows]
        columns = self._archive.latencies_of(architectures)
        return [
            (architecture, {device: float(column[place]) for device, column in columns.items()})
            for place, architecture in enumerate(architectures)
        ]


def _seen(key: bytes, seen: set[bytes]) -> bool:
    before = key in seen
    seen.add(key)
    return before


@dataclass(frozen=True)
class _LatencyStandIn:
    """A device's milliseconds as a linear function of features."""

    weights: FloatArray
    mean_ms: float
    error_ms: float
    """Root of the mean squared error on what it was fitted to."""

    @classmethod
    def fit(cls, x: FloatArray, groups: npt.NDArray[np.int64], ms: FloatArray) -> "_LatencyStandIn":
        mean, spread = float(ms.mean()), float(ms.std()) or 1.0
        weights = Posterior(x, groups, (ms - mean) / spread, _LATENCY_SCALES).mean() * spread
        return cls(weights, mean, float(np.sqrt(np.mean((x @ weights + mean - ms) ** 2))))

    def least_ms(self, x: FloatArray) -> FloatArray:
        """Return the milliseconds (N,) less the usual error."""
        return np.asarray(x @ self.weights + self.mean_ms - self.error_ms)


@dataclass(frozen=True)
class _Judge:
    """What the models think of gene rows."""

    features: GeneFeatures
    weights: FloatArray
    """(P, K): one draw for each turn."""
    stand_ins: dict[str, _LatencyStandIn]
    aims: Sequence[Limit]

    def scores(self, rows: Rows) -> FloatArray:
        """Return the loss in the units of `targets`, (N, K); infinite where a turn's limit is hardly kept."""
        x = self.features(rows)
        scores = x @ self.weights
        times = {device: stand_in.least_ms(x) for device, stand_in in self.stand_ins.items()}
        for turn, aim in enumerate(self.aims):
            scores[times[aim.device] > aim.ms, turn] = np.inf
        return np.asarray(scores)

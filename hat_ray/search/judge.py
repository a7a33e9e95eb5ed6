"""What the models think of gene rows: losses by several draws, milliseconds by stand-ins; and how good that is.

A turn of the search has a limit that is to be kept with the least loss; some are rather to widen the frontiers of all
devices taken together, where the models see a way to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hat_ray.search.frontier import Staircase, pareto_front
from hat_ray.search.gene_features import FloatArray, GeneFeatures
from hat_ray.search.genes import Rows
from hat_ray.search.limits import Limit
from hat_ray.search.surrogate import Posterior, Scales

Stairs = Mapping[str, Staircase]
"""By device; losses in the units of `targets`."""
Times = Mapping[str, FloatArray]
"""Milliseconds (N,) by device."""

_LATENCY_SCALES = Scales.start().but(pair=0.02, noise=0.01)


@dataclass(frozen=True)
class LatencyStandIn:
    """A device's milliseconds as a linear function of features."""

    weights: FloatArray
    mean_ms: float
    error_ms: float
    """Root of the mean squared error on what it was fitted to."""

    @classmethod
    def fit(cls, x: FloatArray, groups: npt.NDArray[np.int64], ms: FloatArray) -> "LatencyStandIn":
        mean, spread = float(ms.mean()), float(ms.std()) or 1.0
        weights = Posterior(x, groups, (ms - mean) / spread, _LATENCY_SCALES).mean() * spread
        return cls(weights, mean, float(np.sqrt(np.mean((x @ weights + mean - ms) ** 2))))

    def ms(self, x: FloatArray) -> FloatArray:
        return np.asarray(x @ self.weights + self.mean_ms)


@dataclass(frozen=True)
class Judged:
    """Gene rows (N, G), where they come from, and what is thought of them."""

    rows: Rows
    roots: npt.NDArray[np.int64]
    """Places among the elite that a row comes from, (N, 2)."""
    losses: FloatArray
    """(N, K + 1): by each turn's draw, and last as expected; in the units of `targets`."""
    times: Times

    def of(self, places: Sequence[int]) -> "Judged":
        """Return some of them."""
        times = {device: ms[places] for device, ms in self.times.items()}
        return Judged(self.rows[places], self.roots[places], self.losses[places], times)

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
    stand_ins: Mapping[str, LatencyStandIn]
    stairs: Stairs
    areas: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "areas", {device: stairs.area or 1.0 for device, stairs in self.stairs.items()})

    def errors(self, rows: Rows, times: Times) -> Times:
        """Return what the stand-ins lack of the predicted milliseconds of rows (N, G)."""
        x = self.features(rows)
        return {device: times[device] - stand_in.ms(x) for device, stand_in in self.stand_ins.items()}

    def look(self, rows: Rows, roots: npt.NDArray[np.int64], errors: Times) -> Judged:
        """Judge rows that come from an elite with these `errors`: what is bred from it has nearly the same ones."""
        x = self.features(rows)
        times = {d: stand_in.ms(x) + errors[d][roots].mean(axis=1) for d, stand_in in self.stand_ins.items()}
        return Judged(rows, roots, x @ self.weights, times)

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
        """Return losses (N, K + 1), infinite where a turn's limit is hardly kept.

        The best lie at the limit: what is just above it by the stand-in is let through.
        """
        scores = judged.losses.copy()
        for turn, limit in enumerate(self.turns):
            late = judged.times[limit.device] > limit.ms + self.stand_ins[limit.device].error_ms
            scores[late, turn] = np.inf
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

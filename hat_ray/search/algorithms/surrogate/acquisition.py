"""What the models expect of gene rows: losses by several draws, predicted milliseconds, and how good these are.

A turn of the search has a limit that is to be kept with the least loss. Some turns target the frontiers of all devices
taken together instead, where the models see a way to widen them. A child that breaks what limits bound beside the
latency adds nothing to their frontier.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hat_ray.latency.quantities import LATENCY
from hat_ray.search.algorithms.surrogate.features import FloatArray, GeneFeatures
from hat_ray.search.algorithms.surrogate.model import DECIMALS
from hat_ray.search.frontier import Staircase, pareto_front
from hat_ray.search.limits import Limit
from hat_ray.space.genes import Rows

Stairs = Mapping[Limit, Staircase]
"""By group of limits, what these bound beside the latency; losses in the units of `targets`."""
Values = Mapping[str, Mapping[str, FloatArray]]
"""Quantities (N,) by device and name."""


@dataclass(frozen=True)
class ScoredChildren:
    """Gene rows (N, G), their ancestors, and what the models expect of them."""

    rows: Rows
    ancestors: npt.NDArray[np.int64]
    """Places among the elite that a row comes from, (N, 2)."""
    losses: FloatArray
    """(N, K + 1): by each turn's draw, and last as expected; in the units of `targets`."""
    values: Values
    """Predicted by the devices' predictors."""

    def __add__(self, other: "ScoredChildren") -> "ScoredChildren":
        return ScoredChildren(
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.ancestors, other.ancestors]),
            np.concatenate([self.losses, other.losses]),
            {
                device: {name: np.concatenate([some, other.values[device][name]]) for name, some in columns.items()}
                for device, columns in self.values.items()
            },
        )


@dataclass(frozen=True)
class Acquisition:
    """The fitted models, a draw of weights for each of K turns, and the frontiers as they are."""

    features: GeneFeatures
    turns: Sequence[Limit]
    targets_frontier: Sequence[bool]
    """Whether each turn is to widen the frontiers."""
    weights: FloatArray
    """(P, K + 1), last the expected ones."""
    stairs: Stairs
    areas: Mapping[Limit, float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "areas", {group: stairs.area or 1.0 for group, stairs in self.stairs.items()})

    def losses(self, rows: Rows) -> FloatArray:
        """Return the losses of rows (N, G) by each draw, and last the expected ones: (N, K + 1)."""
        return np.round(self.features(rows) @ self.weights, DECIMALS)

    def scores(self, children: ScoredChildren) -> FloatArray:
        """Return (N, K + 1), lower is better: minus the gain of the frontiers, or the loss under a limit.

        The last column is minus the gain if the expected losses hold.
        """
        scores = self.under_limits(children)
        scores[:, -1] = -self.gains(children.losses[:, -1], children.values, self.stairs)
        for turn in np.flatnonzero(self.targets_frontier):
            gains = self.gains(children.losses[:, turn], children.values, self.stairs)
            if gains.any():
                scores[:, turn] = -gains
        return scores

    def under_limits(self, children: ScoredChildren) -> FloatArray:
        """Return losses (N, K + 1), infinite where a turn's limit is not kept."""
        scores = children.losses.copy()
        for turn, limit in enumerate(self.turns):
            scores[~limit.keeps(children.values[limit.device]), turn] = np.inf
        return scores

    def gains(self, losses: FloatArray, values: Values, stairs: Stairs) -> FloatArray:
        """Return how much points (N,) add to the frontiers, as a share of each one's area, summed over all."""
        shares = [_gains(stair, group, losses, values) / self.areas[group] for group, stair in stairs.items()]
        return np.asarray(np.sum(shares, axis=0))

    def promising(self, children: ScoredChildren, count: int) -> list[int]:
        """Return the places that should widen a frontier and are beaten by none, up to `count` for each."""
        found: dict[int, None] = {}
        losses = children.losses[:, -1]
        for group, stairs in self.stairs.items():
            gains = _gains(stairs, group, losses, children.values)
            some = np.flatnonzero(gains > 0)
            front = some[pareto_front(losses[some], children.values[group.device][LATENCY][some])]
            order = np.argsort(-gains[front], kind="stable")[:count]
            found.update(dict.fromkeys(front[order].tolist()))
        return list(found)


def _gains(stairs: Staircase, group: Limit, losses: FloatArray, values: Values) -> FloatArray:
    """Return the gain (N,) of points to one frontier: 0 where they break the other bounds of its limits."""
    gains = stairs.gains(losses, values[group.device][LATENCY])
    return np.where(group.keeps(values[group.device]), gains, 0.0) if group.bounds else gains


def with_point(stairs: Stairs, loss: float, values: Mapping[str, Mapping[str, float]]) -> Stairs:
    """Return the frontiers with one more point on those whose other bounds it keeps."""
    return {
        group: stair.with_point(loss, values[group.device][LATENCY]) if group.keeps(values[group.device]) else stair
        for group, stair in stairs.items()
    }


def best_places(scores: FloatArray, count: int) -> npt.NDArray[np.int64]:
    """Return the places of each column's lowest scores, (count or fewer, K), lowest first."""
    count = min(count, len(scores))
    if count == 0:
        return np.zeros((0, scores.shape[1]), dtype=np.int64)
    return np.argsort(scores, axis=0, kind="stable")[:count]

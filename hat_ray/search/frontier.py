"""The frontier: what no other candidate beats in both loss and latency, and how much of the plane it takes.

What a search found: the winner of each limit and the frontier of each device.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from hat_ray.search.candidates import Candidate
from hat_ray.search.limits import Limit

FloatArray = npt.NDArray[np.float64]
ItemT = TypeVar("ItemT")


def pareto_front(losses: Sequence[float] | FloatArray, latencies_ms: Sequence[float] | FloatArray) -> list[int]:
    """Return the places of the points that no other point beats, fastest first; both arrays (N,), smaller is better.

    A point beats another when it is no worse in both and better in one; equal points therefore stand together.
    Points with a NaN or an infinite value stand aside.
    """
    loss, latency = np.asarray(losses, dtype=np.float64), np.asarray(latencies_ms, dtype=np.float64)
    finite = np.flatnonzero(np.isfinite(loss) & np.isfinite(latency))
    order = finite[np.lexsort((loss[finite], latency[finite]))]
    front: list[int] = []
    for place in order.tolist():
        last = front[-1] if front else None
        if last is None or loss[place] < loss[last] or (loss[place] == loss[last] and latency[place] == latency[last]):
            front.append(place)
    return front


class GrowingFront(Generic[ItemT]):
    """The points that no other beats, as `pareto_front` finds them, of points that come one by one.

    A point costs the logarithm of the front's size, and what it beats.
    """

    def __init__(self) -> None:
        self.latencies_ms: list[float] = []
        """(F,), rising."""
        self.losses: list[float] = []
        """(F,), falling, but for equal points."""
        self.items: list[ItemT] = []

    def add(self, loss: float, latency_ms: float, item: ItemT) -> bool:
        """Add a point; return whether the front has changed. Equal points stand together, in the order of adding."""
        if not (math.isfinite(loss) and math.isfinite(latency_ms)):
            return False
        first = end = bisect_right(self.latencies_ms, latency_ms)
        if first and (self.losses[first - 1] < loss or self._is_tie(first - 1, loss, latency_ms)):
            return False
        while first and self.latencies_ms[first - 1] == latency_ms and self.losses[first - 1] > loss:
            first -= 1
        while end < len(self.losses) and self.losses[end] >= loss:
            end += 1
        self.latencies_ms[first:end], self.losses[first:end], self.items[first:end] = [latency_ms], [loss], [item]
        return True

    def _is_tie(self, place: int, loss: float, latency_ms: float) -> bool:
        """Return whether a point of the front has that loss, and is faster."""
        return self.losses[place] == loss and self.latencies_ms[place] < latency_ms

    def least_loss(self, latency_ms: float) -> float:
        """Return the least loss of the points that take no longer; infinite where there is none."""
        place = bisect_right(self.latencies_ms, latency_ms)
        return self.losses[place - 1] if place else math.inf


def hypervolume(
    losses: Sequence[float] | FloatArray, latencies_ms: Sequence[float] | FloatArray, reference: tuple[float, float]
) -> float:
    """Return the area that the points dominate up to `reference`, a (loss, latency) that they should be better than."""
    loss, latency = np.asarray(losses, dtype=np.float64), np.asarray(latencies_ms, dtype=np.float64)
    area, height = 0.0, reference[0]
    for place in pareto_front(loss, latency):
        width = reference[1] - float(latency[place])
        gain = height - float(loss[place])
        if width > 0 and gain > 0:
            area += width * gain
            height = float(loss[place])
    return area


@dataclass(frozen=True)
class Staircase:
    """The frontier on one device up to a reference: what a new point would add to the hypervolume."""

    losses: FloatArray
    """(F,), falling."""
    latencies_ms: FloatArray
    """(F,), rising."""
    reference: tuple[float, float]

    @classmethod
    def of(cls, losses: FloatArray, latencies_ms: FloatArray, reference: tuple[float, float]) -> "Staircase":
        """Build it from any points; those not better than the reference in both are left out."""
        inside = np.flatnonzero((losses < reference[0]) & (latencies_ms < reference[1]))
        front = inside[pareto_front(losses[inside], latencies_ms[inside])]
        front = front[np.unique(latencies_ms[front], return_index=True)[1]]
        return cls(losses[front], latencies_ms[front], reference)

    def gains(self, losses: FloatArray, latencies_ms: FloatArray) -> FloatArray:
        """Return the area (N,) that each of N points would add alone."""
        if not np.isfinite(self.reference[0]):
            return np.zeros(len(losses))
        edges = np.append(self.latencies_ms, self.reference[1])
        below = np.concatenate([[0.0], np.cumsum(self.losses * np.diff(edges))])  # under the stairs, up to each edge
        ends = edges[np.searchsorted(-self.losses, -losses, side="left")]
        starts = np.minimum(latencies_ms, ends)
        left = np.minimum(np.minimum(starts, edges[0]) - edges[0], 0.0)  # before the first stair
        first = np.minimum(ends, edges[0]) - edges[0]
        under = np.interp(ends, edges, below) - np.interp(starts, edges, below) + self.reference[0] * (first - left)
        gains = under - losses * (ends - starts)
        return np.where(losses < self.reference[0], np.maximum(gains, 0.0), 0.0)

    def with_point(self, loss: float, latency_ms: float) -> "Staircase":
        return Staircase.of(np.append(self.losses, loss), np.append(self.latencies_ms, latency_ms), self.reference)

    @property
    def area(self) -> float:
        """The rectangle from the lower left corner of the frontier to the reference; 0 without a frontier."""
        if len(self.losses) == 0:
            return 0.0
        return (self.reference[0] - float(self.losses[-1])) * (self.reference[1] - float(self.latencies_ms[0]))


@dataclass(frozen=True)
class Winner:
    """The best candidate that keeps a limit."""

    limit: Limit
    candidate: Candidate


@dataclass(frozen=True)
class SearchResult:
    """Every candidate in the order of asking; the winner of each limit; each device's frontier, fastest first."""

    candidates: tuple[Candidate, ...]
    winners: tuple[Winner, ...]
    frontiers: Mapping[str, tuple[Candidate, ...]]


def summarise(candidates: Sequence[Candidate], limits: Sequence[Limit]) -> SearchResult:
    """Pick winners and frontiers from scored candidates: where some were measured to keep a limit, one of these."""
    devices = tuple(dict.fromkeys(limit.device for limit in limits))
    winners, whole = [], scored_whole(candidates)
    for limit in limits:
        within = [candidate for candidate in whole if limit.keeps(candidate.known(limit.device))]
        measured = [candidate for candidate in within if limit.device in candidate.measured_ms]
        best = favourite(measured or within, limit)
        if best is not None:
            winners.append(Winner(limit, best))
    return SearchResult(tuple(candidates), tuple(winners), {device: frontier(candidates, device) for device in devices})


def scored_whole(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates whose loss is no estimate: only these win, or stand on a frontier."""
    return [candidate for candidate in candidates if not candidate.estimated]


def favourite(
    candidates: Sequence[Candidate], limit: Limit, caution: Mapping[str, Mapping[str, float]] | None = None
) -> Candidate | None:
    """Return the candidate with the least loss that keeps a limit, by all that is known.

    `caution` has factors by device and quantity: what was not measured must keep the limit even if its quantities are
    that many times larger; if nothing does, the one with the most room is returned of what was not measured.
    """
    device, factors = limit.device, (caution or {}).get(limit.device, {})
    within = [one for one in scored_whole(candidates) if limit.keeps(one.known(device))]

    def surely_keeps(one: Candidate) -> bool:
        larger = {name: factors.get(name, 1.0) * value for name, value in one.known(device).items()}
        return device in one.measured_ms or limit.keeps(larger)

    surely = [one for one in within if surely_keeps(one)]
    if surely or not within:
        return min(surely, key=lambda candidate: (candidate.loss_bits, candidate.order), default=None)
    return min(within, key=lambda candidate: (limit.excess(candidate.known(device)), candidate.order))


def frontier(candidates: Sequence[Candidate], device: str, group: Limit | None = None) -> tuple[Candidate, ...]:
    """Return the candidates that no other beats in both loss and latency on a device, fastest first.

    With a group of limits: of those that keep what it bounds beside the latency.
    """
    candidates = [one for one in scored_whole(candidates) if group is None or group.keeps(one.known(device))]
    places = pareto_front([c.loss_bits for c in candidates], [c.takes_ms(device) for c in candidates])
    return tuple(candidates[place] for place in places)

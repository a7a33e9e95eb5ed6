"""Everything that one search knows: what was proposed, what it scored, what it takes on each device."""

import math
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hat_ray.errors import SearchError
from hat_ray.search.frontier import pareto_front
from hat_ray.search.limits import LatencyFunction, Limit, fastest, require_reachable
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace


@dataclass(frozen=True)
class Proposal:
    """An architecture that was asked for, and where it came from."""

    architecture: Architecture
    order: int
    generation: int
    """0 for random ones; then what HAT would count, by order and not by waiting."""
    origin: str
    """`fastest`, `random`, `mutation`, `crossover`, `surrogate`; `told` when it came from outside."""
    parents: tuple[str, ...] = ()
    """Ids of the architectures that it was bred from."""


class Archive:
    """Proposals, losses and milliseconds of one search, and the ranking of what keeps each limit."""

    def __init__(self, space: SearchSpace, latency_ms: Mapping[str, LatencyFunction], limits: Sequence[Limit]) -> None:
        if not limits:
            raise SearchError("a search needs at least one limit, got none: set search.limits_ms")
        self.space, self.limits = space, tuple(limits)
        self._latency_ms = dict(latency_ms)
        self.fastest = self._find_fastest()
        for limit in self.limits:
            require_reachable(limit, self.latencies_of([self.fastest[limit.device]])[limit.device][0])
        self.proposals: dict[Architecture, Proposal] = {}
        self.losses: dict[Architecture, float] = {}
        """In the order of telling; infinite where scoring gave no number."""
        self.estimated: set[Architecture] = set()
        """Those whose loss is an estimate: they are learned from, and are nobody's best."""
        self._times: dict[Architecture, dict[str, float]] = {}
        self._ranked: dict[Limit, list[tuple[float, int, Architecture]]] = {limit: [] for limit in self.limits}

    def _find_fastest(self) -> dict[str, Architecture]:
        for limit in self.limits:
            if limit.device not in self._latency_ms:
                raise SearchError(f"no predictor for {limit.device}; there are some for {', '.join(self._latency_ms)}")
        return {device: fastest(self.space, function)[0] for device, function in self._latency_ms.items()}

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(self._latency_ms)

    @property
    def limited(self) -> tuple[str, ...]:
        """The devices that have a limit."""
        return tuple(dict.fromkeys(limit.device for limit in self.limits))

    def times(self, architecture: Architecture) -> dict[str, float]:
        """Return the milliseconds of one architecture by device, kept once they were asked for."""
        if architecture not in self._times:
            self.remember([architecture])
        return self._times[architecture]

    def remember(self, architectures: Sequence[Architecture]) -> None:
        """Predict and keep the milliseconds of architectures."""
        columns = self.latencies_of(architectures)
        for place, architecture in enumerate(architectures):
            self._times[architecture] = {device: float(column[place]) for device, column in columns.items()}

    def latencies_of(
        self, architectures: Sequence[Architecture], devices: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Return milliseconds (N,) by device, of all or of some devices, with one call for each."""
        functions = {device: self._latency_ms[device] for device in devices or self._latency_ms}
        if not architectures:
            return {device: np.zeros(0) for device in functions}
        return {device: np.asarray(function(architectures), dtype=np.float64) for device, function in functions.items()}

    def keeps(self, architecture: Architecture, limit: Limit) -> bool:
        return self.times(architecture)[limit.device] <= limit.ms

    def best(self, limit: Limit, count: int) -> list[Architecture]:
        """Return the scored architectures with the least loss that keep a limit, best first."""
        return [entry[2] for entry in self._ranked[limit][:count]]

    def front(self, device: str) -> list[Architecture]:
        """Return the scored architectures on a device's frontier, fastest first."""
        told = [architecture for architecture in self.losses if architecture not in self.estimated]
        losses = [self.losses[architecture] for architecture in told]
        places = pareto_front(losses, [self.times(architecture)[device] for architecture in told])
        return [told[place] for place in places]

    def latest(self, limit: Limit, count: int) -> list[Architecture]:
        """Return the architectures that were told last and keep a limit, latest first."""
        found: list[Architecture] = []
        for architecture in reversed(self.losses):
            if self.keeps(architecture, limit):
                found.append(architecture)
            if len(found) == count:
                break
        return found

    def told(self, architecture: Architecture, loss: float, *, estimated: bool = False) -> list[Limit]:
        """Keep a loss; return the limits that the architecture keeps, none when the loss is no number."""
        self.losses[architecture] = loss if math.isfinite(loss) else math.inf
        if estimated:
            self.estimated.add(architecture)
        return self._rank(architecture, self.losses[architecture])

    def _rank(self, architecture: Architecture, loss: float) -> list[Limit]:
        if not math.isfinite(loss):
            return []
        kept = [limit for limit in self.limits if self.keeps(architecture, limit)]
        for limit in kept if architecture not in self.estimated else ():
            insort(self._ranked[limit], (loss, self.proposals[architecture].order, architecture))
        return kept

    def update_latency(self, latency_ms: Mapping[str, LatencyFunction]) -> None:
        """Take other predictors for the same devices: predict everything known again and rank it anew.

        A limit that nothing keeps by the new ones stays without a winner: no error, since the search is under way.
        """
        missing = [device for device in self._latency_ms if device not in latency_ms]
        if missing:
            raise SearchError(
                f"no new predictor for {missing[0]}: a search goes on with the devices that it began with"
            )
        self._latency_ms = {device: latency_ms[device] for device in self._latency_ms}
        self.fastest = self._find_fastest()
        self._times.clear()
        self.remember(list(self.proposals))
        self._ranked = {limit: [] for limit in self.limits}
        for architecture, loss in self.losses.items():
            self._rank(architecture, loss)

"""The archive of one search: proposals, their losses, and their latency on each device."""

import math
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
    origin: str
    """How it was made, such as `fastest`, `random`, `mutation`, `crossover`, `surrogate`; `external` where another
    search scored it."""
    generation: int = 0
    """0 for random ones; then HAT's generations, counted by order and not by waiting."""
    parents: tuple[str, ...] = ()
    """Ids of the architectures that it was bred from."""
    order: int = 0
    """Place among all proposals; the archive sets it."""


@dataclass(frozen=True)
class Scored:
    """An architecture whose loss arrived."""

    architecture: Architecture
    loss: float
    """In bits per token; infinite where scoring gave no number."""
    estimated: bool
    """Whether the loss is an estimate: it is learned from, and never wins."""
    kept: tuple[Limit, ...]
    """The limits that the architecture keeps; empty where the loss is infinite."""


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
        """In the order of arrival; infinite where scoring gave no number."""
        self.estimated: set[Architecture] = set()
        """Architectures whose loss is an estimate: they are learned from, and never win."""
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

    def propose(self, proposal: Proposal) -> None:
        """Add a proposal as the next one."""
        self.proposals[proposal.architecture] = replace(proposal, order=len(self.proposals))

    def times(self, architecture: Architecture) -> dict[str, float]:
        """Return the milliseconds of one architecture by device; predict them once."""
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
        whole = [architecture for architecture in self.losses if architecture not in self.estimated]
        losses = [self.losses[architecture] for architecture in whole]
        places = pareto_front(losses, [self.times(architecture)[device] for architecture in whole])
        return [whole[place] for place in places]

    def latest(self, limit: Limit, count: int) -> list[Architecture]:
        """Return the architectures that were scored last and keep a limit, latest first."""
        found: list[Architecture] = []
        for architecture in reversed(self.losses):
            if self.keeps(architecture, limit):
                found.append(architecture)
            if len(found) == count:
                break
        return found

    def record(self, architecture: Architecture, loss: float, *, estimated: bool = False) -> Scored:
        """Keep the loss of a proposal and rank it under the limits that it keeps."""
        self.losses[architecture] = loss if math.isfinite(loss) else math.inf
        if estimated:
            self.estimated.add(architecture)
        kept = self._rank(architecture, self.losses[architecture])
        return Scored(architecture, self.losses[architecture], estimated, tuple(kept))

    def _rank(self, architecture: Architecture, loss: float) -> list[Limit]:
        if not math.isfinite(loss):
            return []
        kept = [limit for limit in self.limits if self.keeps(architecture, limit)]
        for limit in kept if architecture not in self.estimated else ():
            insort(self._ranked[limit], (loss, self.proposals[architecture].order, architecture))
        return kept

    def update_latency(self, latency_ms: Mapping[str, LatencyFunction]) -> None:
        """Replace the predictors of the same devices: predict and rank every architecture again.

        A limit that nothing keeps any more has no winner: no error, since the search is under way.
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

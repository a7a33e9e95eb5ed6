"""The archive of one search: proposals, their losses, and their latency on each device."""

import math
from bisect import insort
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from hat_ray.errors import SearchError
from hat_ray.latency.quantities import LATENCY
from hat_ray.search.frontier import GrowingFront
from hat_ray.search.limits import Limit, Predictions
from hat_ray.search.reach import fastest, require_reachable, surest
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace

_AT_HAND = 1_024
"""Architectures under each limit that are ranked, or known as the latest; more are looked for among all."""


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


Values = Mapping[str, float]
"""By quantity: the latency, and what limits bound beside it."""
Columns = Mapping[str, npt.NDArray[np.float64]]
"""Values of architectures (N,) by quantity."""


class Archive:
    """Proposals, losses and predicted quantities of one search, and the ranking of what keeps each limit."""

    def __init__(self, space: SearchSpace, predictions: Predictions, limits: Sequence[Limit]) -> None:
        if not limits:
            raise SearchError("a search needs at least one limit, got none: set search.limits_ms")
        self.space, self.limits = space, tuple(limits)
        self.groups = tuple(dict.fromkeys(limit.group for limit in limits))
        """What the limits bound beside the latency: each group has a frontier of loss against latency."""
        self._predictions = {device: dict(functions) for device, functions in predictions.items()}
        self._require_predictors()
        nearest = self._look_for_ends()
        for limit in self.limits:
            require_reachable(self.space, self._predictions[limit.device], limit, nearest[limit])
        self.proposals: dict[Architecture, Proposal] = {}
        self.losses: dict[Architecture, float] = {}
        """In the order of arrival; infinite where scoring gave no number."""
        self.estimated: set[Architecture] = set()
        """Architectures whose loss is an estimate: they are learned from, and never win."""
        self._values: dict[Architecture, dict[str, Values]] = {}
        self._forget_places()

    def _forget_places(self) -> None:
        self._ranked: dict[Limit, list[tuple[float, int, Architecture]]] = {limit: [] for limit in self.limits}
        """The best that keep a limit: loss, order, architecture."""
        self._latest = {limit: deque[Architecture](maxlen=_AT_HAND) for limit in self.limits}
        """Those scored last that keep a limit, the latest last."""
        self._fronts: dict[Limit, GrowingFront[Architecture]] = {group: GrowingFront() for group in self.groups}

    def _require_predictors(self) -> None:
        for limit in self.limits:
            if limit.device not in self._predictions:
                raise SearchError(f"no predictor for {limit.device}; there are some for {', '.join(self._predictions)}")
            for name in limit.by_quantity:
                if name not in self._predictions[limit.device]:
                    raise SearchError(f"nothing predicts {name} on {limit.device}: leave it out of search.limits")

    def _look_for_ends(self) -> dict[Limit, Values]:
        """Find each device's fastest architecture, and each limit's surest; return the values of the latter."""
        found = {device: fastest(self.space, functions[LATENCY]) for device, functions in self._predictions.items()}
        self.fastest = {device: architecture for device, (architecture, _) in found.items()}
        self.surest: dict[Limit, Architecture] = {}
        """By limit, the architecture that keeps it with the most room: the fastest, where it bounds latency alone."""
        values: dict[Limit, Values] = {}
        for limit in self.limits:
            if limit.has_latency_only:
                architecture, ms = found[limit.device]
                self.surest[limit], values[limit] = architecture, {LATENCY: ms}
            else:
                self.surest[limit], values[limit] = surest(self.space, self._predictions[limit.device], limit)
        return values

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(self._predictions)

    @property
    def limited(self) -> tuple[str, ...]:
        """The devices that have a limit."""
        return tuple(dict.fromkeys(limit.device for limit in self.limits))

    def propose(self, proposal: Proposal) -> None:
        """Add a proposal as the next one."""
        self.proposals[proposal.architecture] = replace(proposal, order=len(self.proposals))

    def values(self, architecture: Architecture) -> dict[str, Values]:
        """Return one architecture's quantities by device; predict them once."""
        if architecture not in self._values:
            self.remember([architecture])
        return self._values[architecture]

    def times(self, architecture: Architecture) -> dict[str, float]:
        """Return the milliseconds of one architecture by device."""
        return {device: values[LATENCY] for device, values in self.values(architecture).items()}

    def remember(self, architectures: Sequence[Architecture]) -> None:
        """Predict and keep the quantities of architectures."""
        columns = self.predict(architectures)
        for place, architecture in enumerate(architectures):
            self._values[architecture] = {
                device: {name: float(column[place]) for name, column in of_device.items()}
                for device, of_device in columns.items()
            }

    def predict(
        self, architectures: Sequence[Architecture], devices: Sequence[str] | None = None
    ) -> dict[str, dict[str, npt.NDArray[np.float64]]]:
        """Return quantities (N,) by device and name, of all or of some devices, with one call for each."""
        some = {device: self._predictions[device] for device in devices or self._predictions}
        if not architectures:
            return {device: {name: np.zeros(0) for name in functions} for device, functions in some.items()}
        return {
            device: {
                name: np.asarray(function(architectures), dtype=np.float64) for name, function in functions.items()
            }
            for device, functions in some.items()
        }

    def keeping(self, architectures: Sequence[Architecture], limit: Limit) -> npt.NDArray[np.bool_]:
        """Return which architectures keep a limit, (N,), without keeping their predictions."""
        return limit.keeps(self.predict(architectures, [limit.device])[limit.device])

    def keeps(self, architecture: Architecture, limit: Limit) -> bool:
        return limit.keeps(self.values(architecture)[limit.device])

    def best(self, limit: Limit, count: int) -> list[Architecture]:
        """Return the scored architectures with the least loss that keep a limit, best first."""
        ranked = self._ranked[limit]
        if count > _AT_HAND == len(ranked):
            whole = (one for one, loss in self.losses.items() if math.isfinite(loss) and one not in self.estimated)
            ranked = sorted(self._entry(one) for one in whole if self.keeps(one, limit))
        return [entry[2] for entry in ranked[:count]]

    def _entry(self, architecture: Architecture) -> tuple[float, int, Architecture]:
        return self.losses[architecture], self.proposals[architecture].order, architecture

    def front(self, group: Limit) -> list[Architecture]:
        """Return the scored architectures on the frontier of a group of limits, fastest first."""
        return list(self._fronts[group].items)

    def widest_ms(self, group: Limit) -> float:
        """Return the highest latency bound in a group, or the largest architecture's latency where one has none."""
        most = max(limit.ms for limit in self.limits if limit.group == group)
        if math.isfinite(most):
            return most
        return float(self._predictions[group.device][LATENCY]([self.space.largest()])[0])

    def latest(self, limit: Limit, count: int) -> list[Architecture]:
        """Return the architectures that were scored last and keep a limit, latest first."""
        latest = self._latest[limit]
        if count <= _AT_HAND or len(latest) < _AT_HAND:
            return list(islice(reversed(latest), count))
        return list(islice((one for one in reversed(self.losses) if self.keeps(one, limit)), count))

    def sample(self, count: int) -> list[Architecture]:
        """Return up to `count` scored architectures, at even distances in the order of arrival."""
        return list(islice(self.losses, 0, None, max(1, math.ceil(len(self.losses) / count))))

    def record(self, architecture: Architecture, loss: float, *, estimated: bool = False) -> Scored:
        """Keep the loss of a proposal and rank it under the limits that it keeps."""
        self.losses[architecture] = loss if math.isfinite(loss) else math.inf
        if estimated:
            self.estimated.add(architecture)
        kept = self._place(architecture)
        return Scored(architecture, self.losses[architecture], estimated, tuple(kept))

    def _place(self, architecture: Architecture) -> list[Limit]:
        """Place a scored architecture under the limits that it keeps and on frontiers; return those limits."""
        kept = [limit for limit in self.limits if self.keeps(architecture, limit)]
        for limit in kept:
            self._latest[limit].append(architecture)
        loss = self.losses[architecture]
        if not math.isfinite(loss):
            return []
        if architecture not in self.estimated:
            for limit in kept:
                insort(self._ranked[limit], self._entry(architecture))
                del self._ranked[limit][_AT_HAND:]
            for group, front in self._fronts.items():
                if self.keeps(architecture, group):
                    front.add(loss, self.values(architecture)[group.device][LATENCY], architecture)
        return kept

    def update_predictions(self, predictions: Predictions) -> None:
        """Replace the predictors of the same devices: predict and rank every architecture again.

        A limit that nothing keeps any more has no winner: no error, since the search is under way.
        """
        missing = [device for device in self._predictions if device not in predictions]
        if missing:
            raise SearchError(
                f"no new predictor for {missing[0]}: a search resumes with the devices that it began with"
            )
        self._predictions = {device: dict(predictions[device]) for device in self._predictions}
        self._require_predictors()
        self._look_for_ends()
        self._values.clear()
        self.remember(list(self.proposals))
        self._forget_places()
        for architecture in self.losses:
            self._place(architecture)

"""Progress of a search: its frontiers as they grow, and the rules that stop it."""

import math
import time
from collections.abc import Mapping, Sequence

from hat_ray.latency.quantities import LATENCY
from hat_ray.search.config import SearchConfig
from hat_ray.search.frontier import GrowingFront, hypervolume
from hat_ray.search.limits import Limit

Values = Mapping[str, Mapping[str, float]]
"""Quantities of one architecture by device and name."""


class FrontierTracker:
    """The hypervolume of each frontier of loss against latency, as a share of the plane up to a reference.

    A device has one of all candidates, and one of those that keep what a group of its limits bounds beside the latency.
    The reference is the largest architecture's latency and the worst loss among the first `settle` candidates.
    """

    def __init__(self, largest_ms: Mapping[str, float], settle: int, limits: Sequence[Limit] = ()) -> None:
        self._largest_ms, self._settle = dict(largest_ms), settle
        self._worst, self._count = 0.0, 0
        groups = dict.fromkeys([*(Limit(device, ()) for device in largest_ms), *(limit.group for limit in limits)])
        self._fronts: dict[Limit, GrowingFront[None]] = {group: GrowingFront() for group in groups}
        self._shares: dict[Limit, float] = {}
        """Hypervolumes that still hold."""

    @property
    def settled(self) -> bool:
        """Whether the reference is final."""
        return self._count >= self._settle

    def add(self, loss: float, values: Values, *, estimated: bool = False) -> None:
        """Add a candidate; one whose loss is an estimate stands on no frontier."""
        if not self.settled and math.isfinite(loss) and loss > self._worst:
            self._worst = loss
            self._shares.clear()
        self._count += 1
        if estimated:
            return
        for group, front in self._fronts.items():
            if group.keeps(values[group.device]) and front.add(loss, values[group.device][LATENCY], None):
                self._shares.pop(group, None)

    def least_loss(self, values: Values) -> float:
        """Return the loss below which an architecture with these quantities is on some frontier.

        It is the least loss of the candidates that take no longer, on the frontier where that is highest, of those
        whose other bounds the architecture keeps: it cannot win elsewhere. Infinite where one of these has none.
        """
        least = [
            front.least_loss(values[group.device][LATENCY])
            for group, front in self._fronts.items()
            if group.keeps(values[group.device])
        ]
        return max(least, default=math.inf)

    def hypervolumes(self) -> dict[Limit, float]:
        """Return each frontier's share, from 0 to 1."""
        return {group: self._share(group) for group in self._fronts}

    def _share(self, group: Limit) -> float:
        if group not in self._shares:
            front, reference = self._fronts[group], (self._worst, self._largest_ms[group.device])
            whole = reference[0] * reference[1]
            area = hypervolume(front.losses, front.latencies_ms, reference)
            self._shares[group] = area / whole if whole > 0 else 0.0
        return self._shares[group]


class StopRule:
    """Decides whether a search should stop: its time is over, or its frontiers grow no more."""

    def __init__(self, config: SearchConfig, spent_s: float = 0.0) -> None:
        self._config, self._spent_before_s = config, spent_s
        self._began = time.monotonic()
        self._marks: dict[Limit, float] = {}
        self._idle = 0

    @property
    def spent_s(self) -> float:
        """Seconds of search, those before a kill included."""
        return self._spent_before_s + time.monotonic() - self._began

    def count(self, frontiers: FrontierTracker) -> None:
        """Count an evaluation, and whether it made a frontier grow."""
        if self._config.patience_evaluations is None or not frontiers.settled:
            return
        self._idle += 1
        for group, volume in frontiers.hypervolumes().items():
            if volume > self._marks.get(group, 0.0) * (1 + self._config.patience_growth):
                self._marks[group], self._idle = volume, 0

    def reason(self) -> str | None:
        """Return why to stop, or None."""
        config = self._config
        if config.max_seconds is not None and self.spent_s >= config.max_seconds:
            return f"search.max_seconds {config.max_seconds:g} are over"
        if config.patience_evaluations is not None and self._idle >= config.patience_evaluations:
            return (
                f"no device's hypervolume grew by {100 * config.patience_growth:g} % in {self._idle} evaluations "
                f"(search.patience_evaluations)"
            )
        return None

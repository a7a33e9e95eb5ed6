"""How many architectures one trial scores.

A trial costs Ray Tune's driver 50 to 90 ms however many architectures it holds, and the driver serves all workers. So a
trial is given about `search.batch_seconds` of work, or more where the driver could not keep so many workers busy; less
towards the end, so that no worker waits for the last one; and never so much that evolution has little to learn from.

Where the driver leaves each worker's next batch of architectures, and the worker waits for it.

It stands alone, without PyTorch, because it becomes a process of its own on a cluster, and that must start quickly.

What a cluster's dashboard shows of a search while it runs: metrics by name, told by the driver.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from hat_ray.search.engine.session import Session

Order = tuple[str, tuple[float, ...]]
"""An architecture in canonical JSON, and its bars of early stopping."""


class Desk:
    """A queue of batches for each worker; None instead of a batch: the search is over."""

    def __init__(self) -> None:
        self._batches: defaultdict[str, asyncio.Queue[list[Order] | None]] = defaultdict(asyncio.Queue)

    async def put(self, worker: str, batch: list[Order] | None) -> None:
        await self._batches[worker].put(batch)

    async def take(self, worker: str) -> list[Order] | None:
        """Return the next batch as soon as there is one."""
        return await self._batches[worker].get()


_TRIAL_COST_S = 0.1
"""What one trial costs the driver, the slow case."""
_DRIVER_SHARE = 0.5
"""Share of the driver's time that trials may take."""
_MEMORY = 0.8
_PARTS = 20
"""What is under way on all workers is at most the search's twentieth part, unless the driver is the bound."""


class TrialSizes:
    """Measures what a candidate takes, and says how many the next trial gets."""

    def __init__(self, workers: int, batch_seconds: float, most: int, evaluations: int) -> None:
        self._workers, self._trial_seconds, self._most = workers, batch_seconds, most
        self._under_way = max(1, evaluations // _PARTS // workers)
        self._candidate_s: float | None = None
        self._ask_s = 0.0

    def scored(self, seconds: float) -> None:
        """Learn what one candidate took its worker."""
        self._candidate_s = _mixed(self._candidate_s, seconds)

    def asked(self, seconds: float) -> None:
        """Learn what finding a trial's candidates took the driver."""
        self._ask_s = _mixed(self._ask_s, seconds)

    def next(self, left: int) -> int:
        """Return the size of the next trial when `left` candidates are still to be asked for; at least 1."""
        if self._candidate_s is None:
            return 1  # the first of each worker measure
        each_s = max(self._candidate_s, 1e-4)
        cost_s = (_TRIAL_COST_S + self._ask_s) * self._workers
        fewest = math.ceil(cost_s / each_s)  # the driver is just busy all the time
        wanted = math.ceil(max(self._trial_seconds, cost_s / _DRIVER_SHARE) / each_s)
        ending = math.ceil(left / (2 * self._workers))
        fair = math.ceil(left / self._workers)
        return max(1, min(max(fewest, min(wanted, ending, self._under_way)), fair, self._most))


def _mixed(before: float | None, seconds: float) -> float:
    return seconds if before is None else _MEMORY * before + (1 - _MEMORY) * seconds


EVALUATIONS = "hat_ray_search_evaluations"
BEST = "hat_ray_search_best_loss_bits"
HYPERVOLUME = "hat_ray_search_hypervolume"

METRICS = {
    EVALUATIONS: "Architectures scored, those of earlier rounds and runs apart",
    BEST: "Least validation loss, in bits a target token, of the architectures that keep a limit",
    HYPERVOLUME: "Share of the plane of loss and latency that a device's frontier dominates, from 0 to 1",
}
"""Descriptions by name."""


@dataclass(frozen=True)
class Sample:
    """One value of one metric; `device` and `limit_ms` are empty where it has none."""

    metric: str
    value: float
    device: str = ""
    limit_ms: str = ""


def samples(session: Session) -> Iterator[Sample]:
    """Return what is known now of a search."""
    evolution = session.evolution
    yield Sample(EVALUATIONS, session.done)
    for limit in evolution.limits:
        best = evolution.best(limit)
        if best is not None:
            yield Sample(BEST, evolution.losses[best], limit.device, f"{limit.ms:g}")
    for device, volume in session.frontiers.hypervolumes().items():
        yield Sample(HYPERVOLUME, volume, device)

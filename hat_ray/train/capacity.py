"""How many workers fit on a cluster, and how long training waits for room: plain rules, without Ray."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hat_ray.errors import HatRayError
from hat_ray.train.config import TrainConfig

_SECONDS_BETWEEN_REMINDERS = 60.0


def needs(config: TrainConfig) -> dict[str, float]:
    """Return the resources of one worker."""
    return {"CPU": float(config.threads), **({"GPU": 1.0} if config.use_gpu else {})}


def workers_that_fit(nodes: Iterable[Mapping[str, float]], need: Mapping[str, float]) -> int:
    """Return how many workers find room on the nodes, given by their resources; a worker stays within one node."""
    return sum(min(int(node.get(kind, 0.0) // amount) for kind, amount in need.items()) for node in nodes)


def fewest_workers(config: TrainConfig) -> int:
    return config.min_workers or config.workers


def share_each(count: int, config: TrainConfig, room: int) -> bool:
    """Return whether `count` models are trained by all their workers, one model after another.

    Side by side, by one worker each, no worker waits for another. That is slower only where there are fewer models than
    workers, of whom the cluster has room for `room`.
    """
    return count < min(config.workers, room) and fewest_workers(config) <= room


def too_small(
    config: TrainConfig, workers: int, nodes: Sequence[Mapping[str, float]], of_cluster: str = "the cluster"
) -> str:
    """Return in one line what `of_cluster`, the nodes in words, lacks."""
    need = needs(config)
    amounts = " and ".join(f"{workers * amount:g} {kind}s" for kind, amount in need.items())
    has = " and ".join(f"{sum(node.get(kind, 0.0) for node in nodes):g}" for kind in need)
    return (
        f"training needs {amounts} ({workers} workers), {of_cluster} has {has}, "
        f"room for {workers_that_fit(nodes, need)}"
    )


@dataclass
class Patience:
    """Seconds of waiting for nodes since the newest checkpoint."""

    config: TrainConfig
    waited_s: float = 0.0
    _newest: str | None = None
    _reminded: float = field(default=float("-inf"))

    def progressed(self, newest: str | None) -> None:
        """Take note of the newest checkpoint; one that was not there before starts the count anew."""
        if newest != self._newest:
            self._newest, self.waited_s = newest, 0.0

    def wait(self, seconds: float, why: str) -> str | None:
        """Count seconds of waiting; returns a reminder each minute. Raises HatRayError past the limit."""
        self.waited_s += seconds
        if self.waited_s > self.config.max_wait_s:
            raise HatRayError(
                f"{why}; it waited {self.waited_s:.0f} s: add nodes, lower train.workers or train.threads, set "
                "train.min_workers, or raise train.max_wait_s, and run it again: it resumes"
            )
        now = time.monotonic()
        if now - self._reminded < _SECONDS_BETWEEN_REMINDERS:
            return None
        self._reminded = now
        return f"{why}: it waits, {self.config.max_wait_s - self.waited_s:.0f} s more at most"

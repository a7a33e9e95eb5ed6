"""Room for training on a cluster: refuse what can never fit, wait for nodes, ask an autoscaler for them."""

import logging
import time
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources

from hat_ray.errors import HatRayError
from hat_ray.train.capacity import Patience, fewest_workers, needs, too_small, workers_that_fit
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import TrainJob

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 5.0
_NODE_GROUP = "ray.io/node-group"


def _nodes() -> list[dict[str, float]]:
    """Return the resources of each node that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def may_grow() -> bool:
    """Report whether an autoscaler may add nodes: it labels those that it starts with their group.

    Ray has no public question for this. Where the answer is wrong, training waits for `max_wait_s`, or is refused.
    """
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return any(node["Alive"] and node.get("Labels", {}).get(_NODE_GROUP) for node in nodes)


def require_room(job: TrainJob, workers: int) -> None:
    """Raise HatRayError when the cluster can never hold the workers, instead of waiting for them."""
    nodes = _nodes()
    room = workers_that_fit(nodes, needs(job.config))
    if room < workers and not may_grow():
        message = too_small(job.config, workers, nodes)
        raise HatRayError(f"{message}: lower train.workers or train.threads, or add nodes")


def room_for(config: TrainConfig) -> int:
    """Return how many workers find room on the nodes that there are now."""
    return workers_that_fit(_nodes(), needs(config))


def wait_for_room(patience: Patience) -> None:
    """Wait while nodes are missing, and ask an autoscaler for them; raises HatRayError when that takes too long."""
    has_asked = False
    try:
        while (what := missing(patience.config)) is not None:
            request_resources(bundles=[needs(patience.config)] * patience.config.workers)
            has_asked = True
            remind(patience, what)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        if has_asked:
            request_resources(bundles=[])  # Ray Train asks for its workers itself


def missing(config: TrainConfig) -> str | None:
    """Return the resources that the nodes lack for the fewest workers; None when they hold them."""
    nodes, fewest = _nodes(), fewest_workers(config)
    return too_small(config, fewest, nodes) if workers_that_fit(nodes, needs(config)) < fewest else None


def remind(patience: Patience, missing: str) -> None:
    """Count a wait between two looks, and warn each minute; raises HatRayError past the limit."""
    reminder = patience.wait(SECONDS_BETWEEN_LOOKS, missing)
    if reminder is not None:
        log.warning("%s", reminder)


def no_room(config: TrainConfig) -> str:
    """Return why workers do not start though the nodes hold them."""
    need = " and ".join(f"{amount:g} {kind}" for kind, amount in needs(config).items())
    return f"training finds no room for its workers, of {need} each: the cluster is busy or still growing"

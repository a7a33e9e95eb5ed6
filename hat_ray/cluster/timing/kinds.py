"""The nodes of a cluster, and which device each of them is: asked from the nodes themselves."""

import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hat_ray.cluster.growth import living_nodes
from hat_ray.errors import HatRayError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.detection import device_of
from hat_ray.latency.fleet.plan import Node, Placement
from hat_ray.latency.timing.job import TimingJob
from hat_ray.runtime.choice import ModelFacts


def cluster_nodes() -> list[Node]:
    """Return the nodes of the cluster that this process is connected to; those that will be taken away are left out."""
    return [
        Node(node["NodeID"], node["NodeManagerHostname"], dict(node.get("Labels") or {}), dict(node["Resources"]))
        for node in living_nodes()
    ]


class Kinds:
    """Which device each place is: asked from the places themselves, without waiting for slow ones."""

    def __init__(self, job: TimingJob) -> None:
        self._config, self._largest = job.config, job.largest
        self._known: dict[str, str] = {}
        self._asked: dict[str, tuple[Placement, Any, float]] = {}

    @property
    def refs(self) -> list[Any]:
        """Return the questions that an answer is still awaited for."""
        since = time.monotonic() - self._config.start_timeout_s
        return [ref for _, ref, asked_at in self._asked.values() if asked_at > since]

    def of(self, place: Placement) -> str | None:
        """Return a place's device, by slug, or None: it is not known yet."""
        return self._known.get(place.key)

    def ask(self, place: Placement) -> None:
        if place.key not in self._known and place.key not in self._asked:
            self._asked[place.key] = place, _probe(place, self._config, self._largest), time.monotonic()

    def learn(self, place: Placement, slug: str) -> None:
        self._known[place.key] = slug

    def hear(self) -> list[tuple[Placement, Exception]]:
        """Take the answers that have come; return the places where asking raised, and what."""
        broken: list[tuple[Placement, Exception]] = []
        asked = {ref: (key, place) for key, (place, ref, _) in self._asked.items()}
        ready = ray.wait(list(asked), num_returns=len(asked), timeout=0)[0] if asked else []
        for ref in ready:
            key, place = asked[ref]
            del self._asked[key]
            try:
                self._known[key] = ray.get(ref)
            except RayTaskError as error:
                broken.append((place, cause_of(error)))
            except RayError:  # its node left; asked again when it is back
                continue
        return broken

    def forget_all_but(self, places: Sequence[Placement]) -> None:
        """Give up the questions to places that are no longer there."""
        keys = {place.key for place in places}
        self._asked = {key: asked for key, asked in self._asked.items() if key in keys}


@ray.remote(num_cpus=0, max_retries=1)
def _slug_here(config: LatencyConfig, selector: DeviceSelector, largest: ModelFacts) -> str:
    return device_of(config, selector, largest).slug


def _probe(placement: Placement, config: LatencyConfig, largest: ModelFacts) -> Any:
    pinned = NodeAffinitySchedulingStrategy(placement.node.id, soft=False)
    num_gpus = placement.selector.num_gpus
    return _slug_here.options(scheduling_strategy=pinned, num_gpus=num_gpus).remote(config, placement.selector, largest)


def cause_of(error: RayTaskError) -> Exception:
    """Return a user's mistake as it was raised on the node, and a fault with its traceback there."""
    return error.cause if isinstance(error.cause, HatRayError) else error

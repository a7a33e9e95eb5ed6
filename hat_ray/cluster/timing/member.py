"""One actor of the fleet, as its driver sees it, and how it is started."""

import time
from dataclasses import dataclass, field
from typing import Any

from ray.util.placement_group import PlacementGroup, placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from hat_ray.cluster.timing.actor import TimingActor
from hat_ray.latency.fleet.plan import DeviceWork, Placement, Silence
from hat_ray.latency.timing.job import TimingJob
from hat_ray.space.architecture import Architecture


@dataclass(eq=False)
class Member:
    """One actor of the fleet; `ref` is what it does now: starting, or timing a chunk; None when it is idle."""

    placement: Placement
    num_cpus: int
    group: PlacementGroup
    actor: Any
    ref: Any
    began: float = field(default_factory=time.monotonic)
    reserved: bool = False
    silence: Silence | None = None
    """Since its last report; None until its CPUs are reserved."""
    warned: bool = False
    work: DeviceWork | None = None
    chunk: list[Architecture] = field(default_factory=list)
    handed_at: float = 0.0
    """When it got its chunk."""
    done: int = 0
    """Architectures of its chunk that are over."""
    waits: bool = False
    """There was nothing for it to do, here or elsewhere on its node, when it was looked for."""


def start_member(job: TimingJob, placement: Placement) -> Member:
    """Reserve a place's node, start an actor there as soon as it is free, and ask it for its device."""
    node, selector = placement.node, placement.selector
    num_cpus = placement.cpus(job.config.of(selector))
    bundle = placement.reserves(num_cpus)
    group = placement_group([bundle], bundle_label_selector=[{"ray.io/node-id": node.id}])
    options = {
        "num_cpus": bundle.get("CPU", 0),
        "num_gpus": selector.num_gpus,
        "resources": {selector.resource: bundle[selector.resource]} if selector.resource else None,
        "scheduling_strategy": PlacementGroupSchedulingStrategy(group),
    }
    actor = TimingActor.options(**options).remote(job, selector)  # type: ignore[attr-defined]
    return Member(placement, num_cpus, group, actor, actor.describe.remote())

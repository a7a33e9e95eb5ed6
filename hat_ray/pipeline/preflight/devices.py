"""The devices that are to be timed: their machines, and whether these can run the requested runtime and dtype.

This file loads PyTorch, which knows what a processor computes in: it is imported where a recipe asks for more than
PyTorch's own runtime in fp32, and for a cluster.
"""

from collections.abc import Iterator, Sequence

from hat_ray.errors import LatencyError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.fleet import Node, fits, placements
from hat_ray.pipeline.preflight.check import Check, Finding, Machine, Situation
from hat_ray.recipe import Recipe
from hat_ray.runtime.protocol import RUNTIMES, RuntimeSettings, why_unsupported

_TIMING = frozenset({"latency", "sweep"})


def check_nodes(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Every device of the recipe is a node of the cluster, and no node is one device under two names."""
    if not situation.cluster:
        return
    nodes, config = [_node(machine) for machine in situation.machines], recipe.latency
    there = [selector for selector in config.devices if any(fits(node, selector) for node in nodes)]
    for selector in config.devices:
        if selector not in there:
            yield (
                "warning",
                f"every device of latency.devices needs a node, got none for {_told(selector)}: start one with these "
                "labels or resources before its timing begins, or take the device out",
            )
    try:
        placements(nodes, config.model_copy(update={"devices": tuple(there)}))
    except LatencyError as error:
        yield "failure", str(error)


def check_runtimes(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Every device's processor can compute what its runtime and dtype ask for."""
    config = recipe.latency
    selectors = _selectors(config, situation)
    reasons = [_why_not(config, selector, situation) for selector in selectors]
    for selector, reason in zip(selectors, reasons, strict=True):
        if reason and all(reasons):
            yield "warning" if situation.may_grow else situation.of_machine, reason
        elif reason and selector is not None:
            yield "warning", f"device {_told(selector)} is left out: {reason}"


def _selectors(config: LatencyConfig, situation: Situation) -> Sequence[DeviceSelector | None]:
    if situation.cluster:
        return config.devices or (None,)
    return [device for device in config.devices if device.is_anywhere] or (None,)


def _why_not(config: LatencyConfig, selector: DeviceSelector | None, situation: Situation) -> str | None:
    """Return why none of the machines that a device may be can run it; None: one can, or nothing is known."""
    own, reason = config.of(selector), None
    if selector is not None and selector.num_gpus:
        return None
    for machine in situation.machines:
        if situation.cluster and selector is not None and not fits(_node(machine), selector):
            continue
        if (selector is None and _on_gpus(own) and machine.gpus) or (situation.cluster and not machine.isa):
            return None
        isa = machine.isa if situation.cluster else None
        reason = why_unsupported(own.runtime, RuntimeSettings(own.dtype, timed=True), isa=isa)
        if reason is None:
            return None
        reason = f"{machine.host}: {reason}" if situation.cluster else reason
    return reason


def _on_gpus(config: LatencyConfig) -> bool:
    return "cuda" in RUNTIMES.facts(config.runtime).accelerators and config.accelerator != "cpu"


def _node(machine: Machine) -> Node:
    return Node(machine.id, machine.host, machine.labels, machine.resources)


def _told(selector: DeviceSelector) -> str:
    return selector.name or str(selector.model_dump(exclude_defaults=True))


DEVICE_CHECKS = (
    Check("nodes of the devices", check_nodes, _TIMING),
    Check("runtimes of the devices", check_runtimes, _TIMING),
)

"""Which nodes are which devices, and who times what next. Pure bookkeeping: `cluster.py` does it with Ray."""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hat_ray.errors import LatencyError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.device import DeviceInfo
from hat_ray.space.architecture import Architecture


@dataclass(frozen=True)
class Node:
    """One living node of a cluster."""

    id: str
    host: str
    labels: Mapping[str, str]
    resources: Mapping[str, float]

    @property
    def num_cpus(self) -> int:
        return int(self.resources.get("CPU", 0))


@dataclass(frozen=True)
class Placement:
    """A node that is to time, and the selector that it fits."""

    selector: DeviceSelector
    node: Node


@dataclass
class DeviceWork:
    """One device's work: every architecture once, whichever of its nodes does it."""

    device: DeviceInfo
    pending: deque[list[Architecture]]
    hosts: set[str] = field(default_factory=set)
    timed: int = 0
    skipped: int = 0
    busy_s: float = 0.0

    @property
    def left(self) -> int:
        return sum(map(len, self.pending))


@dataclass(frozen=True)
class DeviceReport:
    """What became of one device."""

    device: DeviceInfo
    hosts: tuple[str, ...]
    timed: int
    skipped: int
    """Architectures that the table already had."""
    unfinished: int
    """Architectures given up because the device's nodes died too often."""
    busy_s: float
    """Seconds that its actors worked, summed over its nodes."""


@dataclass(frozen=True)
class FleetReport:
    """What a fleet did."""

    devices: tuple[DeviceReport, ...]
    failures: tuple[str, ...]
    """One line for each actor that died or did not start, also where a retry mended it."""
    seconds: float

    @property
    def unfinished(self) -> int:
        return sum(device.unfinished for device in self.devices)


def chunks(architectures: Sequence[Architecture], size: int) -> deque[list[Architecture]]:
    return deque(list(architectures[i : i + size]) for i in range(0, len(architectures), size))


def placements(nodes: Sequence[Node], config: LatencyConfig) -> list[Placement]:
    """Return which nodes time for which selector; without selectors every node with a CPU does.

    Raises LatencyError when a selector fits no node, or a node fits two selectors.
    """
    if not config.devices:
        return [Placement(_automatic(node, config), node) for node in nodes if node.num_cpus >= 1]
    found: dict[str, Placement] = {}
    for selector in config.devices:
        fitting = [node for node in nodes if fits(node, selector)]
        if not fitting:
            raise LatencyError(f"no node of the cluster fits latency.devices {_told(selector)}; nodes: {_tell(nodes)}")
        for node in fitting:
            other = found.get(f"{node.id}/{selector.num_gpus}")
            if other is not None:
                raise LatencyError(
                    f"a node may be one device only, but {node.host} fits {_told(other.selector)} and {_told(selector)}"
                )
            found[f"{node.id}/{selector.num_gpus}"] = Placement(selector, node)
    return list(found.values())


def fits(node: Node, selector: DeviceSelector) -> bool:
    """Tell whether a node has what a selector asks for."""
    if selector.resource and node.resources.get(selector.resource, 0) <= 0:
        return False
    if node.resources.get("GPU", 0) < selector.num_gpus:
        return False
    return all(label_fits(rule, node.labels.get(key)) for key, rule in selector.labels.items())


def label_fits(rule: str, value: str | None) -> bool:
    """Judge a label by Ray's rules: `pi4`, `!pi4`, `in(pi4,pi5)`, `!in(pi4,pi5)`; an absent label fits only a `!`."""
    negated, rule = rule.startswith("!"), rule.removeprefix("!")
    listed = re.fullmatch(r"in\((.*)\)", rule)
    allowed = [item.strip() for item in listed[1].split(",")] if listed else [rule]
    return (value in allowed) != negated


def _automatic(node: Node, config: LatencyConfig) -> DeviceSelector:
    return DeviceSelector(num_gpus=int(config.accelerator != "cpu" and node.resources.get("GPU", 0) >= 1))


def _told(selector: DeviceSelector) -> str:
    return str(selector.model_dump(exclude_defaults=True))


def _tell(nodes: Sequence[Node]) -> str:
    told = []
    for node in nodes:
        labels = {key: value for key, value in node.labels.items() if not key.startswith("ray.io/")}
        told.append(f"{node.host} labels {labels} resources {sorted(r for r in node.resources if ':' not in r)}")
    return "; ".join(told) or "none"

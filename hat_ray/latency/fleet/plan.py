"""Which nodes are which devices, and who times what next, round by round. `cluster/timing` does it with Ray."""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from hat_ray.core.placement import label_fits
from hat_ray.errors import LatencyError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.timing.session import SessionSummary
from hat_ray.space.architecture import Architecture


@dataclass(frozen=True)
class Order:
    """What every device times in one round."""

    architectures: Sequence[Architecture]
    within_s: float = math.inf
    """Seconds after which nothing new is begun."""


Rounds = Callable[[Sequence[DeviceInfo]], Order | None]
"""Returns the next round's order to the devices that are known by then, or None: no more."""


def once(architectures: Sequence[Architecture]) -> Rounds:
    """Return the rounds of one order."""
    orders = [Order(list(dict.fromkeys(architectures)))]
    return lambda devices: orders.pop() if orders else None


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

    @cached_property
    def key(self) -> str:
        """The node as this device. A node may be several, one after the other: never do two time on it at once."""
        return f"{self.node.id}/{self.selector.model_dump_json()}"

    @property
    def title(self) -> str:
        """The user's name for it."""
        return self.selector.name or self.node.host

    def seats(self, threads: int) -> int:
        """Return how many actors may time there at once: on each GPU one, where each has CPUs for its threads."""
        if not self.selector.num_gpus:
            return 1
        gpus = int(self.node.resources.get("GPU", 0))
        return max(1, min(gpus, self.node.num_cpus // threads) if self.node.num_cpus else gpus)

    def has_seat(self, taken: Sequence["Placement"], threads: int) -> bool:
        """Return whether an actor may start there beside those that are: others on other GPUs, and nothing else."""
        there = [other.key for other in taken if other.node.id == self.node.id]
        return all(key == self.key for key in there) and len(there) < self.seats(threads)

    def cpus(self, own: LatencyConfig) -> int:
        """Return the CPUs that one of its actors reserves: together all of the node, or its threads."""
        num_cpus = self.node.num_cpus // self.seats(own.threads)
        return num_cpus if own.exclusive else min(own.threads, num_cpus)

    def reserves(self, num_cpus: int) -> dict[str, float]:
        """Return the resources that its actor reserves: CPUs, a GPU, and the selector's resource; never nothing."""
        named = self.selector.resource
        resources: dict[str, float] = {"CPU": max(num_cpus, 0), "GPU": self.selector.num_gpus}
        if named:
            resources[named] = min(1.0, self.node.resources[named])
        return {name: amount for name, amount in resources.items() if amount > 0} or {"memory": 1}


_PACES = 20
"""Longest silences until now, after which a member is lost."""


@dataclass
class Silence:
    """The time since a member last reported. How long is too long follows from its own pace."""

    least_s: float
    """No shorter silence means anything."""
    heard_at: float
    longest_s: float = 0.0

    def hear(self, now: float) -> None:
        """Note a report."""
        self.longest_s, self.heard_at = max(self.longest_s, self.seconds(now)), now

    def seconds(self, now: float) -> float:
        return now - self.heard_at

    def is_lost(self, now: float) -> bool:
        return self.seconds(now) > max(self.least_s, _PACES * self.longest_s)


def least_silence_s(config: LatencyConfig, pairs: int) -> float:
    """Return how long a device may report nothing before it has shown its pace: slow ones take minutes for a row."""
    return 600.0 + 4 * (config.budget_s + config.patience_s) * pairs


@dataclass
class DeviceWork:
    """One device's work: every architecture once, whichever of its nodes does it."""

    device: DeviceInfo
    pending: deque[Architecture]
    chunk: int
    retries: int
    hosts: set[str] = field(default_factory=set)
    doing: int = 0
    """Architectures that its nodes are timing now."""
    timed: int = 0
    skipped: int = 0
    busy_s: float = 0.0
    manned_s: float = 0.0
    """Seconds for which nodes stood ready, summed over them."""
    failures: int = 0
    """Losses since something was last timed."""
    contested: bool = False
    """Work came back from a lost node, which may have written some of it: its next taker reads the table first."""
    lost_at: float | None = None
    """When the last of its nodes left; None while there is one."""

    @property
    def given_up(self) -> bool:
        return self.failures > self.retries

    @property
    def over(self) -> bool:
        return self.given_up or not (self.pending or self.doing)

    def take(self, members: int) -> list[Architecture]:
        """Take the next chunk; where nodes share the device, chunks shrink towards the end: they finish together."""
        size = min(self.chunk, len(self.pending) if members == 1 else math.ceil(len(self.pending) / (2 * members)))
        taken = [self.pending.popleft() for _ in range(size)]
        self.doing += size
        return taken

    def give_back(self, architectures: Sequence[Architecture], *, lost: bool = True) -> None:
        """Put a node's chunk back, to be done next; a node that was `lost` counts as a failure of the device."""
        self.pending.extendleft(reversed(architectures))
        self.doing -= len(architectures)
        self.failures += lost
        self.contested = True

    def credit(self, size: int, summary: SessionSummary) -> None:
        """Count a chunk that is done."""
        self.doing -= size
        self.timed += summary.timed
        self.skipped += summary.skipped
        self.busy_s += summary.seconds
        self.failures = 0


@dataclass(frozen=True)
class DeviceReport:
    """Outcome of one device."""

    device: DeviceInfo
    hosts: tuple[str, ...]
    timed: int
    skipped: int
    """Architectures that the table already had."""
    unfinished: int
    """Architectures given up because the device's nodes were lost too often, or did not come back."""
    busy_s: float
    """Seconds that its actors worked, summed over its nodes."""
    utilisation: float
    """Share of the time for which its actors stood ready that they worked."""


@dataclass(frozen=True)
class FleetReport:
    """Outcome of a fleet."""

    devices: tuple[DeviceReport, ...]
    failures: tuple[str, ...]
    """One line for each actor that died or did not start, also where a retry mended it."""
    seconds: float

    @property
    def unfinished(self) -> int:
        return sum(device.unfinished for device in self.devices)


def report_of(work: DeviceWork) -> DeviceReport:
    utilisation = work.busy_s / work.manned_s if work.manned_s > 0 else 1.0
    left = len(work.pending) + work.doing
    hosts = tuple(sorted(work.hosts))
    return DeviceReport(work.device, hosts, work.timed, work.skipped, left, work.busy_s, min(utilisation, 1.0))


def placements(nodes: Sequence[Node], config: LatencyConfig) -> list[Placement]:
    """Return which nodes time for which selector; without selectors every node with a CPU does, or with a GPU.

    Raises LatencyError when a selector fits no node, or a node would be one device under two names.
    """
    if not config.devices and config.accelerator == "cuda" and not any(map(_has_gpu, nodes)):
        raise LatencyError(
            f"no node of the cluster has a GPU, which latency.accelerator asks for: set it to auto or cpu; nodes: "
            f"{_listed(nodes)}"
        )
    for selector in config.devices:
        if not any(fits(node, selector) for node in nodes):
            raise LatencyError(
                f"no node of the cluster fits latency.devices {described(selector)}; nodes: {_listed(nodes)}"
            )
    found: dict[tuple[object, ...], Placement] = {}
    for place in candidates(nodes, config):
        own = config.of(place.selector)
        what = (place.node.id, place.selector.num_gpus, own.runtime, own.dtype, own.threads)
        other = found.setdefault(what, place)
        if other is not place:
            raise LatencyError(
                f"a node may be one device only, but {place.node.host} fits {described(other.selector)} and "
                f"{described(place.selector)}, which differ in neither runtime nor dtype nor threads"
            )
    return list(found.values())


def lacking(nodes: Sequence[Node], config: LatencyConfig) -> tuple[DeviceSelector, ...]:
    """Return the entries of `latency.devices` that no node fits; without entries any node with a CPU does."""
    if not config.devices:
        return () if any(node.num_cpus >= 1 for node in nodes) else (DeviceSelector(),)
    return tuple(one for one in config.devices if not any(fits(node, one) for node in nodes))


def candidates(nodes: Sequence[Node], config: LatencyConfig) -> list[Placement]:
    """Return every pair of a node and a selector that it fits, whatever is missing at the moment."""
    if not config.devices:
        able = [node for node in nodes if node.num_cpus >= 1 and (config.accelerator != "cuda" or _has_gpu(node))]
        return [Placement(_automatic(node, config), node) for node in able]
    return [Placement(selector, node) for selector in config.devices for node in nodes if fits(node, selector)]


def fits(node: Node, selector: DeviceSelector) -> bool:
    """Return whether a node has what a selector asks for."""
    if selector.resource and node.resources.get(selector.resource, 0) <= 0:
        return False
    if node.resources.get("GPU", 0) < selector.num_gpus:
        return False
    return all(label_fits(rule, node.labels.get(key)) for key, rule in selector.labels.items())


_ON_CPU, _ON_GPU = DeviceSelector(), DeviceSelector(num_gpus=1)


def _automatic(node: Node, config: LatencyConfig) -> DeviceSelector:
    return _ON_GPU if config.takes_gpus and _has_gpu(node) else _ON_CPU


def _has_gpu(node: Node) -> bool:
    return node.resources.get("GPU", 0) >= 1


def described(selector: DeviceSelector) -> str:
    """Return an entry's settings for people."""
    return str(selector.model_dump(exclude_defaults=True))


def _listed(nodes: Sequence[Node]) -> str:
    listed = []
    for node in nodes:
        labels = {key: value for key, value in node.labels.items() if not key.startswith("ray.io/")}
        listed.append(f"{node.host} labels {labels} resources {sorted(r for r in node.resources if ':' not in r)}")
    return "; ".join(listed) or "none"

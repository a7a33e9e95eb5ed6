"""The fleet: one Ray actor on each node that is a device, all timing at once into one shared table.

The life of a member: a placement group reserves its node (all its CPUs where the cluster has other nodes); the actor
starts there and tells what device it is; then it gets chunks of its device's work until none is left. It writes its
rows itself. A member that dies or overruns its time gives its chunk back and is started again, a bounded number of
times; what it had written is not timed again. No member waits for another.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from hat_ray.errors import HatRayError, LatencyError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.device import DeviceInfo, detect
from hat_ray.latency.fleet import DeviceReport, DeviceWork, FleetReport, Node, Placement, chunks, fits, placements
from hat_ray.latency.measure import Tally, TimingJob, TimingSession
from hat_ray.progress import Progress, silent
from hat_ray.space.architecture import Architecture

logger = logging.getLogger(__name__)

_RESERVE_S = 10.0  # how long all CPUs of a node may take to be free before fewer are asked for
_POLL_S = 1.0


@ray.remote(max_restarts=0, max_task_retries=0)
class TimingActor:
    """One device's process."""

    def __init__(self, job: TimingJob, selector: DeviceSelector) -> None:
        self._job, self._selector = job, selector
        self._session: TimingSession | None = None

    def describe(self) -> DeviceInfo:
        """Get ready to time; return which device this is."""
        device = _detect(self._job.config, self._selector)
        self._session = TimingSession(self._job, device)
        return device

    def time(self, architectures: list[Architecture]) -> Tally:
        assert self._session is not None, "described before it times"
        return self._session.run(architectures)


@dataclass
class _Member:
    """One actor of the fleet; `ref` is what it does now: starting, or timing a chunk; None when it is idle."""

    placement: Placement
    num_cpus: int
    group: PlacementGroup
    actor: Any
    ref: Any
    deadline: float
    reserved: bool = False
    work: DeviceWork | None = None
    chunk: list[Architecture] | None = None
    deaths: int = 0


def measure_fleet(job: TimingJob, architectures: Sequence[Architecture], progress: Progress = silent) -> FleetReport:
    """Time every architecture once on each device of the cluster that this process is connected to.

    The job's table root must be a place that all nodes reach under one name (shared file system or URI). Raises
    LatencyError when no node fits a selector, or when no device could time anything.
    """
    fleet = _Fleet(job, list(dict.fromkeys(architectures)), progress)
    try:
        return fleet.run()
    finally:
        fleet.close()


def cluster_nodes() -> list[Node]:
    """Return the living nodes of the cluster that this process is connected to."""
    return [
        Node(node["NodeID"], node["NodeManagerHostname"], dict(node.get("Labels") or {}), dict(node["Resources"]))
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]


class _Fleet:
    def __init__(self, job: TimingJob, architectures: list[Architecture], progress: Progress) -> None:
        self._job, self._architectures, self._progress = job, architectures, progress
        self._nodes = cluster_nodes()
        self._devices: dict[str, DeviceWork] = {}
        self._failures: list[str] = []
        self._members: list[_Member] = []

    def run(self) -> FleetReport:
        started = time.monotonic()
        self._members = [self._start(placement) for placement in self._placements()]
        while busy := [member for member in self._members if member.ref is not None]:
            ready, _ = ray.wait([member.ref for member in busy], num_returns=1, timeout=_POLL_S)
            for member in busy:
                if member.ref in ready:
                    self._advance(member)
                elif time.monotonic() > member.deadline:
                    self._overrun(member)
            self._hand_out()
            self._tell()
        return self._report(time.monotonic() - started)

    def close(self) -> None:
        for member in self._members:
            _release(member)

    def _placements(self) -> list[Placement]:
        """Without selectors one node of each kind; nodes of one kind that a selector names share its work."""
        found = placements(self._nodes, self._job.config)
        if not found:
            raise LatencyError("no node of the cluster has a CPU to time on: start one with ray start --num-cpus 1")
        if self._job.config.devices or len(found) == 1:
            return found
        probes = [_probe(place, self._job.config) for place in found]
        kinds: dict[str, Placement] = {}
        for slug, place in zip(ray.get(probes, timeout=self._job.config.start_timeout_s), found, strict=True):
            kinds.setdefault(slug, place)
        return list(kinds.values())

    def _start(self, placement: Placement, *, deaths: int = 0, whole_node: bool = True) -> _Member:
        config, node, selector = self._job.config, placement.node, placement.selector
        whole = whole_node and config.exclusive and len(self._nodes) > 1
        num_cpus = max(node.num_cpus if whole else min(config.threads, node.num_cpus), 0)
        bundle: dict[str, float] = {"CPU": num_cpus, "GPU": selector.num_gpus}
        if selector.resource:
            bundle[selector.resource] = min(1.0, node.resources[selector.resource])
        bundle = {name: amount for name, amount in bundle.items() if amount > 0} or {"memory": 1}
        group = placement_group([bundle], bundle_label_selector=[{"ray.io/node-id": node.id}])
        options = {
            "num_cpus": bundle.get("CPU", 0),
            "num_gpus": selector.num_gpus,
            "resources": {selector.resource: bundle[selector.resource]} if selector.resource else None,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(group),
        }
        actor = TimingActor.options(**options).remote(self._job, selector)  # type: ignore[attr-defined]
        deadline = time.monotonic() + (_RESERVE_S if whole else config.start_timeout_s)
        return _Member(placement, num_cpus, group, actor, actor.describe.remote(), deadline, not whole, deaths=deaths)

    def _advance(self, member: _Member) -> None:
        """Take the result of what a member did and let it go on."""
        try:
            result = ray.get(member.ref)
        except RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, HatRayError) else error from None
        except RayError as error:
            self._died(member, str(error).splitlines()[0])
            return
        member.ref = None
        if member.work is None:
            self._enlist(member, result)
        else:
            self._credit(member, result)

    def _enlist(self, member: _Member, device: DeviceInfo) -> None:
        work = self._devices.get(device.slug)
        if work is None:
            work = DeviceWork(device, chunks(self._architectures, self._job.config.chunk))
            self._devices[device.slug] = work
        work.hosts.add(member.placement.node.host)
        member.work = work

    def _credit(self, member: _Member, tally: Tally) -> None:
        assert member.work is not None
        member.work.timed += tally.timed
        member.work.skipped += tally.skipped
        member.work.busy_s += tally.seconds
        member.chunk = None

    def _hand_out(self) -> None:
        for member in self._members:
            if member.work is not None and member.ref is None and member.work.pending:
                member.chunk = member.work.pending.popleft()
                member.ref = member.actor.time.remote(member.chunk)
                member.deadline = time.monotonic() + _chunk_timeout_s(self._job.config, len(member.chunk))

    def _overrun(self, member: _Member) -> None:
        if member.reserved:
            self._died(member, "it overran its time")
        elif member.group.wait(timeout_seconds=0):  # the node is ours, its process is slow to start
            member.reserved = True
            member.deadline += self._job.config.start_timeout_s
        else:
            host, threads = member.placement.node.host, self._job.config.threads
            logger.warning("node %s is not free: timing beside other work, %d CPUs reserved", host, threads)
            self._replace(member, self._start(member.placement, deaths=member.deaths, whole_node=False))

    def _died(self, member: _Member, why: str) -> None:
        """Give a member's chunk back; start it again on its node or another that fits, unless it died too often."""
        doing = "timing" if member.work else "starting"
        self._failures.append(f"device {_title(member)} was lost while {doing}: {why}")
        logger.warning(self._failures[-1])
        if member.chunk and member.work:
            member.work.pending.appendleft(member.chunk)
        self._nodes = cluster_nodes()
        place = self._place_again(member.placement)
        if place is None or member.deaths >= self._job.config.retries:
            self._replace(member, None)
        else:
            self._replace(member, self._start(place, deaths=member.deaths + 1))

    def _place_again(self, placement: Placement) -> Placement | None:
        """Return where a lost member can live: its own node, else one that fits and that no other member has."""
        taken = {member.placement.node.id for member in self._members}
        fitting = [node for node in self._nodes if fits(node, placement.selector)]
        same = [node for node in fitting if node.id == placement.node.id]
        free = [node for node in fitting if node.id not in taken] if self._job.config.devices else []
        return replace(placement, node=(same + free)[0]) if same or free else None

    def _replace(self, member: _Member, successor: _Member | None) -> None:
        _release(member)
        self._members.remove(member)
        self._members += [successor] if successor else []

    def _tell(self) -> None:
        done = sum(work.timed + work.skipped for work in self._devices.values())
        total = max(len(self._devices), 1) * len(self._architectures)
        self._progress(done, total, {"devices": float(len(self._members))})

    def _report(self, seconds: float) -> FleetReport:
        if not any(work.timed + work.skipped for work in self._devices.values()) and self._architectures:
            raise LatencyError(f"no device could time anything: {'; '.join(self._failures)}")
        devices = tuple(
            DeviceReport(w.device, tuple(sorted(w.hosts)), w.timed, w.skipped, w.left, w.busy_s)
            for w in self._devices.values()
        )
        return FleetReport(devices, tuple(self._failures), seconds)


@ray.remote(num_cpus=0, max_retries=1)
def _slug_here(config: LatencyConfig, selector: DeviceSelector) -> str:
    return _detect(config, selector).slug


def _probe(placement: Placement, config: LatencyConfig) -> Any:
    pinned = NodeAffinitySchedulingStrategy(placement.node.id, soft=False)
    return _slug_here.options(scheduling_strategy=pinned, num_gpus=placement.selector.num_gpus).remote(
        config, placement.selector
    )


def _detect(config: LatencyConfig, selector: DeviceSelector) -> DeviceInfo:
    return detect(threads=config.threads, name=selector.name, accelerator="cuda" if selector.num_gpus else "cpu")


def _chunk_timeout_s(config: LatencyConfig, size: int) -> float:
    """Return a bound that only a hung device reaches: slow ones take up to three budgets, and as much to warm up."""
    return 120.0 + size * 2 * (4 * config.budget_s + 10.0)


def _title(member: _Member) -> str:
    return member.placement.selector.name or member.placement.node.host


def _release(member: _Member) -> None:
    ray.kill(member.actor)
    remove_placement_group(member.group)

"""The fleet: one Ray actor on each node that is a device, all timing at once into one shared table.

A placement group reserves a member's node (all its CPUs, unless `latency.exclusive` is false); the actor starts there,
reports its device, gets chunks of that device's work until none is left, and frees the node. It writes its own rows.

Nodes come and go. A node that joins or comes back gets a member when it fits and its device has work left. The chunk of
a lost member returns to its device's work; rows that it wrote are not timed again. A device without nodes is waited
for, up to `latency.reconnect_timeout_s`; one whose members fail repeatedly without timing anything is given up.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import HatRayError, LatencyError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.detection import device_of
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.fleet import DeviceWork, FleetReport, Node, Placement, candidates, placements, report_of
from hat_ray.latency.timing.session import SessionSummary, TimingJob, TimingSession
from hat_ray.space.architecture import Architecture

logger = logging.getLogger(__name__)

_POLL_S = 1.0
_LOOK_S = 3.0  # between looks at which nodes there are
_BUSY_S = 10.0  # how long a node's CPUs may take to be free before the wait is logged


@ray.remote(max_restarts=0, max_task_retries=0)
class TimingActor:
    """One device's process."""

    def __init__(self, job: TimingJob, selector: DeviceSelector) -> None:
        self._job, self._selector = job.on(selector), selector
        self._session: TimingSession | None = None

    def describe(self) -> DeviceInfo:
        """Get ready to time; return which device this is."""
        device = _detect(self._job.config, self._selector)
        self._session = TimingSession(self._job, device)
        return device

    def time(self, architectures: list[Architecture], contested: bool) -> SessionSummary:
        """Time a chunk; where it is `contested`, another node of this device may have timed some of it."""
        assert self._session is not None, "described before it times"
        if contested:
            self._session.look_again()
        return self._session.run(architectures)


@dataclass(eq=False)
class _Member:
    """One actor of the fleet; `ref` is what it does now: starting, or timing a chunk; None when it is idle."""

    placement: Placement
    num_cpus: int
    group: PlacementGroup
    actor: Any
    ref: Any
    began: float = field(default_factory=time.monotonic)
    reserved: bool = False
    deadline: float = 0.0
    """When it has overrun its time; counts once its CPUs are reserved."""
    warned: bool = False
    work: DeviceWork | None = None
    chunk: list[Architecture] = field(default_factory=list)


def measure_fleet(
    job: TimingJob, architectures: Sequence[Architecture], progress: Progress = no_progress
) -> FleetReport:
    """Time every architecture once on each device of the cluster that this process is connected to.

    All nodes must reach the job's table root under one name. Raises LatencyError when no node fits a selector, or no
    device could time anything.
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


class _Kinds:
    """Which device each place is: asked from the places themselves, without waiting for slow ones."""

    def __init__(self, config: LatencyConfig) -> None:
        self._config = config
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
            self._asked[place.key] = place, _probe(place, self._config), time.monotonic()

    def learn(self, place: Placement, slug: str) -> None:
        self._known[place.key] = slug

    def hear(self) -> list[tuple[Placement, Exception]]:
        """Take the answers that have come; return the places where asking raised, and what."""
        broken: list[tuple[Placement, Exception]] = []
        for key, (place, ref, _) in list(self._asked.items()):
            if not ray.wait([ref], timeout=0)[0]:
                continue
            del self._asked[key]
            try:
                self._known[key] = ray.get(ref)
            except RayTaskError as error:
                broken.append((place, _cause_of(error)))
            except RayError:  # its node left; asked again when it is back
                continue
        return broken

    def forget_all_but(self, places: Sequence[Placement]) -> None:
        """Give up the questions to places that are no longer there."""
        keys = {place.key for place in places}
        self._asked = {key: asked for key, asked in self._asked.items() if key in keys}


class _Fleet:
    def __init__(self, job: TimingJob, architectures: list[Architecture], progress: Progress) -> None:
        self._job, self._architectures, self._progress = job, architectures, progress
        self._kinds = _Kinds(job.config)
        self._devices: dict[str, DeviceWork] = {}
        self._members: list[_Member] = []
        self._failures: list[str] = []
        self._cause: Exception | None = None
        self._failed_starts: Counter[str] = Counter()
        self._next_look = 0.0

    def run(self) -> FleetReport:
        began = time.monotonic()
        if not placements(cluster_nodes(), self._job.config):
            raise LatencyError("no node of the cluster has a CPU to time on: start one with ray start --num-cpus 1")
        self._look()
        while not self._is_over():
            ready = self._wait()
            for member in list(self._members):
                if member.ref in ready:
                    self._advance(member)
                elif not member.reserved:
                    self._check_reservation(member)
                elif member.ref is not None and time.monotonic() > member.deadline:
                    self._lose(member, "it overran its time")
            for place, cause in self._kinds.hear():
                self._leave_out(place, cause)
            self._hand_out()
            if ready or time.monotonic() > self._next_look:
                self._look()
            self._tell()
        return self._report(time.monotonic() - began)

    def close(self) -> None:
        for member in list(self._members):
            self._release(member)

    def _wait(self) -> list[Any]:
        refs = [member.ref for member in self._members if member.ref is not None] + self._kinds.refs
        if not refs:
            time.sleep(_POLL_S)
            return []
        return ray.wait(refs, num_returns=1, timeout=_POLL_S)[0]

    def _is_over(self) -> bool:
        if self._kinds.refs or any(member.ref is not None for member in self._members):
            return False
        return all(work.over or self._is_gone(work) for work in self._devices.values())

    def _is_gone(self, work: DeviceWork) -> bool:
        return work.lost_at is not None and time.monotonic() - work.lost_at > self._job.config.reconnect_timeout_s

    def _look(self) -> None:
        """See which nodes there are, and start a member where work waits for one."""
        self._next_look = time.monotonic() + _LOOK_S
        found = candidates(cluster_nodes(), self._job.config)
        there = {place.node.id for place in found}
        for member in list(self._members):
            if member.work is None and member.placement.node.id not in there:
                self._release(member)  # its node left before it was ready: no fault of the device
        self._kinds.forget_all_but(found)
        for place in found:
            if self._is_wanted(place, alone=len(found) == 1):
                self._members.append(self._start(place))

    def _is_wanted(self, place: Placement, *, alone: bool) -> bool:
        """Return whether a place should get a member now. Without selectors each kind of node has one member.

        A node that is several devices has one member at a time: never do two things time on it at once.
        """
        if any(member.placement.node.id == place.node.id for member in self._members):
            return False
        if self._failed_starts[place.key] > self._job.config.retries:
            return False
        slug = self._kinds.of(place)
        if slug is None and not (alone or self._job.config.devices):
            self._kinds.ask(place)
            return False
        work = self._devices.get(slug) if slug else None
        if work is not None and (work.over or not work.pending):
            return False
        return bool(self._job.config.devices) or not any(
            slug is None or self._kinds.of(member.placement) == slug for member in self._members
        )

    def _start(self, placement: Placement) -> _Member:
        node, selector = placement.node, placement.selector
        config = self._job.config.of(selector)
        num_cpus = node.num_cpus if config.exclusive else min(config.threads, node.num_cpus)
        bundle = placement.reserves(num_cpus)
        group = placement_group([bundle], bundle_label_selector=[{"ray.io/node-id": node.id}])
        options = {
            "num_cpus": bundle.get("CPU", 0),
            "num_gpus": selector.num_gpus,
            "resources": {selector.resource: bundle[selector.resource]} if selector.resource else None,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(group),
        }
        actor = TimingActor.options(**options).remote(self._job, selector)  # type: ignore[attr-defined]
        return _Member(placement, num_cpus, group, actor, actor.describe.remote())

    def _advance(self, member: _Member) -> None:
        """Take the result of a member's last call and give it the next one."""
        try:
            result = ray.get(member.ref)
        except RayTaskError as error:
            self._break(member, _cause_of(error))
        except RayError as error:
            self._lose(member, str(error).splitlines()[0])
        else:
            member.ref = None
            if member.work is None:
                self._enlist(member, result)
            else:
                member.work.credit(len(member.chunk), result)
                for line in result.advice:
                    logger.warning("device %s: %s", member.placement.title, line)
                member.chunk = []

    def _enlist(self, member: _Member, device: DeviceInfo) -> None:
        work = self._devices.get(device.slug)
        if work is None:
            config = self._job.config
            work = DeviceWork(device, deque(self._architectures), config.chunk, config.retries)
            self._devices[device.slug] = work
        self._kinds.learn(member.placement, device.slug)
        work.hosts.add(member.placement.node.host)
        work.lost_at = None
        member.work, member.began = work, time.monotonic()

    def _check_reservation(self, member: _Member) -> None:
        """Wait for a node's CPUs: they may be other work's. Refuse the node when nothing else is left to do."""
        now, config, host = time.monotonic(), self._job.config, member.placement.node.host
        if member.group.wait(timeout_seconds=0):
            member.reserved, member.deadline = True, now + config.start_timeout_s
            return
        waited = now - member.began
        if waited > _BUSY_S and not member.warned:
            member.warned = True
            logger.warning("node %s: waiting for its %d CPUs to be free of other work", host, member.num_cpus)
        if waited > config.start_timeout_s and not any(other.chunk for other in self._members):
            self._refuse(
                member.placement,
                f"node {host} is not free: other work of Ray's holds some of its {member.num_cpus} CPUs for more than "
                f"{config.start_timeout_s:g} s; wait for its end, or set latency.exclusive to false to time beside it",
            )
            self._release(member)

    def _break(self, member: _Member, cause: Exception) -> None:
        """Leave a device out for which timing raises; the others continue."""
        if member.work is None:
            self._leave_out(member.placement, cause)
            self._release(member)
        else:
            self._cause = self._cause or cause
            member.work.failures = member.work.retries
            self._lose(member, str(cause))

    def _leave_out(self, place: Placement, cause: Exception) -> None:
        """Start nothing more at a place where getting ready raises."""
        self._cause = self._cause or cause
        self._refuse(place, f"device {place.title}: {cause}")

    def _refuse(self, place: Placement, why: str) -> None:
        logger.warning(why)
        self._failures.append(why)
        self._failed_starts[place.key] = self._job.config.retries + 1

    def _lose(self, member: _Member, why: str) -> None:
        """Give a member's chunk back; `_look` starts another one, here or where its device appears again."""
        self._failures.append(
            f"device {member.placement.title} was lost while {'timing' if member.work else 'starting'}: {why}"
        )
        logger.warning(self._failures[-1])
        if member.work is None:
            self._failed_starts[member.placement.key] += 1
        else:
            member.work.give_back(member.chunk)
        self._release(member)
        self._next_look = 0.0

    def _release(self, member: _Member) -> None:
        """End a member and free its node."""
        self._members.remove(member)
        ray.kill(member.actor)
        remove_placement_group(member.group)
        work = member.work
        if work is None:
            return
        work.manned_s += time.monotonic() - member.began
        if not work.over and not any(other.work is work for other in self._members):
            work.lost_at = time.monotonic()
            limit_s = self._job.config.reconnect_timeout_s
            logger.warning("device %s: waiting up to %g s for a node", work.device.slug, limit_s)

    def _hand_out(self) -> None:
        for member in list(self._members):
            work = member.work
            if work is None or member.ref is not None:
                continue
            if work.over or (not work.pending and self._is_waited_for(member)):
                self._release(member)
            elif work.pending:
                member.chunk = work.take(sum(other.work is work for other in self._members))
                member.ref = member.actor.time.remote(member.chunk, work.contested)
                member.deadline = time.monotonic() + _chunk_timeout_s(self._job.config, len(member.chunk))

    def _is_waited_for(self, member: _Member) -> bool:
        """Return whether an idle member's node has other devices' work to do."""
        node = member.placement.node
        others = [place for place in candidates([node], self._job.config) if place.key != member.placement.key]
        works = [self._devices.get(self._kinds.of(place) or "") for place in others]
        return any(work is None or work.pending for work in works)

    def _tell(self) -> None:
        done = sum(work.timed + work.skipped for work in self._devices.values())
        devices = max(len(self._devices), len(self._job.config.devices), 1)
        total = devices * len(self._architectures)
        self._progress(done, total, {"devices": float(sum(member.work is not None for member in self._members))})

    def _report(self, seconds: float) -> FleetReport:
        if self._architectures and not any(work.timed + work.skipped for work in self._devices.values()):
            silent_s = self._job.config.start_timeout_s
            why = "; ".join(self._failures) or f"no node reported its device within {silent_s:g} s; is its GPU free?"
            raise self._cause or LatencyError(f"no device could time anything: {why}")
        return FleetReport(tuple(map(report_of, self._devices.values())), tuple(self._failures), seconds)


@ray.remote(num_cpus=0, max_retries=1)
def _slug_here(config: LatencyConfig, selector: DeviceSelector) -> str:
    return _detect(config, selector).slug


def _probe(placement: Placement, config: LatencyConfig) -> Any:
    pinned = NodeAffinitySchedulingStrategy(placement.node.id, soft=False)
    num_gpus = placement.selector.num_gpus
    return _slug_here.options(scheduling_strategy=pinned, num_gpus=num_gpus).remote(config, placement.selector)


def _detect(config: LatencyConfig, selector: DeviceSelector) -> DeviceInfo:
    return device_of(config, selector)


def _chunk_timeout_s(config: LatencyConfig, size: int) -> float:
    """Return a bound that only a hung device reaches: slow ones take up to three budgets, and three more to warm up."""
    return 120.0 + size * 2 * (4 * config.budget_s + 10.0)


def _cause_of(error: RayTaskError) -> Exception:
    """Return a user's mistake as it was raised on the node, and a fault with its traceback there."""
    return error.cause if isinstance(error.cause, HatRayError) else error

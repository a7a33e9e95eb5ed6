"""The fleet: one Ray actor on each node that is a device, or on each of its GPUs, all timing at once into one table.

A placement group reserves a member's node (all its CPUs, unless `latency.exclusive` is false); the actor starts there,
reports its device, gets chunks of that device's work until none is left, and frees the node. It writes its own rows,
and reports each one: a member is lost when it reports nothing for long, never because its chunk takes long.

Nodes come and go. A node that joins or comes back gets a member when it fits and its device has work left. The chunk of
a lost member returns to its device's work; rows that it wrote are not timed again. A member whose node will be taken
away ends its chunk between two visits, and writes its rows. A device without nodes is waited for, up to
`latency.reconnect_timeout_s`; one whose members fail repeatedly without timing anything is given up. Nodes that an
autoscaler may add are asked for at the beginning (`awaited.py`).
"""

import logging
import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import ObjectRefGenerator
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from hat_ray.cluster.growth import may_grow
from hat_ray.cluster.metrics import TIMING_DONE, TIMING_NODES, TIMING_QUEUE, TIMING_UTILISATION, show
from hat_ray.cluster.session import leaving_nodes
from hat_ray.cluster.timing.actor import Outcome, TimingActor
from hat_ray.cluster.timing.awaited import Awaited
from hat_ray.cluster.timing.kinds import Kinds, cause_of, cluster_nodes
from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import LatencyError
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.fleet import (
    DeviceWork,
    FleetReport,
    Placement,
    Rounds,
    Silence,
    candidates,
    lacking,
    least_silence_s,
    once,
    placements,
    report_of,
)
from hat_ray.latency.timing.job import TimingJob
from hat_ray.runtime.choice import Choice
from hat_ray.space.architecture import Architecture

logger = logging.getLogger(__name__)

_POLL_S = 1.0
_SHOW_S = 1.0  # between values of the metrics
_LOOK_S = 3.0  # between looks at which nodes there are
_BUSY_S = 10.0  # how long a node's CPUs may take to be free before the wait is logged


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
    silence: Silence | None = None
    """Since its last report; None until its CPUs are reserved."""
    warned: bool = False
    work: DeviceWork | None = None
    chunk: list[Architecture] = field(default_factory=list)
    handed_at: float = 0.0
    """When it got its chunk."""
    done: int = 0
    """Architectures of its chunk that are over."""


def measure_fleet(
    job: TimingJob, architectures: Sequence[Architecture], progress: Progress = no_progress
) -> FleetReport:
    """Time every architecture once on each device of the cluster that this process is connected to.

    All nodes must reach the job's table root under one name. Raises LatencyError when no node fits a selector, or no
    device could time anything.
    """
    return measure_rounds(job, once(architectures), progress)


def measure_rounds(job: TimingJob, rounds: Rounds, progress: Progress = no_progress) -> FleetReport:
    """Time round after round on each device; its actors and their canaries last for all rounds."""
    fleet = _Fleet(job, rounds, progress)
    try:
        return fleet.run()
    finally:
        fleet.close()


class _Fleet:
    def __init__(self, job: TimingJob, rounds: Rounds, progress: Progress) -> None:
        self._job, self._rounds, self._progress = job, rounds, progress
        self._architectures: list[Architecture] = []
        """Every round's."""
        self._until = math.inf
        """When this round begins nothing new."""
        self._kinds = Kinds(job)
        self._awaited = Awaited(job.config)
        self._devices: dict[str, DeviceWork] = {}
        self._members: list[_Member] = []
        self._failures: list[str] = []
        self._cause: Exception | None = None
        self._failed_starts: Counter[str] = Counter()
        self._leaving: frozenset[str] = frozenset()  # nodes that will be taken away
        self._next_look = self._next_show = 0.0
        self._least_silence_s = least_silence_s(job.config, len(job.protocol.workload.pairs))

    def run(self) -> FleetReport:
        began = time.monotonic()
        nodes = cluster_nodes()
        if lacking(nodes, self._job.config) and may_grow():
            self._awaited.begin(nodes)
        elif not placements(nodes, self._job.config):
            raise LatencyError("no node of the cluster has a CPU to time on: start one with ray start --num-cpus 1")
        while (order := self._rounds([work.device for work in self._devices.values()])) is not None:
            self._until = time.monotonic() + order.within_s
            self._architectures += order.architectures
            for known in self._devices.values():
                known.pending.extend(order.architectures)
            self._look()
            self._do_round()
            if not self._devices:
                break
        return self._report(time.monotonic() - began)

    def _do_round(self) -> None:
        """Time what is pending; a round with nothing to time ends when the devices are known."""
        while not self._is_over():
            ready = self._wait()
            for member in list(self._members):
                if member.ref in ready:
                    self._advance(member)
                elif not member.reserved:
                    self._check_reservation(member)
                elif member.silence is not None and member.ref is not None and member.silence.is_lost(time.monotonic()):
                    self._lose(member, f"it has reported nothing for {member.silence.seconds(time.monotonic()):.0f} s")
            for place, cause in self._kinds.hear():
                self._leave_out(place, cause)
            self._hand_out()
            if ready or time.monotonic() > self._next_look:
                self._look()
            self._tell()

    def close(self) -> None:
        self._awaited.end()
        for member in list(self._members):
            self._release(member)
        self._show_metrics()

    def _wait(self) -> list[Any]:
        refs = [member.ref for member in self._members if member.ref is not None] + self._kinds.refs
        if not refs:
            time.sleep(_POLL_S)
            return []
        return ray.wait(refs, num_returns=1, timeout=_POLL_S)[0]

    def _is_over(self) -> bool:
        if self._awaited or self._kinds.refs or any(member.ref is not None for member in self._members):
            return False
        return all(work.over or self._is_gone(work) for work in self._devices.values())

    def _is_gone(self, work: DeviceWork) -> bool:
        return work.lost_at is not None and time.monotonic() - work.lost_at > self._job.config.reconnect_timeout_s

    def _look(self) -> None:
        """See which nodes there are, and start a member where work waits for one."""
        self._next_look = time.monotonic() + _LOOK_S
        nodes, self._leaving = cluster_nodes(), leaving_nodes()
        self._failures += self._awaited.look(nodes)
        found = candidates(nodes, self._job.config)
        there = {place.node.id for place in found}
        for member in list(self._members):
            if member.work is None and member.placement.node.id not in there:
                self._release(member)  # its node left before it was ready: no fault of the device
        self._kinds.forget_all_but(found)
        for place in found:
            for _ in range(place.seats(self._job.config.of(place.selector).threads)):
                if self._is_wanted(place, alone=len(found) == 1):
                    self._members.append(self._start(place))

    def _is_wanted(self, place: Placement, *, alone: bool) -> bool:
        """Return whether a place should get a member now. Without selectors each kind of node has one member.

        A node that is several devices has members of one at a time: never do two things time on it at once.
        """
        own = self._job.config.of(place.selector)
        if not place.has_seat([member.placement for member in self._members], own.threads):
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
        num_cpus = placement.cpus(self._job.config.of(selector))
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
            result = ray.get(next(member.ref) if isinstance(member.ref, ObjectRefGenerator) else member.ref)
        except RayTaskError as error:
            self._break(member, cause_of(error))
        except RayError as error:
            self._lose(member, str(error).splitlines()[0])
        else:
            if member.silence is not None:
                member.silence.hear(time.monotonic())
            if member.work is None:
                member.ref = None
                self._enlist(member, *result)
            elif isinstance(result, Outcome):
                self._end_chunk(member, member.work, result)
            else:
                member.done = result

    def _end_chunk(self, member: _Member, work: DeviceWork, outcome: Outcome) -> None:
        """Count what was done of a chunk; a member whose node will be taken away leaves the rest to others."""
        for line in outcome.summary.advice:
            logger.warning("device %s: %s", member.placement.title, line)
        if outcome.left:
            logger.warning("device %s: node %s will be taken away", work.device.slug, member.placement.node.host)
            work.busy_s += outcome.summary.seconds
            work.give_back(member.chunk, lost=False)
            self._leaving |= {member.placement.node.id}  # `_hand_out` releases it
        else:
            work.credit(len(member.chunk), outcome.summary)
        member.ref, member.chunk, member.done = None, [], 0

    def _enlist(self, member: _Member, device: DeviceInfo, choice: Choice) -> None:
        host = member.placement.node.host
        logger.info("device %s on %s is timed with runtime %s: %s", device.slug, host, choice.runtime, choice.reason)
        work, config = self._devices.get(device.slug), self._job.config
        if work is None:
            work = DeviceWork(device, deque(self._architectures), config.chunk, config.retries)
            self._devices[device.slug] = work
        self._kinds.learn(member.placement, device.slug)
        work.hosts.add(host)
        work.lost_at = None
        member.work, member.began = work, time.monotonic()

    def _check_reservation(self, member: _Member) -> None:
        """Wait for a node's CPUs: they may be other work's. Refuse the node when nothing else is left to do."""
        now, config, host = time.monotonic(), self._job.config, member.placement.node.host
        if member.group.wait(timeout_seconds=0):
            member.reserved, member.silence = True, Silence(config.start_timeout_s, now)
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
        """Give idle members the next chunks; one that has nothing to do waits for the next round."""
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            for late in self._devices.values():
                late.pending.clear()
        for member in list(self._members):
            work = member.work
            if work is None or member.ref is not None:
                continue
            leaves = member.placement.node.id in self._leaving
            if leaves or work.given_up or (not work.pending and self._is_waited_for(member)):
                self._release(member)
            elif work.pending:
                member.chunk = work.take(sum(other.work is work for other in self._members))
                member.ref = member.actor.time.remote(member.chunk, work.contested, left_s)
                member.handed_at = time.monotonic()
                member.silence = Silence(self._least_silence_s, member.handed_at)

    def _is_waited_for(self, member: _Member) -> bool:
        """Return whether an idle member's node has other devices' work to do."""
        node = member.placement.node
        others = [place for place in candidates([node], self._job.config) if place.key != member.placement.key]
        works = [self._devices.get(self._kinds.of(place) or "") for place in others]
        return any(work is None or work.pending for work in works)

    def _tell(self) -> None:
        done = sum(work.timed + work.skipped for work in self._devices.values())
        done += sum(member.done for member in self._members)
        devices = max(len(self._devices), len(self._job.config.devices), 1)
        total = devices * len(self._architectures)
        self._progress(done, total, {"devices": float(sum(member.work is not None for member in self._members))})
        if time.monotonic() > self._next_show:
            self._next_show = time.monotonic() + _SHOW_S
            self._show_metrics()

    def _show_metrics(self) -> None:
        """Set what each device does now."""
        now, members = time.monotonic(), defaultdict[str, list[_Member]](list)
        for member in self._members:
            if member.work is not None:
                members[member.work.device.slug].append(member)
        for slug, work in self._devices.items():
            own = members[slug]
            done = sum(member.done for member in own)
            busy_s = work.busy_s + sum(now - member.handed_at for member in own if member.chunk)
            manned_s = work.manned_s + sum(now - member.began for member in own)
            for metric, value in {
                TIMING_DONE: work.timed + work.skipped + done,
                TIMING_QUEUE: len(work.pending) + work.doing - done,
                TIMING_NODES: len(own),
                TIMING_UTILISATION: min(1.0, busy_s / manned_s) if manned_s > 0 else 0.0,
            }.items():
                show(metric, value, run=self._job.table_root.label, device=slug)

    def _report(self, seconds: float) -> FleetReport:
        timed = any(work.timed + work.skipped for work in self._devices.values())
        if not self._devices or (self._architectures and not timed):
            silent_s = self._job.config.start_timeout_s
            why = "; ".join(self._failures) or f"no node reported its device within {silent_s:g} s; is its GPU free?"
            raise self._cause or LatencyError(f"no device could time anything: {why}")
        return FleetReport(tuple(map(report_of, self._devices.values())), tuple(self._failures), seconds)

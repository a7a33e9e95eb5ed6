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

import ray
from ray import ObjectRefGenerator
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import remove_placement_group

from hat_ray.cluster.growth import may_grow
from hat_ray.cluster.metrics import TIMING_DONE, TIMING_NODES, TIMING_QUEUE, TIMING_UTILISATION, show
from hat_ray.cluster.session import leaving_nodes
from hat_ray.cluster.timing.actor import Outcome
from hat_ray.cluster.timing.awaited import Awaited
from hat_ray.cluster.timing.kinds import Kinds, cause_of, cluster_nodes
from hat_ray.cluster.timing.member import Member, start_member
from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import LatencyError
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.fleet.plan import (
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
from hat_ray.latency.fleet.roster import Pace, Roster
from hat_ray.latency.timing.job import TimingJob
from hat_ray.runtime.choice import Choice
from hat_ray.space.architecture import Architecture

logger = logging.getLogger(__name__)

_POLL_S = 1.0
_SHOW_S = 1.0  # between values of the metrics
_LOOK_S = 3.0  # between looks at which nodes there are, where nothing happens
_TICK_S = 0.2  # at least between looks at members that are not ready, or silent
_SHARE = 0.1  # most of this process's time that each kind of look may take, however many nodes there are
_BUSY_S = 10.0  # how long a node's CPUs may take to be free before the wait is logged


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
        self._members: Roster[Member] = Roster(job.config)
        self._idle: dict[Member, None] = {}
        """Members that have reported their device and do nothing."""
        self._failures: list[str] = []
        self._cause: Exception | None = None
        self._failed_starts: Counter[str] = Counter()
        self._leaving: frozenset[str] = frozenset()  # nodes that will be taken away
        self._looks, self._ticks = Pace(_SHARE), Pace(_SHARE, _TICK_S)
        self._changed = True
        """Something has happened since the last look, which may be a reason to start a member."""
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
            for member in self._wait():
                self._advance(member)
            now = time.monotonic()
            if not self._ticks.wait_s(now):
                self._tick(now)
                self._ticks.spent(now, time.monotonic())
            for place, cause in self._kinds.hear():
                self._leave_out(place, cause)
            self._hand_out()
            if (self._changed or now > self._next_look) and not self._looks.wait_s(now):
                self._look()
            self._tell()

    def _tick(self, now: float) -> None:
        """See which members have their CPUs by now, and which have been silent for too long."""
        for member in self._members:
            if not member.reserved:
                self._check_reservation(member)
            elif member.silence is not None and member.ref is not None and member.silence.is_lost(now):
                self._lose(member, f"it has reported nothing for {member.silence.seconds(now):.0f} s")

    def close(self) -> None:
        self._awaited.end()
        for member in self._members:
            self._release(member)
        self._show_metrics()

    def _wait(self) -> list[Member]:
        """Wait until a member has reported something; return all that have."""
        members = {member.ref: member for member in self._members if member.ref is not None}
        refs = [*members, *self._kinds.refs]
        soon = self._looks.wait_s(time.monotonic()) if self._changed else _POLL_S
        if not refs:
            time.sleep(min(_POLL_S, soon))
            return []
        ready = ray.wait(refs, num_returns=1, timeout=min(_POLL_S, soon))[0]
        if ready and len(refs) > 1:
            ready = ray.wait(refs, num_returns=len(refs), timeout=0)[0]
        self._changed |= bool(ready)
        return [members[ref] for ref in ready if ref in members]

    def _is_over(self) -> bool:
        if self._changed or self._awaited or self._kinds.refs or any(m.ref is not None for m in self._members):
            return False
        return all(work.over or self._is_gone(work) for work in self._devices.values())

    def _is_gone(self, work: DeviceWork) -> bool:
        return work.lost_at is not None and time.monotonic() - work.lost_at > self._job.config.reconnect_timeout_s

    def _look(self) -> None:
        """See which nodes there are, and start a member where work waits for one."""
        began, self._changed = time.monotonic(), False
        nodes, self._leaving = cluster_nodes(), leaving_nodes()
        self._failures += self._awaited.look(nodes)
        found = candidates(nodes, self._job.config)
        there = {place.node.id for place in found}
        for member in self._members:
            if member.work is None and member.placement.node.id not in there:
                self._release(member)  # its node left before it was ready: no fault of the device
        self._kinds.forget_all_but(found)
        for place in found:
            for _ in range(place.seats(self._job.config.threads_on(place.selector))):
                if not self._fill(place, alone=len(found) == 1):
                    break
        self._hand_out(everybody=True)
        now = time.monotonic()
        self._next_look = now + _LOOK_S
        self._looks.spent(began, now)

    def _fill(self, place: Placement, *, alone: bool) -> bool:
        """Start a member at a place where one is wanted; return whether it was."""
        if not self._members.has_seat(place) or self._failed_starts[place.key] > self._job.config.retries:
            return False
        kind = self._kinds.of(place)
        if kind is None and not (alone or self._job.config.devices):
            self._kinds.ask(place)
            return False
        if not self._members.wants(kind, self._devices.get(kind) if kind else None):
            return False
        self._members.add(start_member(self._job, place), kind)
        return True

    def _advance(self, member: Member) -> None:
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

    def _end_chunk(self, member: Member, work: DeviceWork, outcome: Outcome) -> None:
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
        self._idle[member] = None

    def _enlist(self, member: Member, device: DeviceInfo, choice: Choice) -> None:
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
        member.reserved = True
        self._members.enlist(member, device.slug)
        self._idle[member] = None

    def _check_reservation(self, member: Member) -> None:
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

    def _break(self, member: Member, cause: Exception) -> None:
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

    def _lose(self, member: Member, why: str) -> None:
        """Give a member's chunk back; `_look` starts another one, here or where its device appears again."""
        self._changed = True
        self._failures.append(
            f"device {member.placement.title} was lost while {'timing' if member.work else 'starting'}: {why}"
        )
        logger.warning(self._failures[-1])
        if member.work is None:
            self._failed_starts[member.placement.key] += 1
        else:
            member.work.give_back(member.chunk)
        self._release(member)

    def _release(self, member: Member) -> None:
        """End a member and free its node."""
        self._members.remove(member)
        self._idle.pop(member, None)
        ray.kill(member.actor)
        remove_placement_group(member.group)
        work = member.work
        if work is None:
            return
        work.manned_s += time.monotonic() - member.began
        if not work.over and not self._members.on(work.device.slug):
            work.lost_at = time.monotonic()
            limit_s = self._job.config.reconnect_timeout_s
            logger.warning("device %s: waiting up to %g s for a node", work.device.slug, limit_s)

    def _hand_out(self, *, everybody: bool = False) -> None:
        """Give idle members the next chunks; one that has nothing to do waits for the next round.

        `everybody`: those included that had nothing to do before.
        """
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            for late in self._devices.values():
                late.pending.clear()
        for member in list(self._idle):
            work = member.work
            assert work is not None, "it has reported its device"
            leaves = member.placement.node.id in self._leaving
            waits = not work.pending and (everybody or not member.waits) and self._is_waited_for(member)
            if leaves or work.given_up or waits:
                self._release(member)
            elif work.pending:
                del self._idle[member]
                member.waits = False
                member.chunk = work.take(self._members.on(work.device.slug))
                member.ref = member.actor.time.remote(member.chunk, work.contested, left_s)
                member.handed_at = time.monotonic()
                member.silence = Silence(self._least_silence_s, member.handed_at)
            else:
                member.waits = True

    def _is_waited_for(self, member: Member) -> bool:
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
        now, members = time.monotonic(), defaultdict[str, list[Member]](list)
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

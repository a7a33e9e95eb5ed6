"""Nodes that work may count on: those that stay, and those that an autoscaler may still add.

Decisions
- Ray's tasks and actors that wait are demand by themselves. What waits before any exists, such as the nodes that
  training and timing look for first, is asked for by `request_resources`.
- The second autoscaler (KubeRay's, and `ray up` with RAY_enable_autoscaler_v2) reports to the head which nodes it
  starts. One that starts none for a minute has no group of nodes for what is asked: waiting longer is no use.
- The first one is known only by the label of the nodes that it started, such as the head. It reports nothing here.
- A node that is about to be taken away (preempted, or ended by an autoscaler) is drained: Ray gives it no new work,
  and so do we. What works there looks for itself, and ends before the node does.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.autoscaler.v2.sdk import get_cluster_status

from hat_ray.cluster.session import leaving_nodes
from hat_ray.errors import HatRayError

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 5.0
_SECONDS_BETWEEN_REMINDERS = 60.0
_SECONDS_WITHOUT_A_LAUNCH = 60.0
MAX_WAIT_S = 1_800.0
"""Seconds that work waits for nodes where no setting names another time."""
_NODE_GROUP = "ray.io/node-group"


@dataclass(frozen=True)
class Bundle:
    """What one worker needs of one node: amounts of resources, and label rules as Ray writes them."""

    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The same for people: `2 CPU and 1 GPU, with hw=pi4`."""
        amounts = " and ".join(f"{amount:g} {name}" for name, amount in self.resources.items()) or "any node"
        rules = ", ".join(f"{key}={rule}" for key, rule in self.labels.items())
        return f"{amounts}, with {rules}" if rules else amounts


def living_nodes() -> list[dict[str, Any]]:
    """Return the nodes that are alive and stay, as Ray describes them."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    leaving = leaving_nodes()
    return [node for node in nodes if node["Alive"] and node["NodeID"] not in leaving]


def may_grow() -> bool:
    """Report whether an autoscaler may add nodes: one that reports to the head, or one that labelled its nodes.

    Where that is wrong, work waits for a minute, or as long as its setting allows, and is refused then.
    """
    return any((node.get("Labels") or {}).get(_NODE_GROUP) for node in living_nodes()) or _look().reports


@dataclass(frozen=True)
class _Look:
    """The second autoscaler's work as it reports it."""

    reports: bool = False
    starting: Mapping[str, int] = field(default_factory=dict)
    """Nodes that are being started, by the name of their group."""
    failures: tuple[str, ...] = ()
    """Why launches failed."""


def _look() -> _Look:
    address = str(ray.get_runtime_context().gcs_address)
    try:
        status = get_cluster_status(address)
    except Exception as error:  # every version of Ray raises its own kinds here; the head itself is asked elsewhere
        log.debug("the head gives no status of an autoscaler: %s", error)
        return _Look()
    starting: dict[str, int] = {}
    for launch in status.pending_launches:
        starting[launch.ray_node_type_name] = starting.get(launch.ray_node_type_name, 0) + launch.count
    for node in status.pending_nodes:
        starting[node.ray_node_type_name] = starting.get(node.ray_node_type_name, 0) + 1
    failures = tuple(f"{one.ray_node_type_name}: {one.details or 'failed'}" for one in status.failed_launches)
    return _Look(int(status.stats.autoscaler_version or 0) > 0, starting, failures)


class Growth:
    """Asks an autoscaler for bundles, and follows what it does; the request is withdrawn at the end.

    A context manager. Only one at a time may ask: Ray keeps one request for the whole cluster.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked: tuple[Bundle, ...] = ()
        self._moved = clock()
        self._look, self._reported = _Look(), False

    def __enter__(self) -> "Growth":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ask(())

    def ask(self, bundles: Sequence[Bundle]) -> None:
        """Ask for room for all of these at once, in place of what was asked before.

        Ask again at each look: another program's request may have taken the place of this one.
        """
        if not bundles and not self._asked:
            return
        if tuple(bundles) != self._asked:
            self._asked, self._moved = tuple(bundles), self._clock()
        request_resources(
            bundles=[dict(one.resources) for one in bundles],
            bundle_label_selectors=[dict(one.labels) for one in bundles],
        )

    def look(self) -> None:
        """See which nodes are being started."""
        self._look = _look()
        self._reported = self._reported or self._look.reports
        if self._look.starting or not self._reported:
            self._moved = self._clock()

    @property
    def idle(self) -> bool:
        """Whether the autoscaler has started nothing for a minute since it was asked: it has no such nodes."""
        return self._reported and self._clock() - self._moved > _SECONDS_WITHOUT_A_LAUNCH

    @property
    def words(self) -> str:
        """What is being started, or why nothing is, for people; empty where that is not known."""
        if self._look.starting:
            return "starting: " + ", ".join(f"{n} of group {name}" for name, n in sorted(self._look.starting.items()))
        if self._look.failures:
            return f"launches failed: {'; '.join(self._look.failures[:3])}"
        return "its autoscaler starts no node for it (see `ray status`)" if self.idle else ""


def wait_for(missing: Callable[[], str | None], bundles: Sequence[Bundle], max_wait_s: float, remedy: str) -> None:
    """Wait until nothing is missing any more, and ask an autoscaler for the bundles until then.

    `missing` returns what the cluster lacks in one line, or None. Raises HatRayError, with the remedy, at once where
    the cluster cannot grow, after a minute in which its autoscaler starts nothing, and after `max_wait_s` seconds.
    """
    what = missing()
    if what is None:
        return
    if not may_grow():
        raise HatRayError(f"{what}: {remedy}")
    began, reminded = time.monotonic(), float("-inf")
    with Growth() as growth:
        while (what := missing()) is not None:
            growth.ask(bundles)
            growth.look()
            waited = time.monotonic() - began
            if growth.idle or waited > max_wait_s:
                raise HatRayError(f"{what}; {growth.words or 'no node was added'} in {waited:.0f} s: {remedy}")
            if time.monotonic() - reminded > _SECONDS_BETWEEN_REMINDERS:
                reminded = time.monotonic()
                known = f" ({growth.words})" if growth.words else ""
                log.warning("%s: it waits for nodes%s, %.0f s more at most", what, known, max_wait_s - waited)
            time.sleep(SECONDS_BETWEEN_LOOKS)

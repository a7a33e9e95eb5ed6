"""Where on a cluster work runs: a recipe's rules and the defaults, as Ray takes them.

Decisions
- Ray itself places the work, by label selectors. Nodes that are left out without a rule are excluded by their ids:
  those that join may work at once, and are judged when the next piece of work begins.
- What a node is, a task on it reports. Raylets of one address are one machine, which is asked once; a cluster of one
  machine, or with one node that has CPUs, is not asked.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hat_ray.cluster.growth import MAX_WAIT_S, Bundle, living_nodes, wait_for
from hat_ray.core.placement import VERBS, ClusterConfig, HostFacts, NodeRule, Work, host_facts, left_out, unfit_nodes

log = logging.getLogger(__name__)

_ANSWER_S = 60.0
_NODE_ID = "ray.io/node-id"
_MOST_NAMED = 3


@dataclass(frozen=True)
class Node:
    """One living node of the cluster."""

    id: str
    host: str
    address: str
    labels: Mapping[str, str]
    resources: Mapping[str, float]

    @property
    def works(self) -> bool:
        """Whether anything that takes a CPU or a GPU can run there."""
        return self.resources.get("CPU", 0) >= 1 or self.has_gpu

    @property
    def has_gpu(self) -> bool:
        return self.resources.get("GPU", 0) >= 1


def _nodes() -> list[Node]:
    return [
        Node(
            *(node["NodeID"], node["NodeManagerHostname"], node["NodeManagerAddress"]),
            *(node.get("Labels") or {}, node["Resources"]),
        )
        for node in living_nodes()
    ]


@dataclass(frozen=True)
class Place:
    """The nodes that may do one kind of work."""

    work: Work | None = None
    """None: anything."""
    rule: NodeRule = field(default_factory=NodeRule)
    given: bool = False
    """Whether it is the recipe's rule."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Why other nodes, by id, may not."""

    @property
    def options(self) -> dict[str, Any]:
        """Options of Ray's tasks and actors."""
        found: dict[str, Any] = {"label_selector": dict(self.rule.labels)} if self.rule.labels else {}
        return {**found, "resources": self.rule.amounts} if self.rule.resource else found

    @property
    def of_cluster(self) -> str:
        """The nodes for people, in the singular."""
        return f"the part of the cluster that {VERBS[self.work]}" if self.work and self.left_out else "the cluster"

    @property
    def remedy(self) -> str:
        """The setting that lets more nodes do it, as the end of a sentence; empty where all may."""
        return f", or change cluster.{self.work}" if self.work and self.left_out else ""

    def bundle(self, resources: Mapping[str, float]) -> Bundle:
        """Return the needs of one worker that takes these resources."""
        return Bundle({**resources, **self.rule.amounts}, self.rule.labels)

    def nodes(self) -> list[Node]:
        """Return the living nodes that may do it."""
        return [node for node in _nodes() if self.rule.fits(node.labels, node.resources)]

    def resources(self) -> list[Mapping[str, float]]:
        """Return the resources of each of these nodes."""
        return [node.resources for node in self.nodes()]

    def lacks_nodes(self) -> str | None:
        """Return in one line that no node fits the recipe's rule; None: one does."""
        if not self.given or self.nodes():
            return None
        there = ", ".join(sorted(f"{node.host} {_own(node.labels)}" for node in _nodes())[:_MOST_NAMED])
        return f"cluster.{self.work} must fit a node of the cluster, got {self.rule.words}, which fits none ({there})"


ANYWHERE = Place()


class Placement:
    """The places of a recipe's work on the cluster that this process is connected to."""

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config
        self._known: dict[str, HostFacts] = {}
        """What machines report of themselves, by address."""
        self._asked: dict[str, Any] = {}
        """Questions that are not answered yet."""
        self._logged: dict[str, str] = {}

    def of(self, work: Work) -> Place:
        """Return the nodes that may do a kind of work, of those that there are now."""
        nodes, rule = _nodes(), self._config.rule(work)
        unfit = self.unfit(nodes) if rule is None else {}
        out = left_out(self._config, work, nodes, unfit)
        return Place(work, _all_but(unfit) if rule is None else rule, rule is not None, out)

    def left_out(self) -> dict[Work, dict[str, str]]:
        """Return why nodes, by id, do not do each kind of work."""
        nodes = _nodes()
        ruled = all(self._config.rule(work) is not None for work in VERBS)
        unfit = {} if ruled else self.unfit(nodes)
        return {work: left_out(self._config, work, nodes, unfit) for work in VERBS}

    def unfit(self, nodes: Sequence[Node]) -> dict[str, str]:
        """Return why nodes do none of it where the recipe has no rule, by id, and log it once."""
        able = [node for node in nodes if node.works]
        machines = {node.address: node.id for node in able}
        if len(machines) < 2:
            return {}
        self._ask(machines)
        facts = {node.id: self._known.get(node.address) for node in able}
        reasons = unfit_nodes(facts, frozenset(node.id for node in able if node.has_gpu))
        self._log({node.host: reasons[node.id] for node in able if node.id in reasons})
        return reasons

    def _ask(self, machines: Mapping[str, str]) -> None:
        """Ask machines that were not asked yet, each by one of its nodes; those that were silent are not waited for."""
        new = [address for address in machines if address not in self._known and address not in self._asked]
        for address in new:
            self._asked[address] = _ask(machines[address])
        if new:
            ray.wait([self._asked[address] for address in new], num_returns=len(new), timeout=_ANSWER_S)
        for address, question in list(self._asked.items()):
            if ray.wait([question], timeout=0)[0]:
                del self._asked[address]
                try:
                    self._known[address] = ray.get(question)
                except RayError as error:  # its node left, or lacks hat-ray
                    log.debug("%s gives no answer: %s", address, error)

    def _log(self, reasons: Mapping[str, str]) -> None:
        if reasons == self._logged:
            return
        self._logged = dict(reasons)
        if reasons:
            named = "; ".join(f"{host}: {why}" for host, why in sorted(reasons.items())[:_MOST_NAMED])
            more = "; ..." if len(reasons) > _MOST_NAMED else ""
            log.info(
                "nodes left out of training, search and scoring: %d (%s%s); cluster.train, cluster.search and "
                "cluster.score choose others",
                len(reasons),
                named,
                more,
            )


def require_node(resources: Mapping[str, float], rule: str, place: Place = ANYWHERE) -> None:
    """Return once one node of a place has these resources; one that an autoscaler may add is waited for.

    Raises HatRayError, which begins with the rule, where no node will have them.
    """
    needed = place.bundle({name: amount for name, amount in resources.items() if amount > 0})

    def missing() -> str | None:
        if why := place.lacks_nodes():
            return why
        nodes = place.resources()
        if any(all(node.get(name, 0.0) >= amount for name, amount in needed.resources.items()) for node in nodes):
            return None
        return f"{rule}, got none with {needed.words}"

    wait_for(missing, [needed], MAX_WAIT_S, f"add such a node{place.remedy}")


def _all_but(unfit: Mapping[str, str]) -> NodeRule:
    return NodeRule(labels={_NODE_ID: f"!in({','.join(sorted(unfit))})"}) if unfit else NodeRule()


def _own(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in labels.items() if not key.startswith("ray.io/")}


def _ask(node_id: str) -> Any:
    here = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return _host_facts.options(scheduling_strategy=here).remote()


_host_facts: Any = ray.remote(num_cpus=0, max_retries=0)(host_facts)
"""By name, from a module that loads neither PyTorch nor Ray: a board answers within seconds."""

"""Which nodes of a cluster train, search and score: by a recipe's rules, and else by what a node is.

Decisions
- Timing is no part of it: `latency.devices` chooses the nodes that are timed.
- Without a rule a node is left out that is small, a board, or a smaller machine of another architecture. It is compared
  with the others: where no node is left, all work, as on a cluster of boards alone.
- A node with a GPU may be of another architecture: such machines are there to train.
- A node that does not answer is left out, as a board that is switched off and on.
"""

import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import Field, field_validator

from hat_ray.core.config import StageConfig
from hat_ray.core.processor import read_cpu

Work = Literal["train", "search", "score"]
VERBS: Mapping[Work, str] = {"train": "trains", "search": "searches", "score": "scores"}
"""Every kind of work, and what a node does that does it."""

LEAST_MEMORY_BYTES = 4 << 30
_NAME = r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
_KEY = re.compile(rf"([a-zA-Z0-9][a-zA-Z0-9.-]{{0,252}}/)?{_NAME}")
_RULE = re.compile(rf"!?({_NAME}|in\({_NAME}(, ?{_NAME})*\))")
_SHARE_OF_RESOURCE = 1e-3
"""The amount of a custom resource that one worker takes: the node must have the resource, any number may work there."""


class NodeRule(StageConfig):
    """The nodes that do one kind of work: those that fit all that is given."""

    labels: dict[str, str] = Field(default_factory=dict)
    """Ray node labels, such as {"pool": "servers"}; values as Ray writes them: "servers", "!pi4", "in(a,b)",
    "!in(a,b)"."""

    resource: str = Field(default="", max_length=255)
    """A custom Ray resource that the node must have, such as "trainer"; empty: any node."""

    @field_validator("labels")
    @classmethod
    def _as_ray_writes_them(cls, labels: dict[str, str]) -> dict[str, str]:
        for key, rule in labels.items():
            if not _KEY.fullmatch(key):
                raise ValueError(f"a label's name has letters, digits and .-_ between them, got {key[:100]!r}")
            if not _RULE.fullmatch(rule):
                raise ValueError(f"a label's rule reads a, !a, in(a,b) or !in(a,b), got {rule[:100]!r}")
        return labels

    @property
    def amounts(self) -> dict[str, float]:
        """The amount of the custom resource that a worker takes."""
        return {self.resource: _SHARE_OF_RESOURCE} if self.resource else {}

    @property
    def words(self) -> str:
        """What is given, for people."""
        return str(self.model_dump(exclude_defaults=True))

    def fits(self, labels: Mapping[str, str], resources: Mapping[str, float]) -> bool:
        """Return whether a node with these labels and resources fits."""
        if self.resource and resources.get(self.resource, 0) <= 0:
            return False
        return all(label_fits(rule, labels.get(key)) for key, rule in self.labels.items())


class ClusterConfig(StageConfig):
    """The nodes of a Ray cluster that do the work of stages. Timing has `latency.devices`; one machine does all."""

    train: NodeRule | None = None
    """Nodes that train; null: those that are fit for it by what they are, {}: every node."""

    search: NodeRule | None = None
    """Nodes whose workers score the candidates of a search; null: those that are fit for it, {}: every node."""

    score: NodeRule | None = None
    """Nodes that encode text, translate and score; null: those that are fit for it, {}: every node."""

    def rule(self, work: Work) -> NodeRule | None:
        """Return the rule of one kind of work; None: what a node is decides."""
        rule: NodeRule | None = getattr(self, work)
        return rule


class AnyNode(Protocol):
    """A living node of a cluster."""

    @property
    def id(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def resources(self) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class HostFacts:
    """What a machine reports of itself."""

    architecture: str
    """Such as x86_64 or aarch64."""
    memory_bytes: int | None
    """None: not known."""
    board: str = ""
    """The board's model; empty: it is none."""


def host_facts() -> HostFacts:
    """Describe the machine that this process runs on."""
    cpu = read_cpu()
    return HostFacts(platform.machine(), cpu.memory_bytes, cpu.board)


def label_fits(rule: str, value: str | None) -> bool:
    """Judge a label by Ray's rules: `pi4`, `!pi4`, `in(pi4,pi5)`, `!in(pi4,pi5)`; an absent label fits only a `!`."""
    negated, rule = rule.startswith("!"), rule.removeprefix("!")
    listed = re.fullmatch(r"in\((.*)\)", rule)
    allowed = [item.strip() for item in listed[1].split(",")] if listed else [rule]
    return (value in allowed) != negated


def left_out(config: ClusterConfig, work: Work, nodes: Iterable[AnyNode], unfit: Mapping[str, str]) -> dict[str, str]:
    """Return why nodes do not do a kind of work, by id; `unfit` are the reasons where the recipe has no rule."""
    rule = config.rule(work)
    if rule is None:
        return {node.id: unfit[node.id] for node in nodes if node.id in unfit}
    why = f"cluster.{work} is {rule.words}"
    return {node.id: why for node in nodes if not rule.fits(node.labels, node.resources)}


def unfit_nodes(nodes: Mapping[str, HostFacts | None], with_gpu: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return why nodes should neither train nor score, by id; empty where that would leave none.

    `nodes` has what each reports of itself, None where it gave no answer; `with_gpu` has the ids of those with a GPU.
    """
    reasons = {node: why for node, facts in nodes.items() if (why := _why_unfit(facts))}
    rest = {node: facts for node, facts in nodes.items() if facts is not None and node not in reasons}
    if not rest:
        return {}
    largest = max(rest.values(), key=lambda facts: facts.memory_bytes or 0)
    for node, facts in rest.items():
        if node not in with_gpu and facts.architecture != largest.architecture and _is_half(facts, largest):
            reasons[node] = (
                f"it is {facts.architecture} with {_gib(facts.memory_bytes)} of memory, the largest is "
                f"{largest.architecture} with {_gib(largest.memory_bytes)}"
            )
    return reasons


def _why_unfit(facts: HostFacts | None) -> str:
    """Return why a node is unfit whatever the others are; empty: it is not."""
    if facts is None:
        return "it gave no answer"
    if facts.board:
        return f"it is a board, {facts.board}"
    if facts.memory_bytes is not None and facts.memory_bytes < LEAST_MEMORY_BYTES:
        return f"it has {_gib(facts.memory_bytes)} of memory, less than {LEAST_MEMORY_BYTES >> 30} GiB"
    return ""


def _is_half(facts: HostFacts, largest: HostFacts) -> bool:
    return (
        facts.memory_bytes is not None
        and largest.memory_bytes is not None
        and 2 * facts.memory_bytes < largest.memory_bytes
    )


def _gib(number: int | None) -> str:
    return f"{(number or 0) / 2**30:.1f} GiB"

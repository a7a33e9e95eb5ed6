"""A check, its inputs, and its result.

Decisions
- A check looks and changes nothing, but for a probe that it writes to a store and deletes again.
- A `failure` is certain: the work could not end well. A likely failure, or one that may still change, is a `warning`.
- Nothing here loads PyTorch or Ray: a mistake is reported within a second.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from hat_ray.core.placement import Work
from hat_ray.corpus.corpus import CorpusSummary
from hat_ray.corpus.prepare import read_summary
from hat_ray.recipe import Recipe
from hat_ray.storage.folder import Folder

Verdict = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class CheckResult:
    """The result of one check."""

    name: str
    verdict: Verdict
    text: str
    """One line: the rule, the value that breaks it, and the remedy; where all is well, the observation."""


@dataclass(frozen=True)
class Machine:
    """A machine that stages may work on: this one, or a node of a cluster. An unknown value is None."""

    host: str
    cpus: int
    gpus: float = 0
    isa: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    id: str = ""
    packages: frozenset[str] | None = None
    """Those of `packages.WANTED` that are installed."""
    memory_bytes: int | None = None
    free_memory_bytes: int | None = None
    model: str = ""
    """The processor's or board's model, the first part of a device's id; empty: not known."""
    counts_energy: bool | None = None
    """Whether it counts the energy of its processors; None: not known, or its GPUs may time."""


@dataclass(frozen=True)
class Situation:
    """The circumstances of a recipe's run."""

    stages: tuple[str, ...]
    """Stages that are still to be done."""
    place: str | None = None
    """The run folder; None: not named yet."""
    machines: tuple[Machine, ...] = ()
    """Machines that it runs on."""
    cluster: bool = False
    """Whether `machines` are the nodes of a cluster that others started."""
    may_grow: bool = False
    """Whether an autoscaler may add nodes to that cluster."""
    left_out: Mapping[Work, Mapping[str, str]] = field(default_factory=dict)
    """Of each kind of work the nodes that do not do it, by id, and why."""
    local: bool = False
    """Whether all is done in one process, without Ray."""
    committed: bool = True
    """Whether work begins at once, here; else what only depends on this machine is a warning."""

    @property
    def of_machine(self) -> Verdict:
        """Verdict where this machine lacks something."""
        return "failure" if self.committed else "warning"

    @property
    def run_folder(self) -> Folder | None:
        return None if self.place is None else Folder.at(self.place)

    def machines_that(self, work: Work) -> tuple[Machine, ...]:
        """Return the machines that do a kind of work."""
        return tuple(machine for machine in self.machines if machine.id not in self.left_out.get(work, {}))

    def after(self, stages: tuple[str, ...]) -> "Situation":
        """Return the situation once only these stages are left."""
        return replace(self, stages=stages)

    def corpus(self) -> CorpusSummary | None:
        """Return the summary of the run's corpus, where it is finished and its settings are the same."""
        folder = self.run_folder
        return None if folder is None or "corpus" in self.stages else read_summary(folder.child("corpus"))


Finding = tuple[Verdict, str]
Look = Callable[[Recipe, Situation], Iterable[Finding]]
"""Yields mistakes, each with its line, and facts worth a line where all is well."""


@dataclass(frozen=True)
class Check:
    """One check."""

    name: str
    look: Look
    stages: frozenset[str]
    """Those that it is for."""
    again: bool = False
    """Whether results of earlier stages add facts: then it runs again before each stage."""

    def run(self, recipe: Recipe, situation: Situation) -> list[CheckResult]:
        """Return the results; where nothing is wrong, one that is `ok`."""
        found = [CheckResult(self.name, verdict, text) for verdict, text in self.look(recipe, situation)]
        return found or [CheckResult(self.name, "ok", "")]

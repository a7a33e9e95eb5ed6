"""A stage, and the order in which stages run."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from hat_ray.core.config import StageConfig
from hat_ray.core.progress import Progress, ProgressFactory, no_progress
from hat_ray.errors import HatRayError, RunError
from hat_ray.latency.table.part_file import KeptParts
from hat_ray.pipeline.execution import Execution
from hat_ray.pipeline.outline import OUTLINES, command_of
from hat_ray.pipeline.run_folder import Run, StageRecord
from hat_ray.recipe import Recipe
from hat_ray.storage.folder import Folder

log = logging.getLogger(__name__)

OutputT = TypeVar("OutputT")


def no_progress_bars(_label: str) -> AbstractContextManager[Progress]:
    """Report nothing."""
    return nullcontext(no_progress)


def always_ready(_stage: str) -> None:
    """Check nothing."""


@dataclass(frozen=True)
class Context:
    """Inputs of every stage."""

    run: Run
    execution: Execution
    progress: ProgressFactory = no_progress_bars
    ready: Callable[[str], None] = always_ready
    """Called with a stage's name before it begins; raises HatRayError where it could not end well."""
    tables: dict[str, KeptParts] = field(default_factory=dict)
    """The latency tables that stages have read, by URI: stages of one call open each file once."""

    @property
    def recipe(self) -> Recipe:
        return self.run.recipe

    def folder(self, stage: str) -> Folder:
        return self.run.stage_folder(stage)

    def output(self, stage: "Stage[OutputT]") -> OutputT | None:
        """Return the output of a finished stage, or None."""
        return self.run.output(stage.name, stage.output)

    def require(self, stage: "Stage[OutputT]") -> OutputT:
        """Return the output of a finished stage; raises RunError where the run has none."""
        found = self.output(stage)
        if found is None:
            command = command_of(stage.name, self.recipe, str(self.run.folder))
            raise RunError(f"{self.run.folder} has no finished stage {stage.name} yet: do `{command}` first")
        return found


@dataclass(frozen=True)
class Stage(Generic[OutputT]):
    """One stage: the settings that decide it, the stages it reads, its work and the type of its output.

    `run` fills the stage's folder and returns the stage's output, which `stage.json` holds. It is called again on the
    same folder after a kill and resumes from its content.
    """

    name: str
    output: type[OutputT]
    settings: tuple[str, ...]
    """Sections of the recipe that decide the result."""
    reads: tuple[str, ...]
    run: Callable[[Context, Folder], OutputT]
    outside: Callable[[Context], str | None] | None = None
    """Hashes what decides the result and stands neither in these settings nor in a stage that is read; None: nothing
    does."""
    before: Callable[[Context], None] | None = None
    """Fetches what `outside` hashes; called each time, and quick where nothing is missing."""
    may_read: tuple[str, ...] = ()
    """Stages that it reads from where they are finished, and does without where they are not."""
    closing: Callable[[OutputT], str] | None = None
    """Returns the result in a few words, for the stage's closing line."""

    @classmethod
    def of(
        cls,
        name: str,
        output: type[OutputT],
        run: Callable[[Context, Folder], OutputT],
        *,
        outside: Callable[[Context], str | None] | None = None,
        before: Callable[[Context], None] | None = None,
        closing: Callable[[OutputT], str] | None = None,
    ) -> "Stage[OutputT]":
        """Return the stage that `outline.py` names, with its work."""
        outline = OUTLINES[name]
        return cls(name, output, outline.settings, outline.reads, run, outside, before, outline.may_read, closing)

    def settings_of(self, context: Context) -> dict[str, Any]:
        """Return the settings that decide this stage's result."""
        parts: dict[str, Any] = {}
        for name in self.settings:
            config = getattr(context.recipe, name)
            parts[name] = config.result_settings() if isinstance(config, StageConfig) else config
        if self.outside is not None and (outside := self.outside(context)) is not None:
            parts["outside"] = outside
        return parts


def run_stages(
    context: Context, stages: Sequence[Stage[Any]], only: str | None = None, take_over: bool = False
) -> list[StageRecord]:
    """Work through stages in order, or do one of them; return their records.

    Raises RunError when a stage that `only` names reads from one that is not finished, and where another process works
    in the run folder, unless it is to be taken over.
    """
    records = []
    context = replace(context, progress=context.execution.watched(context.run.folder.label, context.progress))
    with context.run.held(take_over), context.run.saving_recipe():
        for stage in stages:
            if only is None or stage.name == only:
                records.append(_run_stage(context, stage))
    return records


def _run_stage(context: Context, stage: Stage[Any]) -> StageRecord:
    run = context.run
    for need in stage.reads:
        if run.record(need) is None:
            command = command_of(need, run.recipe, str(run.folder))
            raise RunError(
                f"stage {stage.name} reads from {need}, which {run.folder} does not have yet: do `{command}` first"
            )
    if stage.before is not None:
        stage.before(context)
    settings = stage.settings_of(context)
    inputs = (*stage.reads, *stage.may_read)
    fingerprint = run.fingerprint(stage.name, settings, inputs)
    if record := run.finished(stage.name, fingerprint):
        log.info("%-9s finished before (%.0f s), skipped", stage.name, record.seconds)
        return record
    context.ready(stage.name)
    before = run.record(stage.name)
    folder = run.open_stage(stage.name, fingerprint)
    started = time.monotonic()
    try:
        output = stage.run(context, folder)
    except HatRayError:
        run.restore_previous(stage.name, before.fingerprint if before else None)
        raise
    record = run.finish(stage.name, fingerprint, settings, inputs, started, output)
    result = "" if stage.closing is None else f"{stage.closing(output)}; "
    log.info("%-9s done in %.0f s: %s%s", stage.name, record.seconds, result, folder)
    return record

"""What a stage is, and how a list of stages is worked through."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from hat_ray.core.config import StageConfig
from hat_ray.core.progress import Progress, silent
from hat_ray.errors import HatRayError, RunError
from hat_ray.pipeline.execution import Execution
from hat_ray.pipeline.run_folder import Run, StageRecord
from hat_ray.recipe import Recipe
from hat_ray.storage.folder import Folder

log = logging.getLogger(__name__)

ProgressFactory = Callable[[str], AbstractContextManager[Progress]]


def no_progress(_label: str) -> AbstractContextManager[Progress]:
    """Tell nobody."""
    return nullcontext(silent)


def always_ready(_stage: str) -> None:
    """Look at nothing."""


@dataclass(frozen=True)
class Context:
    """What every stage is given."""

    run: Run
    execution: Execution
    progress: ProgressFactory = no_progress
    ready: Callable[[str], None] = always_ready
    """Called with a stage's name before it begins; raises HatRayError where it could not end well."""

    @property
    def recipe(self) -> Recipe:
        return self.run.recipe

    def folder(self, stage: str) -> Folder:
        return self.run.stage_folder(stage)


@dataclass(frozen=True)
class Stage:
    """One stage: which parts of the recipe decide it, which stages it reads, what it does.

    `work` fills the stage's folder and returns a summary of JSON values. It is called again on the same folder after a
    kill and goes on from what is there.
    """

    name: str
    sections: tuple[str, ...]
    needs: tuple[str, ...]
    work: Callable[[Context, Folder], dict[str, Any]]
    outside: Callable[[Context], str] | None = None
    """Hashes what decides the result and stands neither in the recipe's sections nor in a needed stage."""
    before: Callable[[Context], None] | None = None
    """Fetches what `outside` hashes; called each time, and quick where nothing is missing."""
    may_need: tuple[str, ...] = ()
    """Stages that it reads from where they are finished, and does without where they are not."""

    def section(self, context: Context) -> dict[str, Any]:
        """Return the settings that decide this stage's result."""
        parts: dict[str, Any] = {}
        for name in self.sections:
            config = getattr(context.recipe, name)
            parts[name] = config.decisive() if isinstance(config, StageConfig) else config
        if self.outside is not None:
            parts["outside"] = self.outside(context)
        return parts


def run_stages(
    context: Context, stages: Sequence[Stage], only: str | None = None, take_over: bool = False
) -> list[StageRecord]:
    """Work through stages in order, or do one of them; return their records.

    Raises RunError when a stage that `only` names reads from one that is not finished, and where another process works
    in the run folder, unless it is to be taken over.
    """
    records = []
    with context.run.held(take_over), context.run.keeping():
        for stage in stages:
            if only is None or stage.name == only:
                records.append(_run_stage(context, stage))
    return records


def _run_stage(context: Context, stage: Stage) -> StageRecord:
    run = context.run
    for need in stage.needs:
        if run.record(need) is None:
            raise RunError(f"stage {stage.name} reads from {need}, which {run.folder} does not have yet: run it first")
    if stage.before is not None:
        stage.before(context)
    section = stage.section(context)
    inputs = (*stage.needs, *stage.may_need)
    mark = run.mark(stage.name, section, inputs)
    if record := run.finished(stage.name, mark):
        log.info("%-9s finished before (%.0f s), skipped", stage.name, record.seconds)
        return record
    context.ready(stage.name)
    before = run.record(stage.name)
    folder = run.begin(stage.name, mark)
    started = time.monotonic()
    try:
        summary = stage.work(context, folder)
    except HatRayError:
        run.abandon(stage.name, before.mark if before else None)
        raise
    record = run.finish(stage.name, mark, section, inputs, started, summary)
    log.info("%-9s done in %.0f s: %s", stage.name, record.seconds, folder)
    return record

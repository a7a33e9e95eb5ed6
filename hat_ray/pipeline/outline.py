"""The outline of the stages: the sections of the recipe that decide each, and the stages it reads. Imports no stage's
work.

So a command knows the stages still to be done, and checks their needs, before it loads anything heavy.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hat_ray.core.config import StageConfig
from hat_ray.pipeline.run_folder import Run
from hat_ray.recipe import Recipe


@dataclass(frozen=True)
class Outline:
    """One stage without its work."""

    name: str
    settings: tuple[str, ...]
    """Sections of the recipe that decide its result."""
    reads: tuple[str, ...] = ()
    """Stages that it reads."""
    may_read: tuple[str, ...] = ()
    """Stages that it reads from where they are finished, and does without where they are not."""

    def result_settings(self, recipe: Recipe) -> dict[str, Any]:
        """Return the settings that decide this stage's result."""
        configs = {name: getattr(recipe, name) for name in self.settings}
        return {name: c.result_settings() if isinstance(c, StageConfig) else c for name, c in configs.items()}


STAGE_NAMES = ("corpus", "supernet", "latency", "predictor", "search", "retrain", "evaluate", "report")
"""The stages of a recipe, in order."""

STUDY_NAMES = ("sweep", "ranking", "policies")
"""Stages that only their own commands do."""

COMMANDS = {
    **{"supernet": "train super", "latency": "latency measure", "predictor": "predict fit"},
    **{"sweep": "latency sweep", "ranking": "train ranking", "policies": "train policies"},
}
"""The commands of stages that are not called as their stage is."""

ONBOARD = "onboard"
"""The command that times and fits: the latency stage, with `latency.target_error`, and the next."""

_REPORTED = ("supernet", "latency", "predictor", "search", "retrain", "evaluate", *STUDY_NAMES)

OUTLINES = {
    outline.name: outline
    for outline in (
        Outline("corpus", ("corpus",)),
        Outline("supernet", ("space", "model", "supernet"), ("corpus",)),
        # needs no corpus, so that a board can time without one: what is translated decides, and is part of the
        # fingerprint
        Outline("latency", ("space", "model", "latency")),
        Outline("predictor", ("predictor",), ("latency",)),
        Outline("search", ("search",), ("corpus", "supernet", "latency", "predictor")),
        Outline("retrain", ("retrain",), ("corpus", "supernet", "predictor", "search")),
        Outline("evaluate", ("evaluate",), ("corpus", "latency", "retrain")),
        Outline("report", ("report",), ("corpus",), _REPORTED),
        Outline("sweep", ("space", "model", "latency", "sweep"), ("corpus",)),
        Outline(
            "ranking", ("space", "model", "retrain", "evaluate", "ranking"), ("corpus", "supernet"), ("predictor",)
        ),
        Outline(
            "policies", ("space", "model", "supernet", "retrain", "ranking", "policies"), ("corpus",), ("predictor",)
        ),
    )
}


def command_of(stage: str, recipe: Recipe, place: str) -> str:
    """Return the command line of one stage of a run. RECIPE stands for the recipe, whose place is not known here."""
    corpus = recipe.corpus
    text = corpus.fairseq if corpus.source == "fairseq" else corpus.files if corpus.source == "files" else None
    data = ("--data", shlex.quote(text.folder)) if text is not None and text.folder else ()
    return " ".join(["hat-ray", COMMANDS.get(stage, stage), "RECIPE", *data, "--run", shlex.quote(place)])


def stages_of(only: str | None) -> tuple[str, ...]:
    """Return the stages that a command does: all of a recipe, one, or a study with the report that shows it."""
    if only is None:
        return STAGE_NAMES
    along: dict[str, tuple[str, ...]] = {study: ("corpus", study, "report") for study in ("sweep", "policies")}
    along |= {"ranking": ("ranking", "report"), ONBOARD: ("latency", "predictor")}
    return along.get(only, (only,))


def unfinished(run: Run, names: Sequence[str]) -> tuple[str, ...]:
    """Return the stages that are still to be done, by settings and results.

    What only the stage itself sees (a text file that changed) is not looked at.
    """
    left: list[str] = []
    for name in names:
        if any(need in left for need in OUTLINES[name].reads) or not _holds(run, OUTLINES[name]):
            left.append(name)
    return tuple(left)


def _holds(run: Run, outline: Outline) -> bool:
    """Return whether a stage is finished with these settings, and with the present results of the stages before it."""
    record = run.record(outline.name)
    if record is None or record.seed != run.recipe.seed:
        return False
    settings = {name: value for name, value in record.settings.items() if name in outline.settings}
    now = {name: found.id for name in (*outline.reads, *outline.may_read) if (found := run.record(name))}
    return settings == outline.result_settings(run.recipe) and record.inputs == now

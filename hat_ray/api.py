"""A recipe, whole or in parts, as functions: what the command line and the job scripts call."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hat_ray.core.codec import to_json
from hat_ray.core.console import say
from hat_ray.core.determinism import stream_seed
from hat_ray.core.progress import Progress, silent
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import HatRayError, RunError
from hat_ray.evaluate.distil import Distilled, distil
from hat_ray.evaluate.translate import translate
from hat_ray.pipeline.execution import Execution, LocalExecution
from hat_ray.pipeline.models import retrained_model
from hat_ray.pipeline.outline import stages_of
from hat_ray.pipeline.preflight.all import asks_nodes, examine_all
from hat_ray.pipeline.preflight.here import situation_here
from hat_ray.pipeline.preflight.stores import try_run_folder
from hat_ray.pipeline.preflight.table import Watch, require
from hat_ray.pipeline.run_folder import Run, StageRecord
from hat_ray.pipeline.stage import Context, ProgressFactory, Stage, always_ready, no_progress, run_stages
from hat_ray.pipeline.stage_table import STAGES, STUDIES
from hat_ray.pipeline.stages.predictor import PREDICTOR
from hat_ray.pipeline.stages.search import predictors_of
from hat_ray.predictor.assess import Assessment
from hat_ray.recipe import Recipe
from hat_ray.report.data import ReportData
from hat_ray.report.render import read_report
from hat_ray.report.topics.flops import flops_lines, flops_to_json
from hat_ray.report.topics.models import summary_tables
from hat_ray.report.topics.ranking import study_tables
from hat_ray.report.topics.sweep import sweep_tables
from hat_ray.space.hat_yaml import load_architecture
from hat_ray.storage.folder import Folder
from hat_ray.train.job import train_sub
from hat_ray.train.state import TrainResult

log = logging.getLogger(__name__)

LOG_WIDTH = 140
"""Columns of the table where there is no terminal that has its own."""


def run_recipe(
    recipe: Recipe,
    place: str,
    *,
    address: str | None = None,
    local: bool = False,
    only: str | None = None,
    progress: ProgressFactory = no_progress,
    take_over: bool = False,
    skip_checks: bool = False,
) -> list[StageRecord]:
    """Do every stage of a recipe, or the one named `only`, in the run folder at `place`.

    What can be known at once is checked first, unless `skip_checks`. Ray is started, or the cluster at `address`
    joined, only when a stage has work for it; with `local` never. With `take_over` the folder is taken from a process
    that works in it, which ends.
    """
    check(recipe)
    with _execution(address, local, recipe) as execution:
        watch = None if skip_checks else check_first(recipe, place, execution, only=only, local=local)
        run = Run.open(place, recipe)
        ready = always_ready if watch is None else watch.before
        return run_stages(Context(run, execution, progress, ready), stages_for(only), take_over=take_over)


def check_first(
    recipe: Recipe, place: str, execution: Execution, *, only: str | None = None, local: bool = False
) -> Watch:
    """Check all that can be known before the first stage; raise CheckError where it could not end well."""
    require(try_run_folder(place))
    situation = situation_here(recipe, place, only=only, local=local)
    situation = execution.situation(situation, ask=asks_nodes(recipe))
    watch = Watch(recipe, situation)
    watch.begin(examine_all(recipe, situation))
    return watch


def stages_for(only: str | None) -> list[Stage[Any]]:
    """Return the stages that a command does: all of a recipe, one, or a study with the report that shows it."""
    known = {stage.name: stage for stage in (*STAGES, *STUDIES)}
    return [known[name] for name in stages_of(only)]


def check(recipe: Recipe) -> None:
    """Raise HatRayError for mistakes that need no work to be seen, before anything is written."""
    recipe.space.build()


def _execution(address: str | None, local: bool, recipe: Recipe) -> "ExecutionScope":
    if local:
        return ExecutionScope(LocalExecution())
    if not (address or os.environ.get("RAY_ADDRESS")):
        # Ray then takes 127.0.0.1 as this machine's address and listens nowhere else; it reads this when it is imported
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        from hat_ray.cluster.execution import RayExecution
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise HatRayError("Ray is not installed here: install it with `pip install hat-ray`, or use --local") from error
    return ExecutionScope(RayExecution(address, cpus_needed=_cpus_needed(recipe)))


def _cpus_needed(recipe: Recipe) -> int:
    """Return how many CPUs a cluster of one machine must offer for the recipe's largest group of workers."""
    training = max(config.workers * config.threads for config in (recipe.supernet, recipe.retrain))
    searching = round(recipe.search.workers * max(recipe.search.worker_cpus, 0))
    timing = max(recipe.latency.of(device).threads for device in (None, *recipe.latency.devices))
    return max(training, searching, timing)


class ExecutionScope:
    """Closes what an execution opened."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution

    def __enter__(self) -> Execution:
        return self.execution

    def __exit__(self, *_: object) -> None:
        self.execution.close()


def close_message(place: str, records: Sequence[StageRecord]) -> None:
    """Print what a run or a study found: the tables, and where the page is."""
    if not records or records[-1].stage != "report":
        return
    output = Console()
    if not output.is_terminal:
        output = Console(width=LOG_WIDTH)
    data = read_report(Folder.at(place).child("report"))
    for table in _tables(data, {record.stage for record in records}):
        output.print(table)
        output.print()
    say(f"report: {records[-1].output['page']}")


def _tables(data: ReportData, stages: set[str]) -> list[Table | Text]:
    """Return what stands above the closing line: a sweep's tables, those of other studies, or those of the run."""
    if "sweep" in stages and data.sweep is not None:
        return [*sweep_tables(data.sweep), *flops_lines(data)]
    studies = {"health": data.health, "policies": data.policies}
    shown = [study for name, study in studies.items() if name in stages and study is not None]
    return [*study_tables(shown)] if shown else [*summary_tables(data)]


def study_result(recipe: Recipe, place: str, study: str) -> dict[str, Any]:
    """Return the whole result of a finished study; with a sweep, what FLOPs say about the latency stage's rows."""
    (stage,) = (one for one in STUDIES if one.name == study)
    value = to_json(Context(Run(Folder.at(place), recipe), LocalExecution()).require(stage))
    more = {"flops": flops_to_json(read_report(Folder.at(place).child("report")))} if study == "sweep" else {}
    return {**value, **more}


def train_one(recipe: Recipe, place: str, file: Path, out: str, progress: Progress = silent) -> TrainResult:
    """Train one architecture of a recipe's space from scratch into `out`, in this process."""
    space, architecture = recipe.space.build(), load_architecture(file, recipe.space.build().qkv_dim)
    space.require(architecture)
    corpus = Corpus.load(Folder.at(place).child("corpus"))
    seed = stream_seed(recipe.seed, "retrain")
    return train_sub(architecture, space, corpus, recipe.model, recipe.retrain, Folder.at(out), seed, progress)


@dataclass(frozen=True)
class Prediction:
    """An architecture's latency on a device, as predicted."""

    predicted_ms: float
    low_ms: float
    high_ms: float
    """The latency lies between `low_ms` and `high_ms` with the probability that was asked for."""
    unseen: str | None
    """How the architecture lies outside what the predictor was fitted to; None: it does not."""


def predict_one(recipe: Recipe, place: str, file: Path, coverage: float = 0.9) -> dict[str, Prediction]:
    """Predict an architecture's milliseconds on each device of a run."""
    space, architecture = recipe.space.build(), load_architecture(file, recipe.space.build().qkv_dim)
    space.require(architecture)
    found = {}
    for slug, predictor in predictors_of(_with_predictors(recipe, place)).items():
        low, high = predictor.interval([architecture], coverage)
        (predicted,), (unseen,) = predictor.predict([architecture]), predictor.unseen([architecture])
        found[slug] = Prediction(float(predicted), float(low[0]), float(high[0]), unseen)
    return found


def assess_run(recipe: Recipe, place: str) -> list[Assessment]:
    """Return how good each device's predictor of a run is."""
    return list(_with_predictors(recipe, place).require(PREDICTOR).assessments.values())


def _with_predictors(recipe: Recipe, place: str) -> Context:
    context = Context(Run(Folder.at(place), recipe), LocalExecution())
    if context.run.record("predictor") is None:
        raise RunError(f"{place} has no fitted predictors yet: do `hat-ray predict fit {place}` first")
    return context


def translate_lines(
    recipe: Recipe, place: str, model_id: str | None, lines: Sequence[str], progress: Progress = silent
) -> list[str]:
    """Translate lines with a retrained model of a run: the one named, or the first winner."""
    model, corpus = retrained_model(recipe, place, model_id)
    return translate(model, corpus.vocabulary, lines, recipe.evaluate, progress)


def distil_corpus(recipe: Recipe, place: str, model_id: str | None, out: str, progress: Progress = silent) -> Distilled:
    """Translate a run's training sources into `out`, for training on what a retrained model says."""
    model, corpus = retrained_model(recipe, place, model_id)
    return distil(model, corpus, Folder.at(out), recipe.evaluate, progress)

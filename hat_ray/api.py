"""The public Python API: run a recipe, read a run, predict, translate. The command line is a layer over it.

`import hat_ray` names all of it (`hat_ray.run`, `hat_ray.load`, ...) and imports this file at the first use. The names
in `hat_ray.__all__` are public; the other functions here serve the command line.
"""

import json
import logging
import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hat_ray.core.codec import to_json
from hat_ray.core.config import nearest_name
from hat_ray.core.progress import Progress, ProgressFactory, no_progress
from hat_ray.errors import HatRayError, RunError, SearchError
from hat_ray.export.loaded import LoadedModel
from hat_ray.model.hypotheses.found import Hypothesis
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.pipeline.execution import Execution, LocalExecution
from hat_ray.pipeline.outline import ONBOARD, OUTLINES, stages_of
from hat_ray.pipeline.preflight.all import asks_nodes, examine_all
from hat_ray.pipeline.preflight.here import situation_here
from hat_ray.pipeline.preflight.stores import try_run_folder
from hat_ray.pipeline.preflight.table import Watch, require
from hat_ray.pipeline.run_folder import Run as RunFolder
from hat_ray.pipeline.run_folder import StageRecord, require_run_folder
from hat_ray.pipeline.stage import Context, Stage, always_ready, no_progress_bars, run_stages
from hat_ray.pipeline.stage_table import STAGES, STUDIES
from hat_ray.pipeline.stages.predictor import PREDICTOR
from hat_ray.pipeline.stages.search import predictors_of
from hat_ray.predictor.assess import Assessment
from hat_ray.recipe import Recipe, find_recipe, load_run_recipe
from hat_ray.report.render import read_report
from hat_ray.report.topics.flops import flops_to_json
from hat_ray.search.candidates import Candidate
from hat_ray.search.view import SearchView, view
from hat_ray.search.winners import LimitWinner
from hat_ray.serve.model_source import ModelSource
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder

log = logging.getLogger(__name__)

_STAGES: dict[str, Stage[Any]] = {stage.name: stage for stage in (*STAGES, *STUDIES)}


@dataclass(frozen=True)
class Prediction:
    """An architecture's predicted latency on a device."""

    predicted_ms: float
    low_ms: float
    high_ms: float
    """The latency lies between `low_ms` and `high_ms` with the requested probability."""
    unseen: str | None
    """How the architecture lies outside the rows of the predictor; None: it does not."""


@dataclass(frozen=True)
class Model:
    """A model on a runtime, ready to translate."""

    loaded: LoadedModel

    def translate(
        self,
        lines: Sequence[str],
        progress: Progress = no_progress,
        decoding: Decoding | None = None,
        *,
        split: bool = True,
    ) -> list[str]:
        """Return each line's translation, in order, as `hat-ray translate` does; an empty line stays empty.

        `decoding` holds what the request wants changed, such as `Decoding(no_repeat_ngram_size=3)`. Without `split`,
        and with a prefix, lines are taken whole, as they are, and cut with a warning where they are too long.

        >>> import hat_ray
        >>> model = hat_ray.open_model("exported")
        >>> model.translate(["", "..."])[0]
        ''
        """
        if not split or (decoding is not None and decoding.prefix):
            return self.loaded.translate(lines, progress, decoding)
        return self.loaded.usual_front_end.translate(
            lines, lambda texts, numbers: self.loaded.translate(texts, progress, decoding, first=numbers)
        )

    def hypotheses(
        self, lines: Sequence[str], decoding: Decoding, progress: Progress = no_progress
    ) -> list[list[Hypothesis]]:
        """Return each line's `n_best` hypotheses, the best first, with scores by sub-word.

        >>> import hat_ray
        >>> model = hat_ray.open_model("exported")
        >>> [found] = model.hypotheses(["..."], hat_ray.Decoding(beam=4, n_best=3))
        >>> len(found), found[0].score >= found[2].score
        (3, True)
        """
        return self.loaded.hypotheses(lines, decoding, progress)


@dataclass(frozen=True)
class Run:
    """A run folder with its recipe: the results of finished stages, and of a search under way.

    Nothing is kept in memory: each property reads the folder.

    >>> import hat_ray
    >>> run = hat_ray.load("runs/toy")
    >>> run.recipe.name, str(run.folder)
    ('golden', '.../runs/toy')
    """

    recipe: Recipe
    folder: Folder

    @property
    def winners(self) -> tuple[LimitWinner, ...]:
        """The winner of each limit, in the order of devices and limits; none before the search is finished.

        >>> import hat_ray
        >>> for winner in hat_ray.load("runs/toy").winners:
        ...     print(f"{winner.limit.text}: {winner.id}, {winner.loss_bits:.3f} bits a token")
        2.302 ms: b9e68135fd9f, 5.182 bits a token
        3.006 ms: 1e3f731c49e6, 5.111 bits a token
        1.095 ms: 0984ed920ebf, 5.112 bits a token
        1.728 ms: 1e3f731c49e6, 5.111 bits a token
        """
        return self._search.winners

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every architecture that the search scored, in the order of scoring.

        >>> import hat_ray
        >>> run = hat_ray.load("runs/toy")
        >>> len(run.candidates), run.candidates[0].architecture.id
        (44, '0bd4faf4f2e3')
        """
        return self._search.candidates

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that the search has predictions for, by their ids."""
        return tuple(self._search.devices)

    def frontier(self, device: str) -> tuple[Candidate, ...]:
        """Return the candidates that no other one beats in both loss and latency on a device, the fastest first.

        `device` is a device's id, or its name in the recipe where that names one device only.

        >>> import hat_ray
        >>> run = hat_ray.load("runs/toy")
        >>> frontier = run.frontier(run.devices[0])
        >>> frontier[0].loss_bits > frontier[-1].loss_bits
        True
        """
        view = self._search.only(device)
        if len(view.devices) > 1 and device not in view.devices:
            raise SearchError(f"{device} names several devices: name one of {', '.join(view.devices)}")
        return tuple(view.frontier(device if device in view.devices else view.devices[0]))

    @property
    def _search(self) -> SearchView:
        return view(self.folder.uri)

    def record(self, stage: str) -> StageRecord | None:
        """Return the record of a finished stage: settings, inputs, versions, seconds. None: not finished.

        >>> import hat_ray
        >>> run = hat_ray.load("runs/toy")
        >>> sorted(run.record("predictor").inputs), run.record("report")
        (['latency'], None)
        """
        return RunFolder(self.folder, self.recipe).record(_known_stage(stage))

    def output(self, stage: str) -> object | None:
        """Return the output of a finished stage, as its type: `SearchOutput` for "search". None: not finished.

        >>> import hat_ray
        >>> run = hat_ray.load("runs/toy")
        >>> found = run.output("search")
        >>> type(found).__name__, found.scored, run.output("report")
        ('SearchOutput', 44, None)
        """
        found: Stage[Any] = _STAGES[_known_stage(stage)]
        return Context(RunFolder(self.folder, self.recipe), LocalExecution()).output(found)

    def predict(self, architecture: Architecture, coverage: float = 0.9) -> dict[str, Prediction]:
        """Predict an architecture's latency on each device, with an interval.

        `coverage` is the probability with which the latency lies in the interval.

        >>> import hat_ray
        >>> run = hat_ray.load("runs/toy")
        >>> predicted = run.predict(run.candidates[0].architecture, coverage=0.8)
        >>> all(one.low_ms < one.predicted_ms < one.high_ms for one in predicted.values())
        True
        """
        self.recipe.space.build().require(architecture)
        found = {}
        for device, predictor in predictors_of(_with_predictors(self.recipe, self.folder.uri)).items():
            low, high = predictor.interval([architecture], coverage)
            (predicted,), (unseen,) = predictor.predict([architecture]), predictor.extrapolation([architecture])
            found[device] = Prediction(float(predicted), float(low[0]), float(high[0]), unseen)
        return found

    def model(self, id: str | None = None, runtime: str | None = None, dtype: str = "fp32", threads: int = 0) -> Model:
        """Load a retrained model: the one named, or the first winner's; 0 threads: one for each usable CPU.

        Without a runtime the fastest that executes it takes it.

        >>> import hat_ray
        >>> model = hat_ray.load("runs/toy").model(runtime="packed", threads=1)
        >>> len(model.translate(["", "..."]))
        2
        """
        return Model(ModelSource(self.folder.uri, self.recipe, id, runtime, dtype).open(threads))


def run(
    recipe: str | Path | Recipe,
    folder: str | Path | None = None,
    *,
    settings: Mapping[str, object] | None = None,
    stages: Sequence[str] | None = None,
    cluster: str | None = None,
    local: bool = False,
    progress: ProgressFactory = no_progress_bars,
    take_over: bool = False,
    skip_checks: bool = False,
) -> Run:
    """Run every stage of a recipe, or the named ones. Finished stages are skipped; interrupted ones resume.

    `recipe` is a shipped recipe's name, a YAML file, a run folder or a `Recipe`. `folder` is a path or URI (default:
    `runs/` and the recipe's name). `settings` change the recipe: `{"search.evaluations": 200}`. A name in `stages` is a
    stage, a study or `onboard`, as the command line has them. `cluster` is the address of a Ray cluster (default:
    $RAY_ADDRESS, else Ray is started here); with `local` all work is done in this process, without Ray.

    Raises HatRayError for a mistake in the recipe, its inputs or the folder.

    >>> import hat_ray
    >>> run = hat_ray.run("runs/toy", stages=["report"], local=True)
    >>> run.record("report").stage
    'report'
    """
    changes = [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()]
    found, place = find_recipe(recipe, None if folder is None else str(folder), changes)
    for only in [None] if stages is None else [_known_stage(stage, (*OUTLINES, ONBOARD)) for stage in stages]:
        run_recipe(
            found,
            place,
            address=cluster,
            local=local,
            only=only,
            progress=progress,
            take_over=take_over,
            skip_checks=skip_checks,
        )
    return Run(found, Folder.at(place))


def load(folder: str | Path) -> Run:
    """Open a run folder, a path or URI; raise RunError where it is none.

    >>> import hat_ray
    >>> hat_ray.load("exported")
    Traceback (most recent call last):
    hat_ray.errors.RunError: exported is not a run folder: name one that `hat-ray run` made
    """
    place = Folder.at(folder)
    require_run_folder(place)
    return Run(load_run_recipe(place), place)


def open_model(folder: str | Path, threads: int = 1) -> Model:
    """Open an export, a model folder, or the first winner of a run folder; raise HatRayError for any other place.

    >>> import hat_ray
    >>> hat_ray.open_model("exported").translate([""])
    ['']
    """
    return Model(ModelSource(str(folder)).open(threads))


def _known_stage(name: str, known: Collection[str] = tuple(OUTLINES)) -> str:
    """Return a stage's name; refuse an unknown one in one line."""
    if name in known:
        return name
    near = nearest_name(name, list(known))
    hint = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
    raise RunError(f"no stage is called {name!r}; {hint}")


def run_recipe(
    recipe: Recipe,
    place: str,
    *,
    address: str | None = None,
    local: bool = False,
    only: str | None = None,
    progress: ProgressFactory = no_progress_bars,
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
        run = RunFolder.open(place, recipe)
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
    return [_STAGES[name] for name in stages_of(only)]


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
    return ExecutionScope(RayExecution(address, cpus_needed=_cpus_needed(recipe), config=recipe.cluster))


def _cpus_needed(recipe: Recipe) -> int:
    """Return the number of CPUs that a cluster of one machine must offer for the recipe's largest group of workers."""
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


def study_result(recipe: Recipe, place: str, study: str) -> dict[str, Any]:
    """Return the whole result of a finished study; with a sweep, what FLOPs say about the latency stage's rows."""
    (stage,) = (one for one in STUDIES if one.name == study)
    value = to_json(Context(RunFolder(Folder.at(place), recipe), LocalExecution()).require(stage))
    more = {"flops": flops_to_json(read_report(Folder.at(place).child("report")))} if study == "sweep" else {}
    return {**value, **more}


def assess_run(recipe: Recipe, place: str) -> list[Assessment]:
    """Return the quality of each device's predictor of a run."""
    return list(_with_predictors(recipe, place).require(PREDICTOR).assessments.values())


def _with_predictors(recipe: Recipe, place: str) -> Context:
    context = Context(RunFolder(Folder.at(place), recipe), LocalExecution())
    if context.run.record("predictor") is None:
        raise RunError(f"{place} has no fitted predictors yet: do `hat-ray predict fit {shlex.quote(place)}` first")
    return context

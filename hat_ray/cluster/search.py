"""The search on a Ray cluster: Ray Tune over actors that hold the SuperTransformer.

Who calls whom: Tune asks `EvolutionSearcher.suggest` for a trial and starts an actor for it, a `ScoreTrial`. Each
`step` of it scores a small batch of architectures, which it takes from the `Desk`, and reports; Tune hands the report
to `on_trial_result`, which records it in the `Session`, asks for the next batch and puts it on the desk.

Decisions
- A trial is a worker and lives as long as the search; a batch is one result of it. A trial a batch would cost Tune's
  driver 51-94 ms each, and its reuse of actors fails where they start more slowly than trials end: Tune then gives the
  first actor to the trials whose own are still starting, and ends these. Of four workers one was left.
- The model travels once to each worker. Nothing is asked for a worker before it is ready.
- The candidates table is the truth, and `state.json` beside it says what was asked for; Tune's experiment only says
  that a search is under way. A killed driver restores all three, tells what stands in the table, and asks again for
  what does not; trials that Tune knows as unfinished are not run again by Tune itself, because their workers are gone.
- How many architectures a batch gets follows from what they take (`trials.py`).
- A thousand workers. One driver asks, records and talks to Tune: at D milliseconds of it a candidate (6 to 13, see
  `bench_search_scaling.py`) it serves 1000/D candidates a second, so a thousand workers stay busy where a candidate
  takes them D seconds or more; a validation set of WMT takes a CPU minutes. Where it takes less the driver is the
  bound and workers wait, in turn. Starting the actors costs the driver up to a tenth of a second each. A thousand
  proposals are under way unanswered, so a search should have twenty times as many evaluations; batches shrink to one
  candidate by themselves. The desk and the weights are no bound: two small messages a batch, one copy a node.
- A trial that errs lost its actor or node: its architectures are asked for again, each `retries` times at most, and
  another trial takes its place. An exception of the scoring itself would only come again: it ends the search, with its
  message.
"""

import functools
import logging
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper
from ray.util.metrics import Gauge
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hat_ray.cluster.population import METRICS, Desk, TrialSizes, samples
from hat_ray.core.progress import Progress, silent
from hat_ray.errors import SearchError
from hat_ray.search.config import SearchConfig
from hat_ray.search.early_stopping import PartScore, part_score
from hat_ray.search.engine.session import Phase, Score, Session
from hat_ray.search.frontier import SearchResult
from hat_ray.search.limits import LatencyFunction, Limit
from hat_ray.search.scorer import CandidateScorer
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder

logger = logging.getLogger(__name__)

EXPERIMENT = "tune"
_RESULT = "seconds"
"""The figure that Tune is told to watch; the searcher reads the losses beside it."""


def run_search_on_cluster(
    space: SearchSpace,
    latency_ms: Mapping[str, LatencyFunction],
    limits: Sequence[Limit],
    score: Score,
    config: SearchConfig,
    folder: Folder,
    seed: int,
    progress: Progress = silent,
    phase: Phase | None = None,
) -> SearchResult:
    """Search as `run_search` does, with `config.workers` actors; Ray must be initialised, `score` must pickle.

    Resumes what `folder` holds, also after the driver was killed. With more than one worker the order of results, and
    so the result, differs from run to run.
    """
    session = Session(space, latency_ms, limits, config, folder, seed, progress, phase)
    session.resume()
    if not session.evolution.finished:
        _warn_of_missing_resources(config)
        _run_tune(session, score)
    result = session.close()
    folder.delete(EXPERIMENT)
    return result


def _run_tune(session: Session, score: Score) -> None:
    """Score until nothing is left to ask; raises RuntimeError where that cannot be."""
    config, folder = session.config, session.folder
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    desk = _DeskActor.options(scheduling_strategy=here).remote()
    searcher = EvolutionSearcher(session, desk)
    try:
        with _live(searcher), _quiet_tune(config.workers):
            errors = _tuner(searcher, score, desk, config, folder).fit().errors
    finally:
        session.write()
        ray.kill(desk)
    if not session.evolution.finished:
        folder.delete(EXPERIMENT)  # Tune holds it for finished; the next run starts from the table
    if searcher.failure:
        raise RuntimeError(f"scoring failed: {searcher.failure}" + (f"\n{errors[-1]}" if errors else ""))
    if not session.evolution.finished:
        raise RuntimeError(f"Ray Tune ended the search after {session.done} candidates")


_DeskActor: Any = ray.remote(num_cpus=0)(Desk)


class ScoreTrial(tune.Trainable):
    """A worker: holds the scorer, and scores one batch of architectures a step."""

    def setup(self, config: dict[str, Any], score: Score | None = None, desk: Any = None, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        assert score is not None
        self._score, self._desk = score, desk
        if isinstance(score, CandidateScorer) and ray.get_gpu_ids():
            score.to("cuda")
        self._ready = False

    def step(self) -> dict[str, Any]:
        if not self._ready:
            self._ready = True
            return {_RESULT: 0.0, "scores": [], "seconds_each": [], "worker": _worker()}
        batch = ray.get(self._desk.take.remote(self.trial_id))
        if batch is None:
            return {_RESULT: 0.0, "done": True}
        scores, seconds = [], []
        for text, bars in batch:
            start = time.perf_counter()
            try:
                scores.append(astuple(part_score(self._score, Architecture.from_json(text), bars)))
            except Exception as error:  # told to the driver, which ends the search with it
                logger.exception("scoring failed")
                return {_RESULT: 0.0, "error": f"{type(error).__name__}: {error}", "done": True}
            seconds.append(time.perf_counter() - start)
        return {_RESULT: sum(seconds), "scores": scores, "seconds_each": seconds, "worker": _worker()}


def _worker() -> str:
    return f"{platform.node()}:{os.getpid()}"


class EvolutionSearcher(Searcher):
    """Tune's view of a `Session`: each trial is a worker, and each of its results a batch.

    Tune pickles its searcher into the experiment; what unpickles is the one that is live in this process.
    """

    def __init__(self, session: Session, desk: Any) -> None:
        super().__init__(metric=_RESULT, mode="min")
        self.failure: str | None = None
        self._session, self._desk = session, desk
        self._batches: dict[str, list[Architecture]] = {}
        """What each trial scores now; empty where it waits for a batch, or is not ready yet."""
        self._waiting: list[str] = []
        self._lost: Counter[Architecture] = Counter()
        self._fruitless = 0
        self._run = session.folder.label
        self._sizes = TrialSizes(
            session.config.workers,
            session.config.batch_seconds,
            session.config.max_batch,
            session.evaluations,
        )
        for candidate in session.known.values():
            self._sizes.scored(candidate.seconds)

    @property
    def over(self) -> bool:
        """Whether nothing is left to score, or nothing can be."""
        return bool(self.failure) or self._session.evolution.finished

    def __reduce__(self) -> tuple[Any, ...]:
        return _live_searcher, ()

    def suggest(self, trial_id: str) -> Any:
        """Return another worker's config, None when there are enough, or FINISHED."""
        if self.over:
            return self.FINISHED
        if len(self._batches) >= self._session.config.workers:
            return None
        self._batches[trial_id] = []
        return {"worker": len(self._batches)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record what a worker scored, and give it and all who wait their next batch."""
        batch, self._batches[trial_id] = self._batches.get(trial_id, []), []
        for architecture, score, seconds in zip(batch, result["scores"], result["seconds_each"], strict=True):
            self._session.record(architecture, PartScore(*score), seconds, result["worker"])
            self._sizes.scored(seconds)
        if batch:
            self._fruitless = 0
            self._session.write()  # so that a killed driver costs no more than what was under way
            self._tell_metrics()
        self._waiting.append(trial_id)
        self._feed()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Take a worker's failure, or its loss."""
        batch = self._batches.pop(trial_id, [])
        if trial_id in self._waiting:
            self._waiting.remove(trial_id)
        if result and "error" in result:
            self.failure = result["error"]
        elif error and not self.over:
            self._lose(batch)
        self._feed()

    def _feed(self) -> None:
        """Give those who wait a batch each, as far as there is something to ask; send them home when there never is."""
        evolution = self._session.evolution
        while self._waiting:
            began = time.perf_counter()
            batch = [] if self.over else evolution.ask(self._sizes.next(evolution.budget - evolution.spent))
            if not batch and not self.over:
                return  # a generation is waited for
            trial_id = self._waiting.pop(0)
            if batch:
                self._session.save_state()
                self._sizes.asked(time.perf_counter() - began)
                self._batches[trial_id] = batch
            orders = [(architecture.to_json(), self._session.bars(architecture)) for architecture in batch]
            self._desk.put.remote(trial_id, orders or None)

    def save(self, checkpoint_path: str) -> None:
        """Write down where the search is: in its own folder, from where a restored one has taken it up already."""
        self._session.write()
        self._session.save_state()
        Path(checkpoint_path).write_text(f"see {self._session.folder}\n", encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is left to do: `Session.resume` restored this search before Tune was asked to."""

    def _tell_metrics(self) -> None:
        for sample in samples(self._session):
            tags = {"run": self._run, "device": sample.device, "limit_ms": sample.limit_ms}
            _gauge(sample.metric).set(sample.value, tags=tags)

    def _lose(self, batch: list[Architecture]) -> None:
        """Ask again for what a lost worker had; give up where workers are lost again and again."""
        self._fruitless += 1
        config = self._session.config
        if batch:
            logger.warning("a worker was lost while it scored %d architectures; they are asked for again", len(batch))
        elif self._fruitless > (1 + config.retries) * config.workers:
            self.failure = f"{self._fruitless} workers in a row were lost before they scored anything"
        for architecture in batch:
            self._lost[architecture] += 1
            if self._lost[architecture] > config.retries:
                self.failure = f"the worker was lost {self._lost[architecture]} times while it scored {architecture.id}"
            self._session.evolution.retry(architecture)


class _Over(Stopper):
    """Ends the experiment, with workers that never found room, once nothing is left to score."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return _live_searcher().over


@functools.cache
def _gauge(metric: str) -> Gauge:
    return Gauge(metric, METRICS[metric], tag_keys=("run", "device", "limit_ms"))


_live_searchers: list[EvolutionSearcher] = []


def _live_searcher() -> EvolutionSearcher:
    """Return the searcher of the search that runs in this process; what a pickled searcher becomes."""
    if not _live_searchers:
        raise SearchError("Ray Tune's experiment is resumed by running the search again, and by nothing else")
    return _live_searchers[-1]


@contextmanager
def _live(searcher: EvolutionSearcher) -> Iterator[None]:
    _live_searchers.append(searcher)
    try:
        yield
    finally:
        _live_searchers.remove(searcher)


def _tuner(searcher: EvolutionSearcher, score: Score, desk: Any, config: SearchConfig, folder: Folder) -> tune.Tuner:
    """Return a new experiment, or the one that a killed driver left."""
    threads = max(1, int(config.worker_cpus))
    trainable = tune.with_resources(
        tune.with_parameters(ScoreTrial, score=score, desk=desk, threads=threads),
        {"cpu": config.worker_cpus, "gpu": config.worker_gpus},
    )
    file_system = None if folder.is_local else folder.file_system
    path = f"{folder.root}/{EXPERIMENT}"
    if tune.Tuner.can_restore(path, storage_filesystem=file_system):
        logger.info("resuming the search in %s", folder)
        return tune.Tuner.restore(
            path, trainable, resume_unfinished=False, restart_errored=False, storage_filesystem=file_system
        )
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            metric=_RESULT,
            mode="min",
            num_samples=-1,  # until the searcher says FINISHED
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=EXPERIMENT,
            storage_path=folder.root,
            storage_filesystem=file_system,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            stop=_Over(),
            verbose=0,
        ),
    )


def _trial_name(trial: Any) -> str:
    return str(trial.trial_id)


@contextmanager
def _quiet_tune(workers: int) -> Iterator[None]:
    """Set Tune up for many short trials: no files of its own for each, no output, all workers started at once."""
    settings = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_MAX_PENDING_TRIALS_PG": str(workers),
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        "RAY_AIR_NEW_OUTPUT": "0",  # the old output is silent at verbose=0, the new one is not
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the search at once; it can be resumed
    }
    before = {name: os.environ.get(name) for name in settings}
    level = logging.getLogger("ray.tune").level
    os.environ.update(settings)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logging.getLogger("ray.tune").setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _warn_of_missing_resources(config: SearchConfig) -> None:
    """Say early that actors will wait: nodes may still join, so it is no error."""
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for name, needed in (("CPU", config.worker_cpus), ("GPU", config.worker_gpus)):
        if needed * config.workers > there.get(name, 0):
            logger.warning(
                "search.workers=%d needs %g %s each, the cluster has %g: some workers wait for free resources",
                config.workers,
                needed,
                name,
                there.get(name, 0),
            )

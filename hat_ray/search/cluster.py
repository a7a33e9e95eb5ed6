"""The search on a Ray cluster: Ray Tune over actors that hold the SuperTransformer.

Who calls whom: Tune asks `EvolutionSearcher.suggest` for a trial, which is a small batch of architectures from the
`Session`; an actor runs it as `ScoreTrial.step`; Tune hands the result to `on_trial_complete`, which records it.

Decisions
- Actors are reused: a trial then costs its driver 50-90 ms instead of 2.7 s, and the model travels once to each.
- The candidates table is the truth, and `state.json` beside it says what was asked for; Tune's experiment only says
  that a search is under way. A killed driver restores all three, tells what stands in the table, and asks again for
  what does not; trials that Tune knows as unfinished are not run again by Tune itself, because Tune's snapshot is up to
  ten seconds old and some of them are scored.
- How many architectures a trial gets follows from what they take (`trials.py`).
- A trial that errs lost its actor or node: its architectures are asked for again, each `retries` times at most. An
  exception of the scoring itself would only come again: it ends the search, with its message.
"""

import functools
import logging
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.search import Searcher
from ray.util.metrics import Gauge

from hat_ray.errors import SearchError
from hat_ray.progress import Progress, silent
from hat_ray.search.config import SearchConfig
from hat_ray.search.limits import LatencyFunction, Limit
from hat_ray.search.live import METRICS, samples
from hat_ray.search.result import SearchResult
from hat_ray.search.score import CandidateScorer
from hat_ray.search.session import Phase, Score, Session
from hat_ray.search.trials import TrialSizes
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage import Folder

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
    session.take_up()
    if not session.evolution.finished:
        _warn_of_missing_resources(config)
        _run_tune(session, score)
    result = session.close()
    folder.delete(EXPERIMENT)
    return result


def _run_tune(session: Session, score: Score) -> None:
    """Score until nothing is left to ask; raises RuntimeError where that cannot be."""
    searcher, config, folder = EvolutionSearcher(session), session.config, session.folder
    try:
        with _live(searcher), _quiet_tune(config.workers):
            errors = _tuner(searcher, score, config, folder).fit().errors
    finally:
        session.write()
    if not session.evolution.finished:
        folder.delete(EXPERIMENT)  # Tune holds it for finished; the next run starts from the table
    if searcher.failure:
        raise RuntimeError(f"scoring failed: {searcher.failure}" + (f"\n{errors[-1]}" if errors else ""))
    if not session.evolution.finished:
        raise RuntimeError(f"Ray Tune ended the search after {session.done} candidates")


class ScoreTrial(tune.Trainable):
    """An actor that holds the scorer and scores one batch of architectures a trial."""

    def setup(self, config: dict[str, Any], score: Score | None = None, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        assert score is not None
        self._score = score
        if isinstance(score, CandidateScorer) and ray.get_gpu_ids():
            score.to("cuda")
        self._architectures: list[str] = config["architectures"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._architectures = new_config["architectures"]
        return True

    def step(self) -> dict[str, Any]:
        losses, seconds = [], []
        for text in self._architectures:
            start = time.perf_counter()
            try:
                losses.append(float(self._score(Architecture.from_json(text))))
            except Exception as error:  # told to the driver, which ends the search with it
                logger.exception("scoring failed")
                return {_RESULT: 0.0, "error": f"{type(error).__name__}: {error}", "done": True}
            seconds.append(time.perf_counter() - start)
        worker = f"{platform.node()}:{os.getpid()}"
        return {_RESULT: sum(seconds), "losses": losses, "seconds_each": seconds, "worker": worker, "done": True}


class EvolutionSearcher(Searcher):
    """Tune's view of a `Session`: each suggestion is a batch of architectures.

    Tune pickles its searcher into the experiment; what unpickles is the one that is live in this process.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(metric=_RESULT, mode="min")
        self.failure: str | None = None
        self._session = session
        self._trials: dict[str, list[Architecture]] = {}
        self._lost: Counter[Architecture] = Counter()
        self._run = "/".join(session.folder.uri.split("/")[-2:])
        self._sizes = TrialSizes(
            session.config.workers,
            session.config.trial_seconds,
            session.config.candidates_per_trial,
            session.evaluations,
        )
        for candidate in session.known.values():
            self._sizes.scored(candidate.seconds)

    def __reduce__(self) -> tuple[Any, ...]:
        return _live_searcher, ()

    def suggest(self, trial_id: str) -> Any:
        """Return a trial's config, None when nothing can be asked now, or FINISHED."""
        evolution = self._session.evolution
        if self.failure or evolution.finished:
            return self.FINISHED
        if len(self._trials) >= self._session.config.workers:
            return None
        began = time.perf_counter()
        batch = evolution.ask(self._sizes.next(evolution.budget - evolution.spent))
        if not batch:
            return self.FINISHED if evolution.finished else None
        self._session.save_state()
        self._sizes.asked(time.perf_counter() - began)
        self._trials[trial_id] = batch
        return {"architectures": [architecture.to_json() for architecture in batch]}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        batch = self._trials.pop(trial_id, [])
        if result and "losses" in result and not error:
            for architecture, loss, seconds in zip(batch, result["losses"], result["seconds_each"], strict=True):
                self._session.record(architecture, loss, seconds, result["worker"])
                self._sizes.scored(seconds)
            self._session.write()  # so that a killed driver costs no more than what was under way
            self._tell_metrics()
        elif result and "error" in result:
            self.failure = result["error"]
        elif batch:
            self._ask_again(batch)

    def save(self, checkpoint_path: str) -> None:
        """Write down where the search is: in its own folder, from where a restored one has taken it up already."""
        self._session.write()
        self._session.save_state()
        Path(checkpoint_path).write_text(f"see {self._session.folder}\n", encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is left to do: `Session.take_up` restored this search before Tune was asked to."""

    def _tell_metrics(self) -> None:
        for sample in samples(self._session):
            tags = {"run": self._run, "device": sample.device, "limit_ms": sample.limit_ms}
            _gauge(sample.metric).set(sample.value, tags=tags)

    def _ask_again(self, batch: list[Architecture]) -> None:
        logger.warning("a worker was lost while it scored %d architectures; they are asked for again", len(batch))
        for architecture in batch:
            self._lost[architecture] += 1
            if self._lost[architecture] > self._session.config.retries:
                self.failure = f"the worker was lost {self._lost[architecture]} times while it scored {architecture.id}"
            self._session.evolution.retry(architecture)


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


def _tuner(searcher: EvolutionSearcher, score: Score, config: SearchConfig, folder: Folder) -> tune.Tuner:
    """Return a new experiment, or the one that a killed driver left."""
    threads = max(1, int(config.worker_cpus))
    trainable = tune.with_resources(
        tune.with_parameters(ScoreTrial, score=score, threads=threads),
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
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=EXPERIMENT,
            storage_path=folder.root,
            storage_filesystem=file_system,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
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
                "search.workers asks for %d actors with %g %s each, the cluster has %g: the others wait",
                config.workers,
                needed,
                name,
                there.get(name, 0),
            )

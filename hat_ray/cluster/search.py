"""The search on a Ray cluster: a population of Ray Tune trials that pull candidates from one coordinator, and the rungs
of its finalists, in as many trials as there is room for.

A trial is a member of the population and lives as long as the search. It holds the SuperTransformer, asks the
`SearchCoordinator` for a batch of architectures, scores it, and reports to Tune every few seconds.

Decisions
- A trial a batch would cost Tune's driver 51-94 ms each, and its reuse of actors fails where they start more slowly
  than trials end: Tune then gives the first actor to the trials whose own are still starting, and ends these.
- The candidates table is the truth, and `state.json` beside it holds what was asked for. A killed driver resumes from
  both, in a new experiment: Tune's own is deleted. Whatever has no result is asked for again.
- Tune restarts a member whose actor or node is lost (`FailureConfig`), and reports it to the coordinator, which gives
  that member's architectures to others. An exception of the scoring itself would only come again: it ends the search.
- A thousand workers. The coordinator asks and records: at D milliseconds a candidate (`bench_search_scaling.py`) it
  serves 1000/D candidates a second, so a thousand workers stay busy where a candidate takes them D seconds or more; a
  validation set of WMT takes a CPU minutes. A thousand proposals are then under way unanswered, so a search should have
  twenty times as many evaluations; batches shrink to one candidate by themselves. The weights travel once to each node.
"""

import logging
import os
import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
import torch
from ray import tune
from ray.exceptions import RayActorError
from ray.tune.stopper import Stopper
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hat_ray.cluster.growth import may_grow
from hat_ray.cluster.placement import ANYWHERE, Place, require_node
from hat_ray.cluster.population import Scored, SearchCoordinator, SearchSetup, SearchStatus
from hat_ray.cluster.session import get
from hat_ray.cluster.training.room import require_room, room_for
from hat_ray.cluster.training.tasks import newest_checkpoint
from hat_ray.cluster.trials import EXPERIMENT, of_trial, quiet_tune, run_config
from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import HatRayError
from hat_ray.search.config import SearchConfig
from hat_ray.search.early_stopping import part_score
from hat_ray.search.engine.session import Phase, Score
from hat_ray.search.frontier import SearchResult
from hat_ray.search.limits import Limit, Predictions
from hat_ray.search.scorer import CandidateScorer
from hat_ray.space.cost import count_params
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from hat_ray.train.capacity import needs
from hat_ray.train.job import TrainJob, gpu_for
from hat_ray.train.state import TrainResult

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_POLLS = 0.2
_SECONDS_BETWEEN_REPORTS = 5.0


def run_search_on_cluster(
    space: SearchSpace,
    predictions: Predictions,
    limits: Sequence[Limit],
    score: Score,
    config: SearchConfig,
    folder: Folder,
    seed: int,
    progress: Progress = no_progress,
    phase: Phase | None = None,
    place: Place = ANYWHERE,
) -> SearchResult:
    """Search as `run_search` does, with `config.workers` actors; Ray must be initialised, `score` must pickle.

    Resumes what `folder` holds, also after the driver was killed. With more than one worker the order of results, and
    so the result, differs from run to run.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    coordinator = _Coordinator.options(scheduling_strategy=here, max_concurrency=config.workers + 100).remote(
        SearchSetup(space, predictions, limits, config, folder, seed, phase)
    )
    try:
        status: SearchStatus = get(coordinator.begin.remote())
        if not status.over:
            needed = {"CPU": float(config.worker_cpus), "GPU": float(config.worker_gpus)}
            require_node(needed, "search.worker_cpus and search.worker_gpus must fit one node", place)
            _warn_of_missing_resources(config, place)
        while not status.over:
            status = _search_with_a_population(coordinator, score, config, folder, progress, status, place)
        if status.stopped:
            logger.info("the search asked no more: %s", status.stopped)
        result: SearchResult = get(coordinator.close.remote())
        status = get(coordinator.status.remote())
        progress(status.done, status.evaluations, status.figures)
    finally:
        ray.kill(coordinator)
    folder.delete(EXPERIMENT)
    return result


_Coordinator: Any = ray.remote(num_cpus=0)(SearchCoordinator)


def _search_with_a_population(
    coordinator: Any,
    score: Score,
    config: SearchConfig,
    folder: Folder,
    progress: Progress,
    before: SearchStatus,
    place: Place,
) -> SearchStatus:
    """Score with the members of one experiment until the search is over or none of them is left."""
    folder.delete(EXPERIMENT)
    watch = ProgressCallback(coordinator, progress)
    with quiet_tune():
        errors = _tuner(watch, coordinator, score, config, folder, place).fit().errors
    status: SearchStatus = get(coordinator.status.remote())
    if status.failure and status.mistake:
        raise HatRayError(status.failure)
    if status.failure:
        raise RuntimeError(f"scoring failed: {status.failure}" + (f"\n{errors[-1]}" if errors else ""))
    if not status.over and status.done == before.done:
        raise RuntimeError(f"Ray Tune ended the search after {status.done} candidates") from next(iter(errors), None)
    return status


def score_candidates(config: dict[str, Any], coordinator: Any, score: Score, threads: int) -> None:
    """Be one member of the population: score batch after batch until the search is over."""
    torch.set_num_threads(threads)
    try:
        if isinstance(score, CandidateScorer) and ray.get_gpu_ids():
            score.to(gpu_for("search.worker_gpus"))
    except HatRayError as mistake:  # another worker of such a node would meet it again
        ray.get(coordinator.fail.remote(f"{mistake} (node {platform.node()})", mistake=True))
        return
    member, worker = config["member"], f"{platform.node()}:{os.getpid()}"
    answer, scored = coordinator.next_batch.remote(member, worker, 0, ()), list[Scored]()
    report = _Report()
    while (batch := _answer(answer)) is not None:
        scored = []
        for architecture, bars in batch.tasks:
            start = time.perf_counter()
            try:
                found = part_score(score, architecture, bars)
            except Exception as error:
                logger.exception("scoring failed")
                ray.get(coordinator.fail.remote(f"{type(error).__name__}: {error}"))
                return
            scored.append(Scored(found, time.perf_counter() - start))
        answer = coordinator.next_batch.remote(member, worker, batch.number, scored)
        report.add(scored)
    report.close()


class _Report:
    """Sums a member's results for Tune, which takes tens of milliseconds a report: one every few seconds."""

    def __init__(self) -> None:
        self._sent, self._sent_at = False, time.monotonic()
        self._scored: list[Scored] = []

    def add(self, scored: Sequence[Scored]) -> None:
        """Add the results of one batch; send all of them when the last report is some seconds old."""
        self._scored += scored
        if time.monotonic() - self._sent_at > _SECONDS_BETWEEN_REPORTS:
            self._send()

    def close(self) -> None:
        """Send the rest; something in any case, since Tune prints a line about a trial that reports nothing."""
        if self._scored or not self._sent:
            self._send()

    def _send(self) -> None:
        seconds = sum(each.seconds for each in self._scored)
        best = {"loss": min(each.score.loss_bits for each in self._scored)} if self._scored else {}
        tune.report({"candidates": len(self._scored), "seconds": seconds, **best})
        self._sent, self._sent_at, self._scored = True, time.monotonic(), []


def _answer(question: Any) -> Any:
    """Return the coordinator's answer; None where it is gone, and the driver with it."""
    try:
        return ray.get(question)
    except RayActorError:
        return None


class ProgressCallback(tune.Callback, Stopper):
    """Shows progress, reports lost members to the coordinator, and stops the experiment once the search is over.

    Without the stop Tune would start members that have waited for free resources, to no use. A copy, which Tune keeps
    with the experiment, shows and stops nothing.
    """

    over = False

    def __init__(self, coordinator: Any, progress: Progress) -> None:
        self._coordinator, self._progress = coordinator, progress
        self._question: Any = None
        self._looked = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.over

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Ask for the status now and then, and never wait for it: the coordinator may be planning for seconds."""
        now = time.monotonic()
        if self._question is None:
            if now - self._looked > _SECONDS_BETWEEN_POLLS:
                self._question, self._looked = self._coordinator.status.remote(), now
        elif ray.wait([self._question], timeout=0)[0]:
            status: SearchStatus = get(self._question)
            self._question, self.over = None, status.over
            self._progress(status.done, status.evaluations, dict(status.figures))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        logger.warning("a worker was lost: its architectures are asked for again")
        self._coordinator.lost.remote(trial.config["member"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.on_trial_recover(iteration, trials, trial)


def _tuner(
    watch: ProgressCallback, coordinator: Any, score: Score, config: SearchConfig, folder: Folder, place: Place
) -> tune.Tuner:
    trainable = tune.with_resources(
        tune.with_parameters(
            score_candidates, coordinator=coordinator, score=score, threads=max(1, int(config.worker_cpus))
        ),
        of_trial({"CPU": config.worker_cpus, "GPU": config.worker_gpus}, place),
    )
    return tune.Tuner(
        trainable,
        param_space={"member": tune.grid_search(list(range(config.workers)))},
        tune_config=tune.TuneConfig(trial_name_creator=_trial_name, trial_dirname_creator=_trial_name),
        run_config=run_config(folder, -1, watch),  # the coordinator counts failures, and gives up
    )


def train_rung(
    jobs: Sequence[TrainJob], progress: Progress = no_progress, place: Place = ANYWHERE
) -> list[TrainResult]:
    """Train one rung of finalists in as many Ray Tune trials as there is room for; return their results in order.

    A trial trains its share one after another, because to start its process takes seconds. Tune starts a trial again
    whose worker or node is lost: finished models are kept, and its training resumes from its own checkpoints. Where
    Tune's failures are used up it is called again: they count without progress. All must be over before any is
    dropped: so rungs are synchronous, and no scheduler of Tune's stops trials.
    """
    left = list(jobs)
    while left:
        before = [newest_checkpoint(job) for job in left]
        error = _train_rung(left, progress, place)
        remaining = [job for job in left if job.finished() is None]
        if len(remaining) == len(left) and before == [newest_checkpoint(job) for job in left]:
            raise RuntimeError(f"{len(left)} finalists were not trained") from error
        left = remaining
    return [result for job in jobs if (result := job.finished()) is not None]


def _train_rung(jobs: Sequence[TrainJob], progress: Progress, place: Place) -> BaseException | None:
    """Let Ray Tune train finalists; returns an error of those that it gave up. Raises a user's mistake."""
    for job in jobs:
        require_room(job, 1, place)
    config, home = jobs[0].config, jobs[0].folder
    shares = shares_of(jobs, len(jobs) if may_grow() else room_for(config, place))
    watch = RungCallback(progress, sum(job.config.updates for job in jobs))
    trainable = tune.with_resources(tune.with_parameters(train_share, shares=shares), of_trial(needs(config), place))
    tuner = tune.Tuner(
        trainable,
        param_space={"share": tune.grid_search(list(range(len(shares))))},
        tune_config=tune.TuneConfig(trial_name_creator=_share_name, trial_dirname_creator=_share_name),
        run_config=run_config(home, config.max_failures, watch),
    )
    home.delete(EXPERIMENT)
    with quiet_tune():
        errors = tuner.fit().errors
    home.delete(EXPERIMENT)
    if watch.mistake:
        raise HatRayError(watch.mistake)
    return next(iter(errors), None)


def shares_of(jobs: Sequence[TrainJob], most: int) -> list[list[TrainJob]]:
    """Return the jobs in `most` shares, or fewer, none empty: the largest first, each to the share with the least."""
    shares: list[list[TrainJob]] = [[] for _ in range(min(most, len(jobs)))]
    work = [0] * len(shares)
    for job in sorted(jobs, key=_size, reverse=True):
        place = work.index(min(work))
        shares[place].append(job)
        work[place] += _size(job)
    return shares


def _size(job: TrainJob) -> int:
    return count_params(job.architecture) if job.architecture else 0


def train_share(config: dict[str, Any], shares: Sequence[Sequence[TrainJob]]) -> None:
    """Be one trial of a rung: train a share of the finalists, and report its updates every few seconds."""
    before, reported = 0, time.monotonic()

    def report(done: int, _total: int, _figures: Mapping[str, float], /) -> None:
        nonlocal reported
        if time.monotonic() - reported > _SECONDS_BETWEEN_REPORTS:
            reported = time.monotonic()
            tune.report({"updates": before + done})

    for job in shares[config["share"]]:
        try:
            before += job.run(report).updates
        except HatRayError as error:
            tune.report({"updates": before, "mistake": str(error)})
            return
    tune.report({"updates": before})


class RungCallback(tune.Callback):
    """Shows the updates of all trials, and keeps what a trial reports as a user's mistake."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._updates: dict[str, int] = {}
        self.mistake: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._updates[trial.trial_id] = result["updates"]
        self.mistake = result.get("mistake", self.mistake)
        self._progress(sum(self._updates.values()), self._total, {})


def _share_name(trial: Any) -> str:
    return f"share-{trial.config['share']}"


def _trial_name(trial: Any) -> str:
    return f"member-{trial.config['member']}"


def _warn_of_missing_resources(config: SearchConfig, place: Place) -> None:
    """Warn early that workers will wait: nodes may still join, so it is no error."""
    nodes = place.resources()
    for name, needed in (("CPU", config.worker_cpus), ("GPU", config.worker_gpus)):
        there = sum(node.get(name, 0) for node in nodes)
        if needed * config.workers > there:
            logger.warning(
                "search.workers=%d needs %g %s each, %s has %g: some workers wait for free resources",
                *(config.workers, needed, name, place.of_cluster, there),
            )

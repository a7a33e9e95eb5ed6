"""The heavy work of a pipeline on a Ray cluster: Ray Train, timing actors, Ray Tune, tasks.

Decisions
- Ray is joined, or started on this machine, when the first stage has work for it: a run whose stages are all finished
  starts nothing (`session.py`).
- A cluster that was started here is one machine, whose other work waits while it is timed: the driver times it. A
  search has several turns of timing, and to start a process with PyTorch and a runtime takes seconds in each.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import ray

from hat_ray.cluster import session
from hat_ray.cluster.corpus import encode_on_cluster
from hat_ray.cluster.growth import may_grow
from hat_ray.cluster.metrics import with_metrics
from hat_ray.cluster.placement import ANYWHERE, Place, Placement, require_node
from hat_ray.cluster.preflight import cluster_machines
from hat_ray.cluster.search import run_search_on_cluster, train_rung
from hat_ray.cluster.timing.fleet import measure_rounds
from hat_ray.cluster.training.ray_train import train_on_cluster
from hat_ray.cluster.training.room import room_for
from hat_ray.cluster.training.tasks import train_many, train_together
from hat_ray.core.placement import ClusterConfig, Work
from hat_ray.core.progress import Progress, ProgressFactory, no_progress
from hat_ray.core.usable_cpus import share
from hat_ray.corpus.config import CorpusConfig
from hat_ray.corpus.corpus import CorpusSummary
from hat_ray.corpus.encode import EncodedChunk, EncodingJob, encode_here
from hat_ray.corpus.prepare import prepare
from hat_ray.corpus.shards import SHARD_PAIRS
from hat_ray.corpus.text.taught import Taught
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.evaluate import Evaluation
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.fleet.plan import Rounds
from hat_ray.latency.here import measure_rounds_here
from hat_ray.latency.timing.job import TimingJob
from hat_ray.pipeline.execution import SearchPlan, evaluate_at, one_after_another
from hat_ray.pipeline.preflight.check import Situation
from hat_ray.search.engine.session import Score
from hat_ray.search.frontier import SearchResult
from hat_ray.storage.folder import Folder
from hat_ray.train.capacity import share_each
from hat_ray.train.job import TrainJob
from hat_ray.train.state import TrainResult

log = logging.getLogger(__name__)

_WITHOUT_A_CLUSTER = {"corpus", "predictor", "report"}
"""Stages that need none; a large corpus takes one where it is there."""

_SECONDS_BETWEEN_REPORTS = 10.0
"""Progress is reported as often while no piece ends, so that a log still gets its line a minute."""

T = TypeVar("T")


class RayExecution:
    """Work on the cluster at `address`, on the one that `RAY_ADDRESS` names, or on one of our own on this machine."""

    def __init__(self, address: str | None = None, cpus_needed: int = 1, config: ClusterConfig | None = None) -> None:
        self.address, self.cpus_needed = address, cpus_needed
        self._placement = Placement(config or ClusterConfig())
        self._ours = False

    def close(self) -> None:
        """Leave the cluster; end it when it was started here."""
        if self._ours:
            session.leave()
            self._ours = False

    def connect(self) -> None:
        """Join the cluster, or start one, unless that is done."""
        if session.connected():
            return
        address = self.address or os.environ.get("RAY_ADDRESS")
        if address:
            session.join(address)
        else:
            session.start(self.cpus_needed)
        self._ours = True

    def situation(self, here: Situation, *, ask: bool) -> Situation:
        """Join a cluster that is named, where a stage has work for it, and return what its nodes are."""
        named = self.address or os.environ.get("RAY_ADDRESS") or session.connected()
        if not (named and set(here.stages) - _WITHOUT_A_CLUSTER):
            return here
        self.connect()
        machines, left_out = cluster_machines(ask=ask), self._placement.left_out()
        return replace(here, machines=machines, cluster=True, may_grow=may_grow(), left_out=left_out)

    def _place(self, work: Work) -> Place:
        """Return where a kind of work runs: a cluster that was started here is one machine."""
        return ANYWHERE if session.started_here() else self._placement.of(work)

    def watched(self, run: str, progress: ProgressFactory) -> ProgressFactory:
        return with_metrics(run, progress)

    def prepare(
        self,
        config: CorpusConfig,
        folder: Folder,
        seed: int,
        progress: Progress = no_progress,
        taught: Taught | None = None,
    ) -> CorpusSummary:
        return prepare(config, folder, seed, progress, self._encode, taught)

    def _encode(self, job: EncodingJob, first_chunk: int) -> Iterator[EncodedChunk]:
        """Encode on the cluster what is more than a shard; less is done before a cluster has started."""
        if job.text.num_rows <= SHARD_PAIRS:
            return encode_here(job, first_chunk)
        self.connect()
        place = self._place("score")
        require_node({"CPU": 1.0}, "encoding needs a node with a CPU", place)
        return encode_on_cluster(job, first_chunk, place)

    def train_super(self, job: TrainJob, progress: Progress = no_progress) -> TrainResult:
        self.connect()
        return self._train_by_all(job, progress)

    def _train_by_all(self, job: TrainJob, progress: Progress) -> TrainResult:
        """Train one model by all its workers."""
        if session.started_here() and not job.config.use_gpu:
            return train_together(job, progress)
        return train_on_cluster(job, progress, self._place("train"))

    def time(self, job: TimingJob, rounds: Rounds, progress: Progress = no_progress) -> list[DeviceInfo]:
        self.connect()
        if session.started_here() and all(one.is_anywhere for one in job.config.devices):
            return measure_rounds_here(job, rounds, progress)
        report = measure_rounds(job, rounds, progress)
        for failure in report.failures:
            log.warning("%s", failure)
        return [device.device for device in report.devices]

    def search(self, plan: SearchPlan, score: Score, progress: Progress = no_progress) -> SearchResult:
        self.connect()
        return run_search_on_cluster(
            *(plan.space, plan.predictions, plan.limits, score, plan.config, plan.folder, plan.seed),
            progress,
            plan.phase,
            self._place("search"),
        )

    def train_subs(self, jobs: Sequence[TrainJob], progress: Progress = no_progress) -> list[TrainResult]:
        self.connect()
        config, place = jobs[0].config if jobs else None, self._place("train")
        if config is None or not share_each(
            len(jobs), config, config.workers if may_grow() else room_for(config, place)
        ):
            return train_many(jobs, progress, place)
        log.info("fewer models than workers: each is trained by %d, one after another", config.workers)
        return one_after_another(jobs, self._train_by_all, progress)

    def fine_tune(self, jobs: Sequence[TrainJob], progress: Progress = no_progress) -> list[TrainResult]:
        self.connect()
        return train_rung(jobs, progress, self._place("train"))

    def evaluate(
        self, models: Sequence[Folder], corpus: Folder, config: EvaluateConfig, progress: Progress = no_progress
    ) -> list[Evaluation]:
        pieces = [partial(evaluate_at, folder, corpus, config) for folder in models]
        return self._do(pieces, progress, num_gpus=int(config.use_gpu))

    def do(self, pieces: Sequence[Callable[[], T]], progress: Progress = no_progress) -> list[T]:
        return self._do(pieces, progress)

    def _do(self, pieces: Sequence[Callable[[], T]], progress: Progress, num_gpus: int = 0) -> list[T]:
        self.connect()
        place = self._place("score")
        require_node(
            {"CPU": 1.0, "GPU": float(num_gpus)},
            "translating and scoring take a CPU (and a GPU with use_gpu) of one node",
            place,
        )
        tasks = [_do.options(num_gpus=num_gpus, **place.options).remote(piece) for piece in pieces]
        waiting = list(tasks)
        while waiting:
            progress(len(tasks) - len(waiting), len(tasks), {})
            _, waiting = ray.wait(waiting, num_returns=1, timeout=_SECONDS_BETWEEN_REPORTS)
        progress(len(tasks), len(tasks), {})
        return list(ray.get(tasks))


@ray.remote(num_cpus=1)
def _do(piece: Callable[[], Any]) -> Any:
    given = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
    with share(given.get("CPU", 0.0)):
        return piece()

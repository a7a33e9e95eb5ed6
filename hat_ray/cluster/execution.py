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
from hat_ray.cluster.preflight import cluster_machines
from hat_ray.cluster.search import run_search_on_cluster, train_rung
from hat_ray.cluster.timing.fleet import measure_rounds
from hat_ray.cluster.train import train_on_cluster
from hat_ray.cluster.train_room import may_grow
from hat_ray.cluster.train_tasks import train_many, train_together
from hat_ray.core.progress import Progress, no_progress
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
from hat_ray.latency.fleet import Rounds
from hat_ray.latency.here import measure_rounds_here
from hat_ray.latency.timing.job import TimingJob
from hat_ray.pipeline.execution import SearchPlan, evaluate_at
from hat_ray.pipeline.preflight.check import Situation
from hat_ray.search.engine.session import Score
from hat_ray.search.frontier import SearchResult
from hat_ray.storage.folder import Folder
from hat_ray.train.job import TrainJob
from hat_ray.train.state import TrainResult

log = logging.getLogger(__name__)

_WITHOUT_A_CLUSTER = {"corpus", "predictor", "report"}
"""Stages that need none; a large corpus takes one where it is there."""

T = TypeVar("T")


class RayExecution:
    """Work on the cluster at `address`, on the one that `RAY_ADDRESS` names, or on one of our own on this machine."""

    def __init__(self, address: str | None = None, cpus_needed: int = 1) -> None:
        self.address, self.cpus_needed = address, cpus_needed
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
        return replace(here, machines=cluster_machines(ask=ask), cluster=True, may_grow=may_grow())

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
        return encode_on_cluster(job, first_chunk)

    def train_super(self, job: TrainJob, progress: Progress = no_progress) -> TrainResult:
        self.connect()
        if session.started_here() and not job.config.use_gpu:
            return train_together(job, progress)
        return train_on_cluster(job, progress)

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
            plan.space, plan.predictions, plan.limits, score, plan.config, plan.folder, plan.seed, progress, plan.phase
        )

    def train_subs(self, jobs: Sequence[TrainJob], progress: Progress = no_progress) -> list[TrainResult]:
        self.connect()
        return train_many(jobs, progress)

    def fine_tune(self, jobs: Sequence[TrainJob], progress: Progress = no_progress) -> list[TrainResult]:
        self.connect()
        return train_rung(jobs, progress)

    def evaluate(
        self, models: Sequence[Folder], corpus: Folder, config: EvaluateConfig, progress: Progress = no_progress
    ) -> list[Evaluation]:
        return self.do([partial(evaluate_at, folder, corpus, config) for folder in models], progress)

    def do(self, pieces: Sequence[Callable[[], T]], progress: Progress = no_progress) -> list[T]:
        self.connect()
        tasks = [_do.remote(piece) for piece in pieces]
        waiting = list(tasks)
        while waiting:
            progress(len(tasks) - len(waiting), len(tasks), {})
            _, waiting = ray.wait(waiting, num_returns=1)
        progress(len(tasks), len(tasks), {})
        return list(ray.get(tasks))


@ray.remote(num_cpus=1)
def _do(piece: Callable[[], Any]) -> Any:
    given = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
    with share(given.get("CPU", 0.0)):
        return piece()

"""Execution of a pipeline's heavy work: in this process, or on a Ray cluster (`cluster/execution.py`).

A stage defines the work; an `Execution` decides where it runs. Both give the same results; only a cluster has several
devices and several workers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from hat_ray.core.progress import Progress, ProgressFactory, no_progress
from hat_ray.core.usable_cpus import usable_cpus
from hat_ray.corpus.config import CorpusConfig
from hat_ray.corpus.corpus import Corpus, CorpusSummary
from hat_ray.corpus.prepare import prepare
from hat_ray.corpus.text.taught import Taught
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.evaluate import Evaluation, evaluate
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.fleet.plan import Rounds
from hat_ray.latency.here import measure_rounds_here
from hat_ray.latency.timing.job import TimingJob
from hat_ray.model.checkpoints.native import load_sub
from hat_ray.pipeline.preflight.check import Situation
from hat_ray.runtime.choice import fastest_engine
from hat_ray.runtime.protocol import RuntimeSettings
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.local import run_search
from hat_ray.search.engine.session import Phase, Score
from hat_ray.search.frontier import SearchResult
from hat_ray.search.limits import Limit, Predictions
from hat_ray.search.scorer import CandidateScorer
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from hat_ray.train.job import MODEL, TrainJob, gpu_for
from hat_ray.train.state import TrainResult

T = TypeVar("T")


@dataclass(frozen=True)
class SearchPlan:
    """A search: space, limits, settings, and the place of its record."""

    space: SearchSpace
    predictions: Predictions
    limits: Sequence[Limit]
    config: SearchConfig
    folder: Folder
    seed: int
    phase: Phase | None = None


class Execution(Protocol):
    """The heavy work of each stage. Long work reports to `progress`."""

    def watched(self, run: str, progress: ProgressFactory) -> ProgressFactory:
        """Return the progress bars of a run, which may also be followed from elsewhere."""

    def prepare(
        self, config: CorpusConfig, folder: Folder, seed: int, progress: Progress, taught: Taught | None = None
    ) -> CorpusSummary:
        """Turn text, with a teacher's targets where there are some, into sub-words and token tables."""

    def train_super(self, job: TrainJob, progress: Progress) -> TrainResult:
        """Train the SuperTransformer."""

    def time(self, job: TimingJob, rounds: Rounds, progress: Progress) -> list[DeviceInfo]:
        """Time round after round on every device; return the devices."""

    def search(self, plan: SearchPlan, score: Score, progress: Progress) -> SearchResult:
        """Evolve architectures under all limits at once: one phase, between measurements of the winners."""

    def train_subs(self, jobs: Sequence[TrainJob], progress: Progress) -> list[TrainResult]:
        """Train architectures alone, or SuperTransformers, each into its own folder: side by side by one worker each,
        or where there are fewer than workers one after another."""

    def fine_tune(self, jobs: Sequence[TrainJob], progress: Progress) -> list[TrainResult]:
        """Train one rung of a search's finalists, each by one worker into its own folder."""

    def evaluate(
        self, models: Sequence[Folder], corpus: Folder, config: EvaluateConfig, progress: Progress
    ) -> list[Evaluation]:
        """Translate and score the test set with each model."""

    def do(self, pieces: Sequence[Callable[[], T]], progress: Progress) -> list[T]:
        """Do independent pieces of work, each on one CPU; return their results in order."""

    def situation(self, here: Situation, *, ask: bool) -> Situation:
        """Return the situation that checks look at: `here`, or on a cluster; `ask` nodes for what only they know."""

    def close(self) -> None:
        """End the processes that were started for this work."""


class LocalExecution:
    """Everything in this process, one thing after another: no cluster, no Ray."""

    def __init__(self) -> None:
        """Keep PyTorch to the CPUs that this process may use: it knows no quota."""
        torch.set_num_threads(min(torch.get_num_threads(), usable_cpus()))

    def situation(self, here: Situation, *, ask: bool) -> Situation:
        return here

    def close(self) -> None:
        """Nothing was started."""

    def watched(self, _run: str, progress: ProgressFactory) -> ProgressFactory:
        return progress

    def prepare(
        self,
        config: CorpusConfig,
        folder: Folder,
        seed: int,
        progress: Progress = no_progress,
        taught: Taught | None = None,
    ) -> CorpusSummary:
        return prepare(config, folder, seed, progress, taught=taught)

    def train_super(self, job: TrainJob, progress: Progress = no_progress) -> TrainResult:
        return job.run(progress)

    def time(self, job: TimingJob, rounds: Rounds, progress: Progress = no_progress) -> list[DeviceInfo]:
        return measure_rounds_here(job, rounds, progress)

    def search(self, plan: SearchPlan, score: Score, progress: Progress = no_progress) -> SearchResult:
        if plan.config.worker_gpus and isinstance(score, CandidateScorer):
            score.to(gpu_for("search.worker_gpus"))
        return run_search(
            plan.space, plan.predictions, plan.limits, score, plan.config, plan.folder, plan.seed, progress, plan.phase
        )

    def train_subs(self, jobs: Sequence[TrainJob], progress: Progress = no_progress) -> list[TrainResult]:
        return one_after_another(jobs, TrainJob.run, progress)

    def fine_tune(self, jobs: Sequence[TrainJob], progress: Progress = no_progress) -> list[TrainResult]:
        return self.train_subs(jobs, progress)

    def do(self, pieces: Sequence[Callable[[], T]], progress: Progress = no_progress) -> list[T]:
        results = []
        for index, piece in enumerate(pieces):
            progress(index, len(pieces), {})
            results.append(piece())
        progress(len(pieces), len(pieces), {})
        return results

    def evaluate(
        self, models: Sequence[Folder], corpus: Folder, config: EvaluateConfig, progress: Progress = no_progress
    ) -> list[Evaluation]:
        data, results = Corpus.load(corpus), []
        for index, folder in enumerate(models):
            progress(index, len(models), {})
            results.append(evaluate_trained(folder, data, config))
        progress(len(models), len(models), {})
        return results


def one_after_another(
    jobs: Sequence[TrainJob], train: Callable[[TrainJob, Progress], TrainResult], progress: Progress
) -> list[TrainResult]:
    """Train models one after another; `progress` counts the updates of all."""
    results: list[TrainResult] = []
    total = sum(job.config.updates for job in jobs)
    for job in jobs:
        before = sum(result.updates for result in results)
        results.append(train(job, lambda done, _, figures, before=before: progress(before + done, total, figures)))
    return results


def evaluate_at(folder: Folder, corpus: Folder, config: EvaluateConfig) -> Evaluation:
    """Score the model of a training on the corpus in a folder. Stands here for workers: it imports no Ray."""
    return evaluate_trained(folder, Corpus.load(corpus), config)


def evaluate_trained(folder: Folder, corpus: Corpus, config: EvaluateConfig) -> Evaluation:
    """Score the model of a training, on the fastest runtime that executes it here, on a GPU where settings say so."""
    device = gpu_for("evaluate.use_gpu") if config.use_gpu else "cpu"
    model, settings = load_sub(folder, MODEL).eval(), RuntimeSettings(device=device, threads=torch.get_num_threads())
    _, engine = fastest_engine(model, settings)
    return evaluate(engine, corpus, config)

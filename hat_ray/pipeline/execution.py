"""Where the heavy work of a pipeline happens: in this process, or on a Ray cluster (`cluster.py`).

A stage says *what* is to be done; an `Execution` decides where. Both give the same results; only a cluster has several
devices and several workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hat_ray.corpus.dataset import Corpus
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.score import Evaluation, evaluate
from hat_ray.latency.device import DeviceInfo, detect
from hat_ray.latency.measure import TimingJob, measure
from hat_ray.model.checkpoint import load_sub, load_super
from hat_ray.model.config import ModelConfig
from hat_ray.progress import Progress, silent
from hat_ray.search.score import CandidateScorer, scoring_batches
from hat_ray.search.search import SearchPlan, SearchResult, run_search
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage import Folder
from hat_ray.train.config import TrainConfig
from hat_ray.train.result import TrainResult
from hat_ray.train.train import MODEL, SUPERNET, train_sub, train_super


@dataclass(frozen=True)
class TrainPlan:
    """What every training of a run shares."""

    space: SearchSpace
    corpus: Folder
    model_config: ModelConfig
    config: TrainConfig
    seed: int


@dataclass(frozen=True)
class SubJob:
    """One architecture to train from scratch, and the folder that it goes to."""

    architecture: Architecture
    folder: Folder


class Execution(Protocol):
    """The heavy work of each stage. Long work tells `progress`."""

    def train_super(self, plan: TrainPlan, folder: Folder, progress: Progress) -> TrainResult:
        """Train the SuperTransformer into a folder."""

    def time(self, job: TimingJob, architectures: Sequence[Architecture], progress: Progress) -> list[DeviceInfo]:
        """Time architectures on every device; return the devices."""

    def search(self, plan: SearchPlan, supernet: Folder, corpus: Folder, progress: Progress) -> SearchResult:
        """Evolve architectures, scored with the weights that they inherit."""

    def train_subs(self, plan: TrainPlan, jobs: Sequence[SubJob], progress: Progress) -> list[TrainResult]:
        """Train architectures from scratch, each into its folder."""

    def evaluate(
        self, models: Sequence[Folder], corpus: Folder, config: EvaluateConfig, progress: Progress
    ) -> list[Evaluation]:
        """Translate and score the test set with each model."""


class LocalExecution:
    """Everything in this process, one thing after another: no cluster, no Ray."""

    def train_super(self, plan: TrainPlan, folder: Folder, progress: Progress = silent) -> TrainResult:
        corpus = Corpus.load(plan.corpus)
        return train_super(plan.space, corpus, plan.model_config, plan.config, folder, plan.seed, progress)

    def time(
        self, job: TimingJob, architectures: Sequence[Architecture], progress: Progress = silent
    ) -> list[DeviceInfo]:
        device = detect(threads=job.config.threads, accelerator=job.config.accelerator)
        measure(job, architectures, device, progress)
        return [device]

    def search(self, plan: SearchPlan, supernet: Folder, corpus: Folder, progress: Progress = silent) -> SearchResult:
        scorer = CandidateScorer(load_super(supernet, SUPERNET), scoring_batches(Corpus.load(corpus).valid))
        return run_search(plan, scorer.loss, progress)

    def train_subs(self, plan: TrainPlan, jobs: Sequence[SubJob], progress: Progress = silent) -> list[TrainResult]:
        corpus, results = Corpus.load(plan.corpus), []
        for index, job in enumerate(jobs):
            progress(index, len(jobs), {})
            results.append(
                train_sub(
                    job.architecture, plan.space, corpus, plan.model_config, plan.config, job.folder, plan.seed
                )
            )
        progress(len(jobs), len(jobs), {})
        return results

    def evaluate(
        self, models: Sequence[Folder], corpus: Folder, config: EvaluateConfig, progress: Progress = silent
    ) -> list[Evaluation]:
        data, results = Corpus.load(corpus), []
        for index, folder in enumerate(models):
            progress(index, len(models), {})
            results.append(evaluate(load_sub(folder, MODEL).eval(), data, config))
        progress(len(models), len(models), {})
        return results

"""Trainings that several studies share: from scratch, and of whole SuperTransformers, each in a folder of its own.

`trained/scratch/<architecture>-s<seed>-<hash>` and `trained/supernets/<policy>-s<seed>-<hash>`: the hash covers all
that decides the weights, so nothing here is ever stale, and a larger number trains only the missing ones.
Settings of a SuperTransformer's training alone are left out for architectures from scratch: they do not matter.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from hat_ray.core.determinism import stream_seed
from hat_ray.corpus.corpus import Corpus
from hat_ray.model.config import ModelConfig
from hat_ray.pipeline.stage import Context
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_params
from hat_ray.storage.folder import Folder
from hat_ray.studies.compute import changed
from hat_ray.train.checkpoints import fingerprint
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import TrainJob, sub_fingerprint, super_fingerprint
from hat_ray.train.state import TrainResult

log = logging.getLogger(__name__)

TRAINED = "trained"


def scratch_job(context: Context, architecture: Architecture, number: int) -> TrainJob:
    """Return the training from scratch of an architecture with seed `number`, counted from 0."""
    recipe = context.recipe
    model = recipe.model.model_copy(update={"sharing": "front"})  # it shares nothing: one training serves all
    config = changed(recipe.retrain, policy="uniform", distillation=0.0, sort_update=None, hat_sampling=False)
    job = _job(context, architecture, model, config, "retrain", number)
    return _placed(context, job, "scratch", f"{architecture.id}-s{number}")


def supernet_job(context: Context, slug: str, model: ModelConfig, config: TrainConfig, number: int) -> TrainJob:
    """Return the training of a SuperTransformer by one worker; `slug` names its policy."""
    return _placed(context, _job(context, None, model, config, "supernet", number), "supernets", f"{slug}-s{number}")


def train_all(context: Context, jobs: Sequence[TrainJob], label: str) -> list[TrainResult]:
    """Train the missing ones side by side, the longest first; return the results in the order of the jobs."""
    pending = [job for job in jobs if job.finished() is None]
    log.info("%s: %d trainings, %d of them finished before", label, len(jobs), len(jobs) - len(pending))
    pending.sort(key=_size, reverse=True)  # then no worker trains alone at the end
    if pending:
        with context.progress(label) as progress:
            context.execution.train_subs(pending, progress)
    results = [job.finished() for job in jobs]
    return [result for result in results if result is not None]


def _size(job: TrainJob) -> float:
    return float(count_params(job.architecture or job.space.largest())) * job.config.updates


def _job(
    context: Context,
    architecture: Architecture | None,
    model: ModelConfig,
    config: TrainConfig,
    stream: str,
    number: int,
) -> TrainJob:
    """Seed 0 is the one that the run's own stages train with."""
    seed = stream_seed(context.recipe.seed, stream, *([number] if number else []))
    one_worker = changed(config, workers=1)
    space, corpus = context.recipe.space.build(), context.folder("corpus")
    return TrainJob(architecture, space, corpus, model, one_worker, Folder(""), seed)


def _placed(context: Context, job: TrainJob, kind: str, name: str) -> TrainJob:
    settings = (job.space, Corpus.load(job.corpus), job.model_config, job.config, job.seed)
    config, one = job.config, job.architecture
    weights = super_fingerprint(*settings) if one is None else sub_fingerprint(one, *settings)
    ending = {"average": None, **config.ending, "seconds": config.max_seconds}
    digest = fingerprint({"weights": weights, **ending})
    return replace(job, folder=context.run.folder.child(TRAINED, kind, f"{name}-{digest[:8]}"))

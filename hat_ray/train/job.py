"""Train a SuperTransformer, or one architecture from scratch, in this process or as one of several workers.

The folder of a training holds `checkpoints/`, the final model (`supernet` or `model`) and, written last, `train.json`.
A training that is finished is not repeated: its result is read back.

One training as a value, so that it can travel to a worker and be done there.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from hat_ray.core.codec import read, write
from hat_ray.core.config import canonical
from hat_ray.core.determinism import stream_seed
from hat_ray.core.lease import Lease
from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.batches import Batch
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import CheckpointError, CorpusError, HatRayError
from hat_ray.model.channels import order_by_importance, used_parts
from hat_ray.model.checkpoints.native import load_sub, load_super, save_model, weights_digest
from hat_ray.model.config import ModelConfig
from hat_ray.model.layers import slice_rule
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.model.transformer import Output
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from hat_ray.train.checkpoints import CheckpointStore, fingerprint
from hat_ray.train.config import TrainConfig
from hat_ray.train.data import Forward, Rearrangement, TrainingTask, UpdateBatches, ValidationLoss
from hat_ray.train.loop import Training
from hat_ray.train.metrics import CompositeSink, MetricSink, NullSink, sinks_of
from hat_ray.train.sampling import Policy, policy_for
from hat_ray.train.state import TrainResult
from hat_ray.train.validation.bleu import ValidationBleu
from hat_ray.train.workers import OneWorker, Workers

log = logging.getLogger(__name__)

SUPERNET, MODEL, RESULT = "supernet", "model", "train.json"


@dataclass(frozen=True)
class Finished:
    """Content of `train.json`."""

    fingerprint: str
    result: TrainResult


def train_super(
    space: SearchSpace,
    corpus: Corpus,
    model_config: ModelConfig,
    config: TrainConfig,
    folder: Folder,
    seed: int,
    progress: Progress = no_progress,
    workers: Workers | None = None,
    *,
    start: Folder | None = None,
    teacher: Folder | None = None,
) -> TrainResult:
    """Train the SuperTransformer of a space: one sampled architecture an update; save it as `supernet`.

    `start` holds the SuperTransformer that it starts from, whose channels are sorted; None: random weights.
    """
    workers = workers or OneWorker(device_for(config))
    wanted = super_fingerprint(space, corpus, model_config, config, seed, start, teacher)
    done = finished(folder, wanted)
    if done is not None:
        return done
    source_size, target_size = _vocab_sizes(corpus, model_config)
    sorts = model_config.sharing == "importance"
    if start is None:
        model = SuperTransformer(
            space, source_size, model_config, target_vocab_size=target_size, seed=stream_seed(seed, "init")
        )
    else:
        model, sorts = load_super(start, SUPERNET), False
    sort_update = config.sorted_at if sorts else None
    task = super_task(model, policy_for(space, config, seed, sort_update), sort_update)
    task = replace(task, teacher=_teaching(teacher, workers))
    result = _train(task, corpus, config, folder, seed, progress, workers, wanted)
    _close(folder, SUPERNET, model, result, wanted, workers)
    return result


def train_sub(
    architecture: Architecture,
    space: SearchSpace,
    corpus: Corpus,
    model_config: ModelConfig,
    config: TrainConfig,
    folder: Folder,
    seed: int,
    progress: Progress = no_progress,
    workers: Workers | None = None,
    *,
    start: Folder | None = None,
    teacher: Folder | None = None,
) -> TrainResult:
    """Train one architecture of a space from scratch, or from the model that `start` holds; save it as `model`.

    `teacher` is the folder of its teacher.
    """
    workers = workers or OneWorker(device_for(config))
    wanted = sub_fingerprint(architecture, space, corpus, model_config, config, seed, start, teacher)
    done = finished(folder, wanted)
    if done is not None:
        return done
    largest = space.largest()
    source_size, target_size = _vocab_sizes(corpus, model_config)
    if start is None:
        model = SubTransformer(
            architecture,
            source_size,
            model_config,
            target_vocab_size=target_size,
            super_dims=(largest.encoder.embed_dim, largest.decoder.embed_dim),
            seed=stream_seed(seed, "init"),
        )
    else:
        model = load_sub(start, MODEL)
    task = replace(sub_task(model, config.compile), teacher=_teaching(teacher, workers))
    result = _train(task, corpus, config, folder, seed, progress, workers, wanted)
    _close(folder, MODEL, model, result, wanted, workers)
    return result


def _vocab_sizes(corpus: Corpus, config: ModelConfig) -> tuple[int, int]:
    """Return the entries of the source's and the target's vocabulary; raise CorpusError where they must be one."""
    vocabularies = corpus.vocabularies
    if config.share_embeddings == "all" and not vocabularies.joint:
        raise CorpusError(
            "model.share_embeddings=all needs one joint vocabulary, got one for each side: "
            "set model.share_embeddings=decoder"
        )
    return vocabularies.sizes


def _teaching(folder: Folder | None, workers: Workers) -> Forward | None:
    """Return the forward pass of a teacher, on the worker's device; None where there is none."""
    if folder is None:
        return None
    teacher = load_sub(folder, MODEL).eval().requires_grad_(False).to(workers.device)
    return lambda batch: teacher.output(batch.source, batch.target_in, batch.padded)


def super_task(model: SuperTransformer, policy: Policy, sort_update: int | None = None) -> TrainingTask:
    """Train the policy's architectures; validate the largest and the smallest one."""
    chosen = lru_cache(maxsize=1)(policy)  # asked for again by each batch and each gradient of an update

    def forward(architecture: Architecture) -> Forward:
        return lambda batch: model.output(batch.source, batch.target_in, architecture, batch.padded)

    cut, shared = slice_rule(model.config.sharing), model.config.share_embeddings == "all"

    def parts(update: int, name: str, gradient: Tensor) -> list[Tensor]:
        used = chosen(update)
        return used_parts(name, gradient, used[0], cut, shared) if len(used) == 1 else [gradient]

    def rearrange(update: int) -> Rearrangement | None:
        return order_by_importance(model).apply if update == sort_update else None

    return TrainingTask(
        model,
        lambda update: [forward(architecture) for architecture in chosen(update)],
        {"largest": forward(model.space.largest()), "smallest": forward(model.space.smallest())},
        {
            "largest": lambda: model.extract(model.space.largest()),
            "smallest": lambda: model.extract(model.space.smallest()),
        },
        parts,
        rearrange=rearrange,
    )


def sub_task(model: SubTransformer, compiled: bool = False) -> TrainingTask:
    """Train and validate the model itself."""
    output = torch.compile(model.output, dynamic=True) if compiled else model.output

    def forward(batch: Batch) -> Output:
        return output(batch.source, batch.target_in, batch.padded)

    return TrainingTask(
        model,
        lambda _update: [forward],
        {"model": lambda batch: model.output(batch.source, batch.target_in, batch.padded)},
        {"model": lambda: model},
    )


def super_fingerprint(
    space: SearchSpace,
    corpus: Corpus,
    model_config: ModelConfig,
    config: TrainConfig,
    seed: int,
    start: Folder | None = None,
    teacher: Folder | None = None,
) -> str:
    """Hash all that decides the weights of a SuperTransformer's training."""
    begun = {} if start is None else {"start": weights_digest(start, SUPERNET)}
    return fingerprint({"space": space.to_dict(), **_common(corpus, model_config, config, seed, teacher), **begun})


def sub_fingerprint(
    architecture: Architecture,
    space: SearchSpace,
    corpus: Corpus,
    model_config: ModelConfig,
    config: TrainConfig,
    seed: int,
    start: Folder | None = None,
    teacher: Folder | None = None,
) -> str:
    """Hash all that decides the weights of one architecture's training."""
    parts = {"architecture": architecture.to_dict(), "space": space.to_dict()}
    begun = {} if start is None else {"start": weights_digest(start, MODEL)}
    return fingerprint({**parts, **_common(corpus, model_config, config, seed, teacher), **begun})


def finished(folder: Folder, wanted: str) -> TrainResult | None:
    """Return the result of a training that is over, or None; raises CheckpointError when it is another training's."""
    if not folder.exists(RESULT):
        return None
    value = read_finished(folder)
    if value.fingerprint != wanted:
        raise CheckpointError(
            f"{folder} holds the result of another training (fingerprint {value.fingerprint}, this one is {wanted}): "
            "choose another folder or delete it"
        )
    return value.result


def read_finished(folder: Folder) -> Finished:
    """Read the result of a finished training; raises DamagedError."""
    return read(folder, RESULT, Finished)


def _common(
    corpus: Corpus, model_config: ModelConfig, config: TrainConfig, seed: int, teacher: Folder | None
) -> dict[str, Any]:
    taught = {} if teacher is None else {"teacher": weights_digest(teacher, MODEL)}
    return {
        **taught,
        "corpus": corpus.summary.fingerprint,
        "model": canonical(model_config),
        "train": config.what_is_learnt(),
        "seed": seed,
    }


def _train(
    task: TrainingTask,
    corpus: Corpus,
    config: TrainConfig,
    folder: Folder,
    seed: int,
    progress: Progress,
    workers: Workers,
    wanted: str,
) -> TrainResult:
    batches = UpdateBatches(corpus.train, config.max_tokens, config.accumulate, seed, workers)
    validation = ValidationLoss(corpus.valid, config.valid_max_tokens, config.label_smoothing, workers)
    bleu = ValidationBleu(corpus, config.valid_bleu_lines, workers) if config.valid_bleu_lines else None
    keep = max(config.keep_last, config.average_last)
    with _threads(config.threads), _taken(folder, workers) as lease, _sinks(folder, config, workers) as sink:
        store = CheckpointStore(folder.child("checkpoints"), wanted, keep, config.best_kept, lease)
        try:
            return Training(task, batches, validation, config, store, workers, seed, sink, bleu).run(progress)
        finally:
            store.wait()


def _close(
    folder: Folder,
    name: str,
    model: SuperTransformer | SubTransformer,
    result: TrainResult,
    wanted: str,
    workers: Workers,
) -> None:
    """Save the final model, then the result, which marks the training as finished."""
    if workers.rank != 0:
        return
    save_model(folder, name, model, {"valid_loss_bits": dict(result.valid_loss_bits), "updates": result.updates})
    write(folder, RESULT, Finished(wanted, result))
    log.info("trained %s: %d updates in %.1f s", folder, result.updates, result.seconds)


def device_for(config: TrainConfig) -> torch.device:
    return torch.device(gpu_for("train.use_gpu") if config.use_gpu else "cpu")


def gpu_for(setting: str) -> str:
    """Return PyTorch's name of this process's GPU; raise HatRayError, which names the setting, where it has none."""
    if not torch.cuda.is_available():
        raise HatRayError(f"{setting} is set, but PyTorch sees no CUDA device here: unset it, or install a driver")
    return "cuda"


@contextmanager
def _taken(folder: Folder, workers: Workers) -> Iterator[Lease | None]:
    """Hold the folder of a training while it runs: only rank 0 writes.

    It is taken from its holder. A killed driver leaves workers that live on for seconds, and a node that the
    network lost may live on for hours: they end at their next checkpoint, and nothing waits for them.
    """
    if workers.rank != 0:
        yield None
        return
    lease = Lease.take(folder)
    try:
        yield lease
    finally:
        lease.release()


@contextmanager
def _sinks(folder: Folder, config: TrainConfig, workers: Workers) -> Iterator[MetricSink]:
    """Yield the sink of all metrics that the settings ask for; only rank 0 logs."""
    if workers.rank != 0:
        yield NullSink()
        return
    sink = CompositeSink([workers.sink, *sinks_of(folder, config.tensorboard, config.mlflow)])
    try:
        yield sink
    finally:
        sink.close()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Run with `count` CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class TrainJob:
    """One training; the corpus is named here and read where the work is done."""

    architecture: Architecture | None
    """Architecture to train from scratch; None for the SuperTransformer."""
    space: SearchSpace
    corpus: Folder
    model_config: ModelConfig
    config: TrainConfig
    folder: Folder
    seed: int
    start: Folder | None = None
    """Folder of the model that it starts from, of the same kind; None: random weights."""
    teacher: Folder | None = None
    """Folder of the model that teaches it; None: none does."""

    def finished(self) -> TrainResult | None:
        """Return the result if this training is over; raises CheckpointError when another one's stands there."""
        settings = (self.space, Corpus.load(self.corpus), self.model_config, self.config, self.seed)
        if self.architecture is None:
            return finished(self.folder, super_fingerprint(*settings, self.start, self.teacher))
        return finished(self.folder, sub_fingerprint(self.architecture, *settings, self.start, self.teacher))

    def run(self, progress: Progress = no_progress, workers: Workers | None = None) -> TrainResult:
        """Train in this process; resume an interrupted training, return a finished one's result at once."""
        corpus = Corpus.load(self.corpus)
        settings = (self.space, corpus, self.model_config, self.config, self.folder, self.seed, progress, workers)
        if self.architecture is None:
            return train_super(*settings, start=self.start, teacher=self.teacher)
        return train_sub(self.architecture, *settings, start=self.start, teacher=self.teacher)

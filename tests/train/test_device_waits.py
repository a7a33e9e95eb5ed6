"""What an update does on a GPU, seen on a CPU: nobody waits for the device but where it is meant."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed
from torch.utils._python_dispatch import TorchDispatchMode

from hat_ray.corpus.batches import collate, make_unshuffled_batches
from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.model.transformer import Output
from hat_ray.storage.folder import Folder
from hat_ray.train.checkpoints import CheckpointStore
from hat_ray.train.config import TrainConfig
from hat_ray.train.data import UpdateBatches, ValidationLoss
from hat_ray.train.job import super_task
from hat_ray.train.loop import Training
from hat_ray.train.objective import smoothed_loss
from hat_ray.train.sampling import policy_for
from hat_ray.train.workers import OneWorker, Workers, wait_for_all
from tests.waits import Waits

dist: Any = torch.distributed  # PyTorch describes no types of its groups

BASE = {"updates": 1_000, "max_tokens": 100, "accumulate": 2, "clip_norm": 0.1, "max_seconds": 1e6, "log_every": 1_000}


def a_training(space, corpus, config, batches, store: CheckpointStore, workers: Workers) -> Training:
    model = SuperTransformer(space, corpus.vocabularies.sizes[0], ModelConfig(dropout=0.1))
    task, loss = super_task(model, policy_for(space, config, 1)), ValidationLoss(corpus.valid, 4_096, workers=workers)
    return Training(task, batches, loss, config, store, workers, 1)


class EnoughError(Exception):
    """The training was watched for long enough."""


class WatchedBatches(UpdateBatches):
    """Notes how often the CPU would have waited before each update, and ends the training after some."""

    waits: Waits
    counts: list[int]

    def update(self, position):
        self.counts.append(len(self.waits.seen))
        if len(self.counts) > 4:
            raise EnoughError
        return super().update(position)


@pytest.mark.parametrize(
    ("settings", "reads"),
    [
        ({}, 0),
        ({"precision": "bf16", "policy": "sandwich", "distillation": 0.5}, 0),
        ({"precision": "fp16"}, 1),  # whether it overflowed
    ],
)
def test_an_update_waits_for_no_value_of_the_device(settings, reads, tiny_space, corpus, tmp_path):
    config = TrainConfig(**BASE, **settings)
    batches = WatchedBatches(corpus.train, config.max_tokens, config.accumulate, 1, OneWorker())
    store = CheckpointStore(Folder.at(tmp_path), "watched", 2)
    training = a_training(tiny_space, corpus, config, batches, store, OneWorker())
    batches.counts = []
    with Waits() as batches.waits, pytest.raises(EnoughError):
        training.run(lambda done, total, figures: None)
    assert batches.waits.operators > 1_000
    assert {after - before for before, after in zip(batches.counts, batches.counts[1:], strict=False)} == {reads}


def test_a_batch_knows_its_padding_and_its_tokens_and_the_model_need_not_look(tiny_space, corpus):
    model = SuperTransformer(tiny_space, corpus.vocabularies.sizes[0], ModelConfig()).eval()
    batches = [collate(corpus.valid, rows) for rows in make_unshuffled_batches(corpus.valid, 40)]
    assert {batch.padded for batch in batches} == {True, False}
    for batch in batches:
        known = model.output(batch.source, batch.target_in, tiny_space.largest(), batch.padded)
        looked = model.output(batch.source, batch.target_in, tiny_space.largest())
        assert torch.equal(known.hidden, looked.hidden)
        sums = [smoothed_loss(known, batch.target_out, 0.1, 1, tokens=count) for count in (batch.num_tokens, None)]
        assert sums[0].loss_sum == sums[1].loss_sum
        assert int(sums[0].tokens) == batch.num_tokens


def test_gradients_are_scaled_before_they_are_rounded_to_half_precision():
    generator = torch.Generator().manual_seed(0)
    vocabulary, width, scale = 20_000, 16, 2.0**13
    hidden, weight = (torch.randn(*shape, generator=generator) for shape in ((1, 12, width), (vocabulary, width)))
    target = torch.randint(4, vocabulary, (1, 12), generator=generator)
    others = torch.ones(vocabulary, dtype=torch.bool).index_fill_(0, target.view(-1), False)

    def gradient(dtype: torch.dtype | None, factor: float) -> torch.Tensor:
        """Of the words that are no target: their gradients are the smallest."""
        learnt = weight.clone().requires_grad_()
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            loss = smoothed_loss(Output(hidden * 0.02, learnt), target, 0.1, 1, scale=factor).loss_sum
        (loss * scale).backward()
        return learnt.grad[others] / scale

    exact = gradient(None, 1.0)
    assert torch.allclose(gradient(None, scale), exact, rtol=1e-5, atol=1e-9)  # in fp32 it is all one
    scaled, unscaled = (gradient(torch.float16, factor) for factor in (scale, 1.0))
    errors = [float((one - exact).norm() / exact.norm()) for one in (scaled, unscaled)]
    assert errors[0] < 2e-3  # the rounding of fp16's products
    assert errors[1] > 3 * errors[0]
    assert (unscaled == 0).any()
    assert (scaled != 0).all()


class Device(TorchDispatchMode):
    """One worker's queue, as a GPU has it: an operator waits for the sums that it takes, the host waits for none."""

    def __init__(self) -> None:
        super().__init__()
        self.queued: list[tuple[torch.Tensor, Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        taken = [one for one in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        for values, work in self.queued:
            if any(one.untyped_storage().data_ptr() == values.untyped_storage().data_ptr() for one in taken):
                work.wait()
        return func(*args, **(kwargs or {}))


class QueueingWorkers(OneWorker):
    """Workers whose sums are gloo's real ones, and return at once, as NCCL's do."""

    def __init__(self, rank: int, store: Any) -> None:
        super().__init__()
        self.rank, self.world_size, self.queue = rank, 2, Device()
        options = dist.ProcessGroupGloo._Options()
        options._devices = [dist.ProcessGroupGloo.create_device(hostname="127.0.0.1")]
        options._timeout = timedelta(seconds=120)
        self._group = dist.ProcessGroupGloo(store, rank, 2, options)

    def all_reduce(self, values: torch.Tensor) -> None:
        self.queue.queued.append((values, self._group.allreduce([values])))


class WatchedStore(CheckpointStore):
    """Rank 0's last checkpoint takes until rank 1 reads, or a while: rank 1 must not read before it is written."""

    rank, read, written, too_early = 0, threading.Event(), threading.Event(), threading.Event()

    def wait(self, must_succeed: bool = False) -> None:
        if self.rank == 0 and must_succeed:
            self.read.wait(0.5)
        super().wait(must_succeed)
        if self.rank == 0 and must_succeed:
            self.written.set()

    def average(self, count, prefix, best=False):
        if self.rank == 1:
            self.read.set()
            if not self.written.is_set():
                self.too_early.set()
        return super().average(count, prefix, best)


def together(work) -> list:
    """Do it as two workers, each on a thread and with a queue of its own."""
    store = dist.HashStore()

    def alone(rank: int):
        workers = QueueingWorkers(rank, store)
        with workers.queue:
            return work(workers)

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(alone, (0, 1)))


def test_no_worker_reads_the_last_checkpoint_before_it_is_written(tiny_space, corpus, tmp_path):
    config = TrainConfig(updates=4, max_tokens=300, accumulate=2, checkpoint_every=2, average_last=2)

    def train(workers: QueueingWorkers) -> tuple[int, ...]:
        batches = UpdateBatches(corpus.train, config.max_tokens, config.accumulate, 1, workers)
        store = WatchedStore(Folder.at(tmp_path), "watched", 2)
        store.rank = workers.rank
        return a_training(tiny_space, corpus, config, batches, store, workers).run(lambda *_: None).made_of

    assert together(train) == [(2, 4), (2, 4)]
    assert WatchedStore.read.is_set()
    assert not WatchedStore.too_early.is_set()


def test_a_sum_alone_lets_the_host_go_on_and_a_meeting_does_not():
    first, arrived = threading.Event(), []

    def meet(workers: QueueingWorkers) -> None:
        if workers.rank == 1:
            workers.all_reduce(torch.zeros(1))  # the other one has not even begun, and this returns
            first.set()
            wait_for_all(workers)
        else:
            assert first.wait(60)
            workers.all_reduce(torch.zeros(1))
            arrived.append(workers.rank)
            wait_for_all(workers)
        assert arrived == [0]

    together(meet)

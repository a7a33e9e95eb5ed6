"""The workers of one training: a rank, a number of workers, and a sum over all of them.

Decisions
- Not DistributedDataParallel: every update uses other parameters, and a layer that the sampled architecture skips must
  keep no gradient at all, on every worker (Adam then leaves it alone, as in HAT). DDP's buckets are fixed at the first
  updates; `find_unused_parameters` walks the graph each time, and gives skipped parameters zeros.
- Instead the gradients that exist are laid into one buffer and summed once. All workers train the same architecture
  in an update, so the same gradients exist everywhere and the buffers match.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from hat_ray.storage.folder import Folder
from hat_ray.train.metrics import Figures, MetricSink, NullSink


class Workers(Protocol):
    """This process among its fellow workers."""

    @property
    def rank(self) -> int:
        """This worker's number, from 0."""

    @property
    def world_size(self) -> int:
        """Number of workers."""

    @property
    def device(self) -> torch.device:
        """Device of this worker's model."""

    @property
    def sink(self) -> MetricSink:
        """Sink of metrics outside this process."""

    def all_reduce(self, values: Tensor) -> None:
        """Replace `values` by the sum over all workers. On a GPU it is queued: to read the values waits for it."""

    def saved(self, checkpoint: Folder, figures: Figures, /) -> None:
        """Called on every worker once rank 0 has written a checkpoint, or left it out where its storage failed.

        The figures are those of the moment. What this raises ends the training here.
        """

    def leaving(self) -> bool:
        """Return whether a node of these workers will be taken away, so that others are to resume; to all the same.

        Every worker asks after the same updates.
        """


class NodeLeavesError(Exception):
    """Ends a training on workers whose node will be taken away: others resume from the checkpoint that it wrote."""


class OneWorker:
    """A single process; nothing to sum."""

    rank = 0
    world_size = 1

    def __init__(self, device: torch.device | str = "cpu", sink: MetricSink | None = None) -> None:
        self.device = torch.device(device)
        self.sink = sink or NullSink()

    def all_reduce(self, values: Tensor) -> None:
        """Leave the values as they are."""

    def saved(self, checkpoint: Folder, figures: Figures, /) -> None:
        """Do nothing."""

    def leaving(self) -> bool:
        """Return False: what becomes of this process is not known."""
        return False


def wait_for_all(workers: Workers) -> None:
    """Return once every worker has called this.

    NCCL only queues a sum on the device, and the host continues: the number is read, which waits for it.
    """
    if workers.world_size == 1:
        return
    count = torch.ones(1, device=workers.device)
    workers.all_reduce(count)
    if int(count) != workers.world_size:
        raise RuntimeError(f"{workers.world_size} workers train, but {int(count)} met")


def sum_over_workers(tensors: Sequence[Tensor], workers: Workers) -> None:
    """Replace each tensor by its sum over all workers, in one exchange of one float32 buffer."""
    if workers.world_size == 1:
        return
    buffer = torch.cat([tensor.reshape(-1) for tensor in tensors])
    workers.all_reduce(buffer)
    parts = torch.split(buffer, [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(list(tensors), [part.view_as(t) for part, t in zip(parts, tensors, strict=True)])

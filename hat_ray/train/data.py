"""Task of a training: its model, its passes, its validations; and which batches an update trains on.

Batches are an endless sequence of epochs, cut into updates without gap or overlap.

Decisions
- The sequence is global: worker `r` of `n` takes every n-th batch of an update. So the number of workers changes
  neither the data nor the order, and a run may be resumed with another number of workers.
- An update that reaches the end of an epoch continues with the next one: every pair is seen once an epoch.
- A position is two numbers; the batches of an epoch follow from seed and epoch. So a resumed run finds its place
  without walking through the epochs before.
- A worker keeps the plan of one epoch, 4 bytes a pair; sentences are read where they lie, in memory-mapped shards.

Validation: the label-smoothed loss on the whole validation set, each token counting the same. HAT's fitness.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from hat_ray.corpus.batches import Batch, BatchPlan, collate, make_batches, make_unshuffled_batches
from hat_ray.corpus.tokens import TokenTable
from hat_ray.corpus.vocabulary import PAD
from hat_ray.errors import CorpusError
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.transformer import Output
from hat_ray.train.objective import LossSums, smoothed_loss
from hat_ray.train.workers import OneWorker, Workers, sum_over_workers

Forward = Callable[[Batch], Output]
"""A batch to what its loss is computed from."""
Rearrangement = Callable[[str, Tensor], Tensor]
"""(name, parameter or something of its shape) to the same with its channels in another order."""


@dataclass(frozen=True)
class TrainingTask:
    """A training's task: a model, the passes of an update, and those of a validation."""

    model: nn.Module
    passes: Callable[[int], Sequence[Forward]]
    """The forward passes of an update, counted from 0; the first one's output teaches the others, if anything does."""
    checks: Mapping[str, Forward]
    """Validations by name."""
    translators: Mapping[str, Callable[[], SubTransformer]] = field(default_factory=dict)
    """The models of the same names that translate, with the weights of the moment."""
    parts: Callable[[int, str, Tensor], Sequence[Tensor]] = lambda _update, _name, gradient: [gradient]
    """(update, parameter's name, its gradient) to the views of the gradient that the update can have filled: what
    workers exchange. The rest is zero everywhere."""
    teacher: Forward | None = None
    """What teaches all passes, a model that is not trained; None: none does."""
    rearrange: Callable[[int], Rearrangement | None] = lambda _update: None
    """A change of all weights, and of the optimiser's state of them, before an update; mostly None."""


class ValidationLoss:
    """A validation set on its device, batched once and used many times."""

    def __init__(
        self, table: TokenTable, max_tokens: int, smoothing: float = 0.1, workers: Workers | None = None
    ) -> None:
        self._smoothing, self._workers = smoothing, workers or OneWorker()
        batches = make_unshuffled_batches(table, max_tokens)[self._workers.rank :: self._workers.world_size]
        self._batches = [collate(table, indices).to(self._workers.device) for indices in batches]

    @torch.inference_mode()
    def sums(self, model: nn.Module, forward: Forward) -> LossSums:
        """Return the sums over all workers' shares; the model is put back into the mode that it was in."""
        training = model.training
        model.eval()
        totals = torch.zeros(3, dtype=torch.float64, device=self._workers.device)
        for batch in self._batches:
            sums = smoothed_loss(forward(batch), batch.target_out, self._smoothing, PAD, tokens=batch.num_tokens)
            totals += torch.stack([sums.loss_sum, sums.nll_sum, sums.tokens]).double()
        model.train(training)
        sum_over_workers([totals], self._workers)
        return LossSums(*totals)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the endless sequence: the next batch is number `batch` of epoch `epoch`, both counted from 0."""

    epoch: int = 0
    batch: int = 0


class BatchSource(Protocol):
    """Source of the updates' batches: `UpdateBatches`, or another implementation."""

    def update(self, position: Position) -> tuple[list[tuple[int, Batch]], Position]:
        """Return this worker's numbered batches of the update at `position`, and the next update's position."""


class UpdateBatches:
    """The batches of each update for one worker."""

    def __init__(self, table: TokenTable, max_tokens: int, accumulate: int, seed: int, workers: Workers) -> None:
        if len(table) == 0:
            raise CorpusError("training needs at least one sentence pair, got none")
        self._table, self._max_tokens, self._accumulate, self._seed = table, max_tokens, accumulate, seed
        self._workers = workers
        self._epoch: tuple[int, BatchPlan] | None = None

    def update(self, position: Position) -> tuple[list[tuple[int, Batch]], Position]:
        """Return this worker's batches of the update at `position`, each with its number within the update, and the
        position of the next update."""
        chosen = []
        for number in range(self._accumulate):
            batches = self._batches(position.epoch)
            if number % self._workers.world_size == self._workers.rank:
                chosen.append((number, collate(self._table, batches[position.batch])))
            last = position.batch + 1 == len(batches)
            position = Position(position.epoch + 1, 0) if last else Position(position.epoch, position.batch + 1)
        return chosen, position

    def _batches(self, epoch: int) -> BatchPlan:
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, make_batches(self._table, self._max_tokens, self._seed, epoch)
        return self._epoch[1]

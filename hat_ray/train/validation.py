"""Validation: the label-smoothed loss on the whole validation set, each token counting the same. HAT's fitness."""

from collections.abc import Callable

import torch
from torch import nn

from hat_ray.corpus.batches import Batch, collate, make_unshuffled_batches
from hat_ray.corpus.tokens import TokenTable
from hat_ray.corpus.vocabulary import PAD
from hat_ray.model.transformer import Output
from hat_ray.train.objective import LossSums, smoothed_loss
from hat_ray.train.workers import OneWorker, Workers, sum_over_workers

Forward = Callable[[Batch], Output]
"""A batch to what its loss is computed from."""


class Validation:
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
            sums = smoothed_loss(forward(batch), batch.target_out, self._smoothing, PAD)
            totals += torch.stack([sums.loss_sum, sums.nll_sum, sums.tokens]).double()
        model.train(training)
        sum_over_workers([totals], self._workers)
        return LossSums(*totals)

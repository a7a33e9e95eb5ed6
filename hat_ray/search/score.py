"""Score an architecture: its validation loss with the weights that it inherits from the SuperTransformer.

Decision: the loss is computed with the SuperTransformer itself. Its slices are views, and extracting a model first
copies every weight for a validation set that is small beside the training set.
"""

from collections.abc import Sequence

import torch

from hat_ray.corpus.batches import Batch
from hat_ray.corpus.vocabulary import PAD
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.architecture import Architecture
from hat_ray.train.objective import LossSums, smoothed_loss


class CandidateScorer:
    """Holds a SuperTransformer and batches that are prepared once; called with an architecture it returns the loss.

    It pickles whole, so that a worker on another node needs neither the checkpoint nor the corpus.
    """

    def __init__(self, model: SuperTransformer, batches: Sequence[Batch], label_smoothing: float) -> None:
        if not batches:
            raise ValueError("scoring needs at least one validation batch, got none")
        self._model = model.eval().requires_grad_(False)
        self._batches = list(batches)
        self._label_smoothing = label_smoothing

    def to(self, device: torch.device | str) -> "CandidateScorer":
        """Move the model and the batches; returns itself."""
        self._model.to(device)
        self._batches = [batch.to(device) for batch in self._batches]
        return self

    def __call__(self, architecture: Architecture) -> float:
        """Return the label-smoothed loss in bits per target token: HAT's fitness."""
        return self.sums(architecture).loss_bits

    def sums(self, architecture: Architecture) -> LossSums:
        """Return loss and negative log-likelihood, summed over the batches' target tokens."""
        with torch.inference_mode():
            parts = [
                smoothed_loss(
                    self._model.output(batch.source, batch.target_in, architecture),
                    batch.target_out,
                    self._label_smoothing,
                    PAD,
                )
                for batch in self._batches
            ]
            totals = torch.stack([torch.stack([p.loss_sum, p.nll_sum, p.tokens]).double() for p in parts]).sum(0)
        return LossSums(*totals)

"""Score an architecture: its validation loss with the weights that it inherits from the SuperTransformer.

Decisions
- The loss is computed with the SuperTransformer itself. Its slices are views, and extracting a model first copies every
  weight for a validation set that is small beside the training set.
- Children often keep their parent's encoder: what the encoders that were used last make of the validation set may be
  kept, and is then not computed again. The loss is the same, bit for bit.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from hat_ray.corpus.batches import Batch
from hat_ray.corpus.vocabulary import PAD
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.model.transformer import Memory, Output
from hat_ray.space.architecture import MAX_CROSS_LAYERS, Architecture
from hat_ray.train.objective import LossSums, smoothed_loss


class CandidateScorer:
    """Holds a SuperTransformer and batches that are prepared once; called with an architecture it returns the loss.

    It pickles whole, so that a worker on another node needs neither the checkpoint nor the corpus.
    """

    def __init__(
        self, model: SuperTransformer, batches: Sequence[Batch], label_smoothing: float, cache_bytes: int = 0
    ) -> None:
        """`cache_bytes` bound what is kept of encoders that were used last; 0 keeps nothing."""
        if not batches:
            raise ValueError("scoring needs at least one validation batch, got none")
        self._model = model.eval().requires_grad_(False)
        self._batches = list(batches)
        self._label_smoothing, self._cache_bytes = label_smoothing, cache_bytes
        self._cache = _EncoderCache(cache_bytes)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": _EncoderCache(self._cache_bytes)}  # it would travel for nothing

    @cached_property
    def fingerprint(self) -> str:
        """What decides every loss: weights, validation set and smoothing, as one hash."""
        digest = hashlib.sha256(repr((self._label_smoothing, self._model.config)).encode())
        parts = [*self._model.weights().items()]
        for number, batch in enumerate(self._batches):
            parts += [(f"{number}.source", batch.source), (f"{number}.target", batch.target_out)]
        for name, tensor in parts:
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def to(self, device: torch.device | str) -> "CandidateScorer":
        """Move the model and the batches; returns itself."""
        self._model.to(device)
        self._batches = [batch.to(device) for batch in self._batches]
        self._cache = _EncoderCache(self._cache_bytes)
        return self

    def __call__(self, architecture: Architecture) -> float:
        """Return the label-smoothed loss in bits per target token: HAT's fitness."""
        return self.sums(architecture).loss_bits

    def sums(self, architecture: Architecture) -> LossSums:
        """Return loss and negative log-likelihood, summed over the batches' target tokens."""
        with torch.inference_mode():
            kept, made, parts = self._cache.of(architecture), list[Memory](), list[torch.Tensor]()
            for place, batch in enumerate(self._batches):
                memory = kept[place] if kept else self._model.encode(batch.source, architecture)
                hidden = self._model.decoder(batch.target_in, memory, architecture)
                output = Output(hidden, self._model.decoder.output_weight(hidden.shape[-1]))
                part = smoothed_loss(output, batch.target_out, self._label_smoothing, PAD)
                parts.append(torch.stack([part.loss_sum, part.nll_sum, part.tokens]).double())
                if not kept and self._cache_bytes:
                    made.append(Memory(memory.outputs[-MAX_CROSS_LAYERS:], memory.mask))
            if made:
                self._cache.keep(architecture, made)
            totals = torch.stack(parts).sum(0)
        return LossSums(*totals)


class _EncoderCache:
    """What the encoders that were used last made of every batch, within a number of bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._kept: OrderedDict[tuple[Any, int], list[Memory]] = OrderedDict()

    def of(self, architecture: Architecture) -> list[Memory] | None:
        key = (architecture.encoder, architecture.qkv_dim)
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, architecture: Architecture, memories: list[Memory]) -> None:
        self._kept[architecture.encoder, architecture.qkv_dim] = memories
        self._bytes += _bytes_of(memories)
        while self._bytes > self._most_bytes:
            self._bytes -= _bytes_of(self._kept.popitem(last=False)[1])


def _bytes_of(memories: Sequence[Memory]) -> int:
    distinct = {id(x): x.numel() * x.element_size() for memory in memories for x in memory.outputs}
    return sum(distinct.values())

"""Score an architecture: its validation loss with the weights that it inherits from the SuperTransformer.

Decisions
- The loss is computed with the SuperTransformer itself. Its slices are views, and extracting a model first copies every
  weight for a validation set that is small beside the training set.
- Children often keep their parent's encoder: the outputs of the encoders used last are cached, and are not computed
  again. The loss is the same, bit for bit.
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from hat_ray.corpus.batches import Batch
from hat_ray.corpus.vocabulary import PAD
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.model.transformer import Memory
from hat_ray.search.early_stopping import NO_BARS, SHARES, Bars, PartScore
from hat_ray.space.architecture import MAX_CROSS_LAYERS, Architecture
from hat_ray.train.objective import LossSums, smoothed_loss


class CandidateScorer:
    """Holds a SuperTransformer and prepared batches; a call with an architecture returns its loss.

    It pickles whole, so that a worker on another node needs neither the checkpoint nor the corpus.
    """

    def __init__(
        self,
        model: SuperTransformer,
        batches: Sequence[Batch],
        label_smoothing: float,
        cache_bytes: int = 0,
        *,
        in_parts: bool = False,
    ) -> None:
        """`cache_bytes` bounds the cache of encoder outputs; 0 keeps nothing.

        With `in_parts` the method of that name can stop at each of `SHARES`.
        """
        if not batches:
            raise ValueError("scoring needs at least one validation batch, got none")
        self._model = model.eval().requires_grad_(False)
        self._batches = list(batches)
        self._parts = divided(self._batches) if in_parts else [self._batches]
        self._label_smoothing, self._cache_bytes = label_smoothing, cache_bytes
        self._cache = _EncoderCache(cache_bytes)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": _EncoderCache(self._cache_bytes)}  # it would travel for nothing

    @cached_property
    def fingerprint(self) -> str:
        """One hash of everything that decides a loss: weights, validation set and smoothing."""
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
        self._parts = divided(self._batches) if len(self._parts) > 1 else [self._batches]
        self._cache = _EncoderCache(self._cache_bytes)
        return self

    def __call__(self, architecture: Architecture) -> float:
        """Return the label-smoothed loss in bits per target token: HAT's fitness."""
        return self.sums(architecture).loss_bits

    def sums(self, architecture: Architecture) -> LossSums:
        """Return loss and negative log-likelihood, summed over the batches' target tokens."""
        return self._sums(architecture, NO_BARS)[-1]

    def in_parts(self, architecture: Architecture, bars: Bars) -> PartScore:
        """Score part after part, and stop after the first whose loss is above its bar."""
        losses = [sums.loss_bits for sums in self._sums(architecture, bars)]
        if len(losses) <= len(SHARES) and len(self._parts) > 1:
            return PartScore(losses[-1], SHARES[len(losses) - 1], tuple(losses))
        return PartScore(losses[-1], at_shares=tuple(losses[:-1]))

    def _sums(self, architecture: Architecture, bars: Bars) -> list[LossSums]:
        """Return the sums after each part, up to the first that is above its bar."""
        found: list[LossSums] = []
        with torch.inference_mode():
            memories = self._cache.of(architecture)
            done, totals = 0, torch.zeros(3, dtype=torch.float64)
            for part, bar in zip(self._parts, [*bars, math.inf][-len(self._parts) :], strict=True):
                totals = totals + self._over(part, architecture, memories, done).cpu()
                found.append(LossSums(*totals))
                done += len(part)
                if found[-1].loss_bits > bar:
                    break
            self._cache.keep(architecture, memories)
        return found

    def _over(
        self, batches: Sequence[Batch], architecture: Architecture, memories: list[Memory], done: int
    ) -> torch.Tensor:
        """Return the sums over batches, (3,); `memories` of the batches after the first `done` are used or added."""
        sums = []
        for place, batch in enumerate(batches, done):
            known = place < len(memories)
            memory = memories[place] if known else self._model.encode(batch.source, architecture, batch.padded)
            hidden = self._model.decoder(batch.target_in, memory, architecture)
            output = self._model.decoder.output(hidden)
            part = smoothed_loss(output, batch.target_out, self._label_smoothing, PAD, tokens=batch.num_tokens)
            sums.append(torch.stack([part.loss_sum, part.nll_sum, part.tokens]).double())
            if self._cache_bytes and not known:
                memories.append(Memory(memory.outputs[-MAX_CROSS_LAYERS:], memory.mask))
        return torch.stack(sums).sum(0)


def divided(batches: Sequence[Batch]) -> list[list[Batch]]:
    """Divide batches into four parts, which end at `SHARES` of the sentences: of every length each has its share."""
    parts: list[list[Batch]] = [[], [], [], []]
    first = 0
    for batch in batches:
        of_row = torch.tensor([_PART_OF_ROW[(first + row) % len(_PART_OF_ROW)] for row in range(len(batch.source))])
        first += len(batch.source)
        for place, part in enumerate(parts):
            rows = torch.nonzero(of_row == place)[:, 0].to(batch.source.device)
            if len(rows):
                part.append(_rows(batch, rows))
    if not all(parts):
        raise ValueError(f"scoring in parts needs at least {len(_PART_OF_ROW)} validation sentences, got {first}")
    return parts


_PART_OF_ROW = (0, 3, 2, 3, 1, 3, 2, 3)
"""The part of each of eight neighbouring rows."""


def _rows(batch: Batch, rows: torch.Tensor) -> Batch:
    """Return some rows without the columns that are padding in all of them."""
    source, target = batch.source[rows], batch.target_out[rows]
    first = int((source != PAD).any(0).long().argmax())
    length = int((target != PAD).sum(1).max())
    target_in = batch.target_in[rows][:, :length]
    source, padded = source[:, first:], bool((source[:, first:] == PAD).any())
    return Batch(source, target_in, target[:, :length], num_tokens=int((target != PAD).sum()), padded=padded)


class _EncoderCache:
    """Outputs of the encoders used last for every batch, within a number of bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._kept: OrderedDict[tuple[Any, int], list[Memory]] = OrderedDict()

    def of(self, architecture: Architecture) -> list[Memory]:
        """Return the known outputs of the first batches, a list to extend and hand to `keep`."""
        key = (architecture.encoder, architecture.qkv_dim)
        if key in self._kept:
            self._kept.move_to_end(key)
        return list(self._kept.get(key, []))

    def keep(self, architecture: Architecture, memories: list[Memory]) -> None:
        key = (architecture.encoder, architecture.qkv_dim)
        self._bytes += _bytes_of(memories) - _bytes_of(self._kept.pop(key, []))
        self._kept[key] = memories
        while self._bytes > self._most_bytes:
            self._bytes -= _bytes_of(self._kept.popitem(last=False)[1])


def _bytes_of(memories: Sequence[Memory]) -> int:
    distinct = {id(x): x.numel() * x.element_size() for memory in memories for x in memory.outputs}
    return sum(distinct.values())

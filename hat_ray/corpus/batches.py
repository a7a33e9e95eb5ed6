"""Length-bucketed batches by token budget.

Legend: B sentences, S source tokens, T target tokens.

Decisions
- The budget has fairseq's meaning: rows times the longest side in the batch.
- A plan costs 4 bytes a pair: row numbers in one array, and where each batch begins and ends in it.
- Pairs are sorted by longer side (ties in an order drawn anew each epoch), cut greedily, and the batches shuffled.
- All ranks take the same number of batches. Where the count does not divide, the batches with most rows are halved
  until it does: no pair is lost and none is seen twice. Only where every batch is a single pair do empty ones fill up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hat_ray.core.determinism import stream_seed
from hat_ray.corpus.tokens import Sentences, SentenceStore, TokenTable
from hat_ray.corpus.vocabulary import EOS, PAD
from hat_ray.errors import CorpusError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Pairs as padded tensors of int64."""

    source: Tensor
    """(B, S), left-padded with PAD, each row ends in EOS."""
    target_in: Tensor
    """(B, T), right-padded; HAT: begins with EOS instead of BOS."""
    target_out: Tensor
    """(B, T), right-padded, ends in EOS."""
    num_tokens: int
    """Target tokens that are not PAD."""
    padded: bool | None = None
    """Whether some source has padding; None: not known, a model looks for itself."""

    def to(self, device: torch.device | str) -> "Batch":
        """Return the same on a device. The copy to a GPU is queued behind its work: nothing waits."""
        source, target_in, target_out = (
            _moved(side, torch.device(device)) for side in (self.source, self.target_in, self.target_out)
        )
        return Batch(source, target_in, target_out, num_tokens=self.num_tokens, padded=self.padded)


def _moved(tokens: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and tokens.device.type == "cpu":
        return tokens.pin_memory().to(device, non_blocking=True)
    return tokens.to(device)


class BatchPlan(Sequence[Indices]):
    """BatchPlan of row numbers, each made when it is asked for."""

    def __init__(self, order: NDArray[np.int32], spans: Indices) -> None:
        self._order, self._spans = order, spans

    def __len__(self) -> int:
        return len(self._spans)

    @overload
    def __getitem__(self, index: int) -> Indices: ...

    @overload
    def __getitem__(self, index: slice) -> "BatchPlan": ...

    def __getitem__(self, index: int | slice) -> "Indices | BatchPlan":
        if isinstance(index, slice):
            return BatchPlan(self._order, self._spans[index])
        first, last = self._spans[index]
        return self._order[first:last].astype(np.int64)


def make_batches(
    table: TokenTable, max_tokens: int, seed: int, epoch: int, world_size: int = 1, rank: int = 0
) -> BatchPlan:
    """Return one rank's batches of an epoch, as arrays of row numbers.

    Over all ranks every pair occurs exactly once, and every rank gets equally many batches. A pair longer than
    `max_tokens` stands alone in its batch.
    """
    _check(table, max_tokens, world_size, rank)
    stream = np.random.default_rng(stream_seed(seed, "batches", epoch))
    ties = stream.permutation(len(table)).astype(np.int32)
    order, spans = _cut(table, ties, max_tokens, world_size)
    chosen = stream.permutation(len(spans))[rank::world_size]
    return BatchPlan(order, spans[chosen])


def make_unshuffled_batches(table: TokenTable, max_tokens: int, world_size: int = 1, rank: int = 0) -> BatchPlan:
    """Return one rank's batches from short to long, always the same: for validation and translation."""
    _check(table, max_tokens, world_size, rank)
    order, spans = _cut(table, np.arange(len(table), dtype=np.int32), max_tokens, world_size)
    return BatchPlan(order, spans[rank::world_size])


def collate(table: TokenTable, indices: Indices) -> Batch:
    """Pad the chosen pairs into tensors."""
    source = _pad(table.source, indices, left=True)
    target_out = _pad(table.target, indices, left=False)
    lengths = table.target.lengths_of(indices)
    target_in = target_out.roll(1, dims=1)
    # What rolls in front is the longest rows' EOS or other rows' PAD; every other row's own EOS moves past its end.
    target_in[:, 0] = EOS
    target_in[torch.from_numpy(np.arange(target_in.shape[1]) >= lengths[:, None])] = PAD
    padded = int(table.source.lengths_of(indices).sum()) < source.numel()
    return Batch(source, target_in, target_out, num_tokens=int(lengths.sum()), padded=padded)


def pad_sources(sentences: Sequence[Sequence[int]]) -> Tensor:
    """Return source sentences (each ending in EOS) as one left-padded tensor (B, S)."""
    table = Sentences.of(sentences)
    return _pad(table, np.arange(len(table)), left=True)


def _pad(sentences: SentenceStore, indices: Indices, *, left: bool) -> Tensor:
    """Return (B, longest) with PAD on the given side."""
    lengths = sentences.lengths_of(indices)
    longest = int(lengths.max(initial=1))
    places = np.arange(longest)
    filled = places >= longest - lengths[:, None] if left else places < lengths[:, None]
    rows = np.full((len(indices), longest), PAD, dtype=np.int64)
    rows[filled] = sentences.gather(indices)
    return torch.from_numpy(rows)


def _cut(
    table: TokenTable, ties: NDArray[np.int32], max_tokens: int, world_size: int
) -> tuple[NDArray[np.int32], Indices]:
    """Sort the pairs by their longer side, and cut them into batches within the budget.

    Returns the sorted row numbers, and each batch's first and last place among them (batches, 2), last exclusive.
    """
    longest = table.longest_sides
    if longest.max(initial=0) < 1 << 16:
        longest = longest.astype(np.uint16)  # numpy sorts 16 bits in linear time
    order = ties[np.argsort(longest[ties], kind="stable")]
    bounds = _greedy_bounds(longest[order], max_tokens)
    return order, _even_out(np.stack([bounds[:-1], bounds[1:]], axis=1), world_size)


def _greedy_bounds(longest: NDArray[np.int32], max_tokens: int) -> Indices:
    """Return the beginnings of batches, and the end: each as full as the budget allows. `longest` is sorted.

    Within a run of equal lengths all full batches have equally many rows, so the work grows with the number of
    distinct lengths and not with that of batches.
    """
    run_ends = np.append(np.flatnonzero(np.diff(longest)) + 1, len(longest))
    pieces, first = [np.zeros(1, dtype=np.int64)], 0
    for end in run_ends.tolist():
        while first < end:
            rows = max(max_tokens // int(longest[first]), 1)
            if full := (end - first) // rows:
                pieces.append(first + rows * np.arange(1, full + 1))
                first += rows * full
            else:
                first = max(_last_fitting(longest, first, max_tokens), first + 1)
                pieces.append(np.array([first]))
    return np.concatenate(pieces)


def _last_fitting(longest: NDArray[np.int32], first: int, max_tokens: int) -> int:
    """Return the largest `last` for which `first:last` fits; rows times longest side grows with it, so bisect."""
    low, high = first, min(len(longest), first + max_tokens)
    while low < high:
        middle = (low + high + 1) // 2
        if (middle - first) * int(longest[middle - 1]) <= max_tokens:
            low = middle
        else:
            high = middle - 1
    return low


def _even_out(spans: Indices, world_size: int) -> Indices:
    """Halve the batches with most rows until their number divides by `world_size`."""
    for _ in range(-len(spans) % world_size):
        rows = spans[:, 1] - spans[:, 0]
        largest = int(rows.argmax())
        first, last = spans[largest].tolist()
        if last - first > 1:
            middle = first + (last - first) // 2
            halves = np.array([[first, middle], [middle, last]])
            spans = np.concatenate([spans[:largest], halves, spans[largest + 1 :]])
        else:
            spans = np.concatenate([spans, np.zeros((1, 2), dtype=np.int64)])
    return spans


def _check(table: TokenTable, max_tokens: int, world_size: int, rank: int) -> None:
    if max_tokens < 1:
        raise CorpusError(f"a batch holds at least one token, got max_tokens {max_tokens}: raise it")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must lie in 0..{world_size - 1}, got {rank}")

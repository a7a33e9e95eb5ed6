"""Length-bucketed batches by token budget.

Legend: B sentences, S source tokens, T target tokens.

Decisions
- The budget has fairseq's meaning: rows times the longest side in the batch.
- Pairs are sorted by longer side (ties in an order drawn anew each epoch), cut greedily, and the batches shuffled.
- All ranks take the same number of batches. Where the count does not divide, the batches with most rows are halved
  until it does: no pair is lost and none is seen twice. Only where every batch is a single pair do empty ones fill up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hat_ray.corpus.tokens import Sentences, TokenTable
from hat_ray.corpus.vocabulary import EOS, PAD
from hat_ray.errors import CorpusError
from hat_ray.seeds import stream_seed

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

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(
            self.source.to(device), self.target_in.to(device), self.target_out.to(device), num_tokens=self.num_tokens
        )


def make_batches(
    table: TokenTable, max_tokens: int, seed: int, epoch: int, world_size: int = 1, rank: int = 0
) -> list[Indices]:
    """Return one rank's batches of an epoch, as arrays of row numbers.

    Over all ranks every pair occurs exactly once, and every rank gets equally many batches. A pair longer than
    `max_tokens` stands alone in its batch.
    """
    _check(table, max_tokens, world_size, rank)
    stream = np.random.default_rng(stream_seed(seed, "batches", epoch))
    ties = stream.permutation(len(table))
    batches = _even_out(_cut(table, ties, max_tokens), world_size)
    order = stream.permutation(len(batches))
    return [batches[index] for index in order[rank::world_size]]


def make_unshuffled_batches(table: TokenTable, max_tokens: int, world_size: int = 1, rank: int = 0) -> list[Indices]:
    """Return one rank's batches from short to long, always the same: for validation and translation."""
    _check(table, max_tokens, world_size, rank)
    batches = _even_out(_cut(table, np.arange(len(table)), max_tokens), world_size)
    return batches[rank::world_size]


def collate(table: TokenTable, indices: Indices) -> Batch:
    """Pad the chosen pairs into tensors."""
    source = _pad(table.source, indices, left=True)
    target_out = _pad(table.target, indices, left=False)
    lengths = torch.from_numpy(table.target.lengths[indices])
    target_in = target_out.roll(1, dims=1)
    # What rolls in front is the longest rows' EOS or other rows' PAD; every other row's own EOS moves past its end.
    target_in[:, 0] = EOS
    target_in[torch.arange(target_in.shape[1]) >= lengths[:, None]] = PAD
    return Batch(source, target_in, target_out, num_tokens=int(lengths.sum()))


def pad_sources(sentences: Sequence[Sequence[int]]) -> Tensor:
    """Return source sentences (each ending in EOS) as one left-padded tensor (B, S)."""
    table = Sentences.of(sentences)
    return _pad(table, np.arange(len(table)), left=True)


def _pad(sentences: Sentences, indices: Indices, *, left: bool) -> Tensor:
    """Return (B, longest) with PAD on the given side."""
    lengths = sentences.lengths[indices]
    longest = int(lengths.max(initial=1))
    places = np.arange(longest)
    filled = places >= longest - lengths[:, None] if left else places < lengths[:, None]
    rows = np.full((len(indices), longest), PAD, dtype=np.int64)
    rows[filled] = sentences.gather(indices)
    return torch.from_numpy(rows)


def _cut(table: TokenTable, ties: Indices, max_tokens: int) -> list[Indices]:
    """Cut the pairs, sorted by their longer side, into batches within the budget."""
    order = ties[np.argsort(table.longest_sides[ties], kind="stable")]
    longest = table.longest_sides[order]
    batches, first = [], 0
    while first < len(order):
        last = max(_last_fitting(longest, first, max_tokens), first + 1)
        batches.append(order[first:last])
        first = last
    return batches


def _last_fitting(longest: Indices, first: int, max_tokens: int) -> int:
    """Return the largest `last` for which `first:last` fits; rows times longest side grows with it, so bisect."""
    low, high = first, min(len(longest), first + max_tokens)
    while low < high:
        middle = (low + high + 1) // 2
        if (middle - first) * int(longest[middle - 1]) <= max_tokens:
            low = middle
        else:
            high = middle - 1
    return low


def _even_out(batches: list[Indices], world_size: int) -> list[Indices]:
    """Halve the batches with most rows until their number divides by `world_size`."""
    batches = list(batches)
    for _ in range(-len(batches) % world_size):
        largest = max(range(len(batches)), key=lambda index: len(batches[index]))
        middle = len(batches[largest]) // 2
        if middle:
            batches[largest : largest + 1] = [batches[largest][:middle], batches[largest][middle:]]
        else:
            batches.append(np.empty(0, dtype=np.int64))
    return batches


def _check(table: TokenTable, max_tokens: int, world_size: int, rank: int) -> None:
    if max_tokens < 1:
        raise CorpusError(f"a batch holds at least one token, got max_tokens {max_tokens}: raise it")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must lie in 0..{world_size - 1}, got {rank}")

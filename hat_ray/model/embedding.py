"""Token embeddings and sinusoidal positions, elastic in width.

B batch, T length, D width, V vocabulary.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hat_ray.errors import HatRayError
from hat_ray.model.config import Sharing
from hat_ray.model.layers import SliceRule, front, slice_rule

PAD = 1
"""fairseq's padding index; the corpus room uses the same."""


class TokenEmbedding(nn.Module):
    """A matrix (V, D) of which a slice of columns serves narrower architectures."""

    def __init__(self, vocab_size: int, dim: int, cut: SliceRule = front) -> None:
        super().__init__()
        self.cut = cut
        self.weight = nn.Parameter(torch.empty(vocab_size, dim))

    def forward(self, tokens: Tensor, dim: int) -> Tensor:
        """(B, T) -> (B, T, dim), scaled by sqrt(dim). HAT: the scale follows the sampled width."""
        return F.embedding(tokens, self.columns(dim), PAD) * math.sqrt(dim)

    def columns(self, dim: int) -> Tensor:
        """Return the matrix (V, dim) of a narrower architecture, a view."""
        return self.cut(self.weight, self.weight.shape[0], dim)


class Positions(nn.Module):
    """Sinusoids of the super width, cut like the weights that they are added to.

    HAT: the table is computed at the super width, [sines | cosines], so a narrower architecture sees the super table's
    first columns; an extracted model keeps them. Positions start at PAD + 1; padding gets a zero vector.

    With `sharing=importance`, `order` (super or own width) holds the column of the table that each channel reads:
    channels are sorted during training, and their positions go with them.
    """

    table: Tensor
    order: nn.Parameter | None

    def __init__(self, super_dim: int, max_positions: int, dim: int, sharing: Sharing = "front") -> None:
        super().__init__()
        self.max_positions, self.cut = max_positions, slice_rule(sharing)
        self.register_buffer("table", sinusoids(max_positions + PAD + 1, super_dim), persistent=False)
        # a parameter without gradient: so it goes wherever the weights go
        order = nn.Parameter(torch.arange(dim), requires_grad=False) if sharing == "importance" else None
        self.register_parameter("order", order)

    def forward(self, tokens: Tensor, dim: int) -> Tensor:
        """(B, T) -> (B, T, dim)."""
        if tokens.shape[1] > self.max_positions:
            raise HatRayError(
                f"a sentence may have at most {self.max_positions} tokens, got {tokens.shape[1]}: "
                "raise model.max_positions or cut the sentence"
            )
        not_pad = tokens.ne(PAD).long()
        return F.embedding(not_pad.cumsum(1) * not_pad + PAD, self.columns(dim))

    def at(self, position: int, dim: int) -> Tensor:
        """Return the vector (dim,) of the token at `position`, counted from 0 without padding."""
        if position >= self.max_positions:
            raise HatRayError(f"a sentence may have at most {self.max_positions} tokens: raise model.max_positions")
        row = self.table[position + PAD + 1]
        return self.cut(row, dim) if self.order is None else row[self.order[:dim]]

    def columns(self, dim: int) -> Tensor:
        """Return the table (positions, dim) that a narrower architecture reads."""
        if self.order is not None:
            return self.table[:, self.order[:dim]]
        return self.cut(self.table, self.table.shape[0], dim)


def sinusoids(rows: int, dim: int) -> Tensor:
    """Return fairseq's table (rows, dim): sines in the first half, cosines in the second, zeros in row PAD."""
    half = dim // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float) * -(math.log(10000) / (half - 1)))
    angles = torch.arange(rows, dtype=torch.float)[:, None] * frequencies[None]
    table = torch.cat([angles.sin(), angles.cos()], dim=1)
    table = F.pad(table, (0, dim % 2))
    table[PAD] = 0
    return table

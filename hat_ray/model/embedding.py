"""Token embeddings and positions, elastic in width.

B batch, T length, D width, V vocabulary.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hat_ray.errors import HatRayError
from hat_ray.model.config import PositionKind, Sharing
from hat_ray.model.layers import SliceRule, front, slice_rule

PAD = 1
"""fairseq's padding index; the corpus room uses the same."""


class TokenEmbedding(nn.Module):
    """A matrix (V, D) of which a slice of columns serves narrower architectures."""

    def __init__(self, vocab_size: int, dim: int, cut: SliceRule = front, scaled: bool = True) -> None:
        super().__init__()
        self.cut, self.scaled = cut, scaled
        self.weight = nn.Parameter(torch.empty(vocab_size, dim))

    def forward(self, tokens: Tensor, dim: int) -> Tensor:
        """(B, T) -> (B, T, dim), scaled."""
        return F.embedding(tokens, self.columns(dim), PAD) * self.scale(dim)

    def scale(self, dim: int) -> float:
        """Return the factor of embeddings. HAT: the scale follows the sampled width."""
        return math.sqrt(dim) if self.scaled else 1.0

    def columns(self, dim: int) -> Tensor:
        """Return the matrix (V, dim) of a narrower architecture, a view."""
        return self.cut(self.weight, self.weight.shape[0], dim)


class Positions(nn.Module):
    """The vectors of positions, cut like the weights that they are added to: row `position + PAD + 1` of a table.

    HAT: sinusoids are computed at the super width, [sines | cosines], so a narrower architecture sees the super table's
    first columns; an extracted model keeps them. Padding gets a zero vector.

    With `sharing=importance`, `order` (super or own width) holds the column of the table that each channel reads:
    channels are sorted during training, and their positions go with them. Learned positions are sorted themselves.
    """

    table: Tensor
    order: nn.Parameter | None
    weight: nn.Parameter | None
    """Learned positions, (rows, width); fairseq's name."""

    def __init__(
        self, super_dim: int, max_positions: int, dim: int, sharing: Sharing = "front", kind: PositionKind = "fairseq"
    ) -> None:
        super().__init__()
        self.max_positions, self.cut = max_positions, slice_rule(sharing)
        rows, learned = max_positions + PAD + 1, kind == "learned"
        if not learned:
            self.register_buffer("table", position_table(kind, rows, super_dim), persistent=False)
        self.register_parameter("weight", nn.Parameter(torch.empty(rows, dim)) if learned else None)
        # a parameter without gradient: so it goes wherever the weights go
        is_sorted = sharing == "importance" and not learned
        order = nn.Parameter(torch.arange(dim), requires_grad=False) if is_sorted else None
        self.register_parameter("order", order)

    def forward(self, tokens: Tensor, dim: int) -> Tensor:
        """(B, T) -> (B, T, dim)."""
        if tokens.shape[1] > self.max_positions:
            raise HatRayError(
                f"a sentence may have at most {self.max_positions} tokens, got {tokens.shape[1]}: "
                "raise model.max_positions or cut the sentence"
            )
        not_pad = tokens.ne(PAD).long()
        # a learned row of padding stays zero: it gets no gradient
        padding = None if self.weight is None else PAD
        return F.embedding(not_pad.cumsum(1) * not_pad + PAD, self.columns(dim), padding)

    def at(self, position: int, dim: int) -> Tensor:
        """Return the vector (dim,) of the token at `position`, counted from 0 without padding."""
        if position >= self.max_positions:
            raise HatRayError(f"a sentence may have at most {self.max_positions} tokens: raise model.max_positions")
        row = (self.table if self.weight is None else self.weight)[position + PAD + 1]
        return self.cut(row, dim) if self.order is None else row[self.order[:dim]]

    def columns(self, dim: int) -> Tensor:
        """Return the table (positions, dim) that a narrower architecture reads."""
        table = self.table if self.weight is None else self.weight
        if self.order is not None:
            return table[:, self.order[:dim]]
        return self.cut(table, table.shape[0], dim)


def position_table(kind: PositionKind, rows: int, dim: int) -> Tensor:
    """Return a fixed table (rows, dim): sines in the first half, cosines in the second, zeros in row PAD."""
    if kind == "none":
        return torch.zeros(rows, dim)
    half = dim // 2
    first, steps = (0, half - 1) if kind == "fairseq" else (PAD + 1, half if kind == "huggingface" else half - 1)
    precision = torch.double if kind == "huggingface" else torch.float  # as the originals compute
    frequencies = torch.exp(torch.arange(half, dtype=precision) * -(math.log(10000) / steps))
    angles = (torch.arange(rows, dtype=precision) - first)[:, None] * frequencies[None]
    table = torch.cat([angles.sin(), angles.cos()], dim=1).float()
    table = F.pad(table, (0, dim % 2))
    table[PAD] = 0
    return table

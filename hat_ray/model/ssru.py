"""The simpler simple recurrent unit (SSRU): what a decoder layer may have in the place of self-attention.

c_t = f_t * c_{t-1} + (1 - f_t) * (W x_t), f_t = sigmoid(W_f x_t + b_f); the output is max(c_t, 0), and c_{-1} is 0.
Kim et al. 2019, "From Research to Production and Back: Ludicrously Fast Neural Machine Translation".

B batch, T length, D width, R rows.

Decisions
- Both matrices are D x D, so that rows and columns are cut alike: the state of a narrow network is as wide as the
  network, whatever the SuperTransformer's width.
- In training all steps are computed at once, in log2(T) passes over the whole sentence (a parallel prefix scan): the
  gates lie between 0 and 1, so no product overflows.
- The state is fp32 at least, also where the layers compute in bf16: it sums up a whole sentence.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hat_ray.model.layers import SliceRule, front


class ElasticSsru(nn.Module):
    """An SSRU of which a slice of rows and columns serves smaller widths."""

    def __init__(self, dim: int, cut: SliceRule = front) -> None:
        super().__init__()
        self.cut = cut
        self.weight = nn.Parameter(torch.empty(dim, dim))
        self.forget_weight = nn.Parameter(torch.empty(dim, dim))
        self.forget_bias = nn.Parameter(torch.empty(dim))

    def gated(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) -> the gate f and what it lets in, (1 - f) * W x, both (..., D) and fp32 at least."""
        dim = x.shape[-1]
        new = F.linear(x, self.cut(self.weight, dim, dim))
        forget = F.linear(x, self.cut(self.forget_weight, dim, dim), self.cut(self.forget_bias, dim))
        exact = state_dtype(x.dtype)
        gate = torch.sigmoid(forget.to(exact))
        return gate, (1 - gate) * new.to(exact)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D), all steps at once."""
        return F.relu(prefix_scan(*self.gated(x))).to(x.dtype)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(R, D), state (R, D) -> output (R, D) and the next state (R, D)."""
        gate, new = self.gated(x)
        state = torch.addcmul(new, gate, state)
        return F.relu(state).to(x.dtype), state


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of a state beside layers of a dtype."""
    return torch.promote_types(dtype, torch.float32)


def prefix_scan(gate: Tensor, new: Tensor) -> Tensor:
    """(B, T, D), (B, T, D) -> c (B, T, D) with c_t = gate_t * c_{t-1} + new_t and c_{-1} = 0.

    After the pass of `reach` each place holds the sum over the last 2 * reach places before it, and their gates'
    product.
    """
    reach = 1
    while reach < new.shape[1]:
        later = torch.addcmul(new[:, reach:], gate[:, reach:], new[:, :-reach])
        new = torch.cat([new[:, :reach], later], dim=1)
        gate = torch.cat([gate[:, :reach], gate[:, reach:] * gate[:, :-reach]], dim=1)
        reach *= 2
    return new

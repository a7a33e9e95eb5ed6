"""Elastic layers: the rigid layer, and a slice of its weights chosen by the shapes that it is given.

B batch, T query length, S memory length, D width, H heads, K head width, Q = H*K query-key-value width.

Decisions
- The size of a slice comes from the input and from arguments of `forward`; no layer remembers a sampled size. Which
  slice it is, is fixed for a model (`slicing.py`).
- Weights carry fairseq's names, so that a HAT checkpoint's tensors load one to one.

Which part of a shared weight serves a smaller size: the one rule that all elastic layers follow.

Decisions
- A slice is a view that starts at the front of each dimension (HAT, section 3.1) or in its middle.
- A slice of the full size is the weight itself: a SubTransformer made of elastic layers pays nothing for elasticity.
- Slices nest: the slice of a slice is the slice of the whole. In the middle this needs sizes that differ by even
  numbers, which widths and hidden widths do.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hat_ray.model.config import Activation, Sharing


class SliceRule(Protocol):
    """A rule that cuts a weight to given sizes."""

    def __call__(self, weight: Tensor, *sizes: int) -> Tensor: ...


def front(weight: Tensor, *sizes: int) -> Tensor:
    """Return the front slice of the given sizes, a view; the weight itself when nothing is cut."""
    if weight.shape == sizes:
        return weight
    for dim, size in enumerate(sizes):
        weight = weight.narrow(dim, 0, size)
    return weight


def middle(weight: Tensor, *sizes: int) -> Tensor:
    """Return the middle slice of the given sizes, a view; the weight itself when nothing is cut."""
    if weight.shape == sizes:
        return weight
    for dim, size in enumerate(sizes):
        weight = weight.narrow(dim, (weight.shape[dim] - size) // 2, size)
    return weight


def slice_rule(sharing: Sharing) -> SliceRule:
    """Return the rule of a policy; `importance` sorts the channels once and then takes the front."""
    return middle if sharing == "middle" else front


def gelu_sigmoid(x: Tensor) -> Tensor:
    """Approximate GELU by x * sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


def gelu_tanh(x: Tensor) -> Tensor:
    """Approximate GELU by the hyperbolic tangent."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "gelu_sigmoid": gelu_sigmoid,
    "swish": F.silu,
}


class ElasticLinear(nn.Module):
    """A linear layer of which a slice of rows and columns serves smaller sizes."""

    def __init__(self, in_features: int, out_features: int, cut: SliceRule = front) -> None:
        super().__init__()
        self.cut = cut
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))

    def forward(self, x: Tensor, out_features: int) -> Tensor:
        """(..., in) -> (..., out_features); `in` may be less than the layer was built for."""
        return F.linear(x, self.cut(self.weight, out_features, x.shape[-1]), self.cut(self.bias, out_features))


class ElasticLayerNorm(nn.Module):
    """Layer normalisation over the width that the input has."""

    def __init__(self, dim: int, cut: SliceRule = front, eps: float = 1e-5) -> None:
        super().__init__()
        self.cut, self.eps = cut, eps
        self.weight = nn.Parameter(torch.empty(dim))
        self.bias = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        dim = x.shape[-1]
        return F.layer_norm(x, (dim,), self.cut(self.weight, dim), self.cut(self.bias, dim), self.eps)


class ElasticAttention(nn.Module):
    """Multi-head attention with a fixed query-key-value width Q and an elastic input width and number of heads.

    HAT: fewer heads are wider heads (K = Q / H, contiguous chunks), so heads cost nothing. Only the input columns of
    the projections are sliced. Where queries and memory have one width, the three projections are one matrix.
    """

    def __init__(self, query_dim: int, memory_dim: int, qkv_dim: int, cut: SliceRule = front) -> None:
        super().__init__()
        self.qkv_dim, self.cut = qkv_dim, cut
        self.fused = query_dim == memory_dim
        if self.fused:
            self.in_proj_weight = nn.Parameter(torch.empty(3 * qkv_dim, query_dim))
        else:
            self.q_proj_weight = nn.Parameter(torch.empty(qkv_dim, query_dim))
            self.k_proj_weight = nn.Parameter(torch.empty(qkv_dim, memory_dim))
            self.v_proj_weight = nn.Parameter(torch.empty(qkv_dim, memory_dim))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * qkv_dim))
        self.out_proj = ElasticLinear(qkv_dim, query_dim, cut)

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., D) -> three of (..., Q), for self-attention."""
        projected = F.linear(x, self.cut(self.in_proj_weight, 3 * self.qkv_dim, x.shape[-1]), self.in_proj_bias)
        q, k, v = projected.chunk(3, dim=-1)
        return q, k, v

    def query(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., Q)."""
        weight = self.in_proj_weight.narrow(0, 0, self.qkv_dim) if self.fused else self.q_proj_weight
        return F.linear(x, self.cut(weight, self.qkv_dim, x.shape[-1]), self.in_proj_bias[: self.qkv_dim])

    def query_weights(self) -> tuple[Tensor, Tensor]:
        """Return the whole weight (Q, D) and bias (Q,) of the query projection."""
        weight = self.in_proj_weight[: self.qkv_dim] if self.fused else self.q_proj_weight
        return weight, self.in_proj_bias[: self.qkv_dim]

    def key_value_weights(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the whole weights (Q, D) of the key and the value projection, and their biases (Q,)."""
        _, *biases = self.in_proj_bias.chunk(3)
        weights = self.in_proj_weight.chunk(3)[1:] if self.fused else (self.k_proj_weight, self.v_proj_weight)
        return tuple(weights), tuple(biases)

    def key_value(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) -> two of (..., Q)."""
        qkv, dim = self.qkv_dim, memory.shape[-1]
        if self.fused:
            weight = self.cut(self.in_proj_weight.narrow(0, qkv, 2 * qkv), 2 * qkv, dim)
            k, v = F.linear(memory, weight, self.in_proj_bias[qkv:]).chunk(2, dim=-1)
            return k, v
        k = F.linear(memory, self.cut(self.k_proj_weight, qkv, dim), self.in_proj_bias[qkv : 2 * qkv])
        v = F.linear(memory, self.cut(self.v_proj_weight, qkv, dim), self.in_proj_bias[2 * qkv :])
        return k, v


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, H*K) -> (B, H, T, K)."""
    batch, length, _ = x.shape
    return x.view(batch, length, heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, K) -> (B, T, H*K)."""
    return x.transpose(1, 2).flatten(2)


class ElasticFeedForward(nn.Module):
    """Two linear layers with an activation between. It adds its weights to its owner's names, as fairseq has them."""

    def __init__(self, dim: int, hidden_dim: int, cut: SliceRule = front, activation: Activation = "relu") -> None:
        super().__init__()
        self.activate = ACTIVATIONS[activation]
        self.fc1 = ElasticLinear(dim, hidden_dim, cut)
        self.fc2 = ElasticLinear(hidden_dim, dim, cut)

    def transform(self, x: Tensor, hidden_dim: int, dropout: float, training: bool) -> Tensor:
        """(..., D) -> (..., D) through `hidden_dim` units."""
        hidden = F.dropout(self.activate(self.fc1(x, hidden_dim)), dropout, training)
        return self.fc2(hidden, x.shape[-1])  # type: ignore[no-any-return]

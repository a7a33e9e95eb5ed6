"""One encoder layer and one decoder layer, elastic in width, hidden width, heads and reach.

B batch, T target length, S source length, D width, H heads, K head width.
"""

from collections.abc import Collection

import torch.nn.functional as F
from torch import Tensor

from hat_ray.model.config import ModelConfig
from hat_ray.model.layers import (
    ElasticAttention,
    ElasticFeedForward,
    ElasticLayerNorm,
    merge_heads,
    slice_rule,
    split_heads,
)
from hat_ray.model.ssru import ElasticSsru
from hat_ray.space.dimension import Choice


class ElasticBlock(ElasticFeedForward):
    """Common parts of encoder and decoder layers: self-attention, feed-forward network, residuals and norms.

    A decoder layer may have an SSRU in the place of self-attention; a SuperTransformer's may have both.
    """

    def __init__(
        self, dim: int, ffn_dim: int, qkv_dim: int, config: ModelConfig, cells: Collection[Choice] = ("attention",)
    ) -> None:
        cut = slice_rule(config.sharing)
        super().__init__(dim, ffn_dim, cut, config.activation)
        self.config = config
        if "attention" in cells:
            self.self_attn = ElasticAttention(dim, dim, qkv_dim, cut)
        if "ssru" in cells:
            self.ssru = ElasticSsru(dim, cut)
        self.self_attn_layer_norm = ElasticLayerNorm(dim, cut, config.layer_norm_eps)
        self.final_layer_norm = ElasticLayerNorm(dim, cut, config.layer_norm_eps)

    def before(self, norm: ElasticLayerNorm, x: Tensor) -> Tensor:
        """Pre-norm: normalise what goes into a sub-layer."""
        return norm(x) if self.config.normalize_before else x

    def after(self, norm: ElasticLayerNorm, x: Tensor) -> Tensor:
        """Post-norm: normalise the sum of residual and sub-layer."""
        return x if self.config.normalize_before else norm(x)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """(B, H, T, K), two of (B, H, S, K) -> (B, T, H*K); `mask` is true where a key may be seen."""
        dropout = self.config.attention_dropout if self.training else 0.0
        return merge_heads(F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=causal))

    def feed_forward(self, x: Tensor, ffn_dim: int, width_ratio: float) -> Tensor:
        """(..., D) -> (..., D) with residual and norm. HAT: dropout shrinks with sampled width / super width."""
        config = self.config
        y = self.before(self.final_layer_norm, x)
        y = self.transform(y, ffn_dim, config.activation_dropout * width_ratio, self.training)
        return self.after(self.final_layer_norm, x + F.dropout(y, config.dropout * width_ratio, self.training))


class EncoderLayer(ElasticBlock):
    """Self-attention over the source, then the feed-forward network."""

    def forward(self, x: Tensor, mask: Tensor | None, ffn_dim: int, heads: int, width_ratio: float) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        q, k, v = self.self_attn.query_key_value(self.before(self.self_attn_layer_norm, x))
        y = self.attend(split_heads(q, heads), split_heads(k, heads), split_heads(v, heads), mask)
        y = self.self_attn.out_proj(y, x.shape[-1])
        # HAT: the dropout of this one residual does not shrink with the width
        x = self.after(self.self_attn_layer_norm, x + F.dropout(y, self.config.dropout, self.training))
        return self.feed_forward(x, ffn_dim, width_ratio)


class DecoderLayer(ElasticBlock):
    """Causal self-attention or an SSRU, attention to encoder layers' outputs, then the feed-forward network."""

    def __init__(
        self,
        dim: int,
        memory_dim: int,
        ffn_dim: int,
        qkv_dim: int,
        config: ModelConfig,
        cells: Collection[Choice] = ("attention",),
    ) -> None:
        super().__init__(dim, ffn_dim, qkv_dim, config, cells)
        cut = slice_rule(config.sharing)
        self.encoder_attn = ElasticAttention(dim, memory_dim, qkv_dim, cut)
        self.encoder_attn_layer_norm = ElasticLayerNorm(dim, cut, config.layer_norm_eps)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        memory_mask: Tensor | None,
        ffn_dim: int,
        self_heads: int,
        cross_heads: int,
        width_ratio: float,
        cell: Choice = "attention",
    ) -> Tensor:
        """(B, T, D), (B, S * reach, memory width) -> (B, T, D), teacher-forced."""
        y = self.before(self.self_attn_layer_norm, x)
        if cell == "ssru":
            x = self.added(self.self_attn_layer_norm, x, self.ssru(y), width_ratio)
        else:
            q, k, v = (split_heads(each, self_heads) for each in self.self_attn.query_key_value(y))
            y = self.attend(q, k, v, causal=True)
            x = self.residual(self.self_attn, self.self_attn_layer_norm, x, y, width_ratio)
        q = self.encoder_attn.query(self.before(self.encoder_attn_layer_norm, x))
        k, v = self.encoder_attn.key_value(memory)
        y = self.attend(
            split_heads(q, cross_heads), split_heads(k, cross_heads), split_heads(v, cross_heads), memory_mask
        )
        x = self.residual(self.encoder_attn, self.encoder_attn_layer_norm, x, y, width_ratio)
        return self.feed_forward(x, ffn_dim, width_ratio)

    def residual(
        self, attention: ElasticAttention, norm: ElasticLayerNorm, x: Tensor, y: Tensor, width_ratio: float
    ) -> Tensor:
        """Project attention's output back to the width, add the residual, normalise; `y` is (..., H*K)."""
        return self.added(norm, x, attention.out_proj(y, x.shape[-1]), width_ratio)

    def added(self, norm: ElasticLayerNorm, x: Tensor, y: Tensor, width_ratio: float) -> Tensor:
        """Add a sub-layer's output (..., D) to the residual (..., D), and normalise."""
        return self.after(norm, x + F.dropout(y, self.config.dropout * width_ratio, self.training))

"""Numbers that describe an architecture to a predictor.

Two sets: HAT's ten averages (section 3.2), all that its published tables keep; and cost terms that follow the
arithmetic of the encoder and of one decoder step, from the whole architecture.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hat_ray.space.architecture import Architecture

FloatArray = npt.NDArray[np.float64]

HAT_FEATURES = (
    "encoder_embed_dim",
    "encoder_layer_num",
    "encoder_ffn_embed_dim_avg",
    "encoder_self_attention_heads_avg",
    "decoder_embed_dim",
    "decoder_layer_num",
    "decoder_ffn_embed_dim_avg",
    "decoder_self_attention_heads_avg",
    "decoder_ende_attention_heads_avg",
    "decoder_arbitrary_ende_attn_avg",
)

COST_FEATURES = (
    "encoder_depth",
    "encoder_embed_dim",
    "encoder_ffn_sum",
    "encoder_heads_sum",
    "encoder_attention_work",  # depth x width: the projections' size but for the fixed query-key-value width
    "encoder_ffn_work",  # width x sum of hidden widths
    "decoder_depth",
    "decoder_embed_dim",
    "decoder_ffn_sum",
    "decoder_self_heads_sum",
    "decoder_cross_heads_sum",
    "decoder_reach_sum",
    "decoder_attention_work",
    "decoder_ffn_work",
    "cross_memory_work",  # encoder width x layers attended: keys and values computed once a sentence
)


LAYER_FEATURES = (
    "encoder_ffn_largest",
    "encoder_ffn_square_sum",
    "decoder_ffn_largest",
    "decoder_ffn_square_sum",
    "decoder_self_heads_most",
    "cross_heads_work",  # sum of heads x layers attended: the attention products that are done one by one
    "decoder_reach_farthest",
)
"""What the shapes of single layers add to the cost terms: HAT's averages cannot tell it."""


def hat_features(architectures: Sequence[Architecture]) -> FloatArray:
    """Return HAT's ten features, unscaled: (N, 10) in the order of `HAT_FEATURES`."""
    rows = []
    for architecture in architectures:
        e, d = architecture.encoder, architecture.decoder
        encoder = [e.embed_dim, e.depth, _mean(e.ffn_dims), _mean(e.heads)]
        decoder = [d.embed_dim, d.depth, *map(_mean, (d.ffn_dims, d.self_heads, d.cross_heads, d.cross_layers))]
        rows.append([*encoder, *decoder])
    return np.array(rows, dtype=np.float64).reshape(-1, len(HAT_FEATURES))


def cost_features(architectures: Sequence[Architecture]) -> FloatArray:
    """Return the cost terms, unscaled: (N, 15) in the order of `COST_FEATURES`."""
    rows = []
    for architecture in architectures:
        e, d = architecture.encoder, architecture.decoder
        encoder = [e.depth, e.embed_dim, sum(e.ffn_dims), sum(e.heads), e.depth * e.embed_dim]
        decoder = [d.depth, d.embed_dim, *map(sum, (d.ffn_dims, d.self_heads, d.cross_heads, d.cross_layers))]
        work = [d.depth * d.embed_dim, d.embed_dim * sum(d.ffn_dims), e.embed_dim * sum(d.cross_layers)]
        rows.append([*encoder, e.embed_dim * sum(e.ffn_dims), *decoder, *work])
    return np.array(rows, dtype=np.float64).reshape(-1, len(COST_FEATURES))


def layer_features(architectures: Sequence[Architecture]) -> FloatArray:
    """Return what averages cannot tell: (N, 7) in the order of `LAYER_FEATURES`."""
    rows = []
    for architecture in architectures:
        e, d = architecture.encoder, architecture.decoder
        squares = [sum(width * width for width in widths) for widths in (e.ffn_dims, d.ffn_dims)]
        cross = sum(heads * reach for heads, reach in zip(d.cross_heads, d.cross_layers, strict=True))
        ffn = [max(e.ffn_dims), squares[0], max(d.ffn_dims), squares[1]]
        rows.append([*ffn, max(d.self_heads), cross, max(d.cross_layers)])
    return np.array(rows, dtype=np.float64).reshape(-1, len(LAYER_FEATURES))


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)

"""What a predictor sees of an architecture, and what HAT's published tables keep of it.

Decision: HAT's ten averages, each times its number of layers, give back every cost term of `hat_ray.space.features`
exactly, because those terms are sums over layers. So one prior serves both, and rows imported from HAT can predict
whole architectures. What single layers add (`LAYER_FEATURES`) only the trees see, and only where the rows have it.
"""

import numpy as np

from hat_ray.errors import PredictorError
from hat_ray.space.features import COST_FEATURES, HAT_FEATURES, FloatArray

FEATURE_SET = "cost-15+layers-7"
"""Name of the columns that a predictor can be fitted to; it changes when they do."""

ENCODER_COLUMNS = tuple(i for i, name in enumerate(COST_FEATURES) if name.startswith(("encoder", "cross_memory")))
"""Cost terms of what is done once a sentence: the encoder, and the keys and values of its outputs."""

DECODER_COLUMNS = tuple(i for i, name in enumerate(COST_FEATURES) if name.startswith(("decoder", "cross_memory")))
"""Cost terms of the decoder's steps."""


def costs_from_hat(averages: FloatArray) -> FloatArray:
    """Turn HAT's ten averages (N, 10) in the order of `HAT_FEATURES` into cost terms (N, 15)."""
    if averages.ndim != 2 or averages.shape[1] != len(HAT_FEATURES):
        raise PredictorError(f"HAT's features have {len(HAT_FEATURES)} columns, got an array of shape {averages.shape}")
    e_dim, e_depth, e_ffn, e_heads, d_dim, d_depth, d_ffn, d_self, d_cross, d_reach = averages.astype(np.float64).T
    e_sum, d_sum, reach = e_ffn * e_depth, d_ffn * d_depth, d_reach * d_depth
    encoder = [e_depth, e_dim, e_sum, e_heads * e_depth, e_depth * e_dim, e_dim * e_sum]
    decoder = [d_depth, d_dim, d_sum, d_self * d_depth, d_cross * d_depth, reach]
    columns = [*encoder, *decoder, d_depth * d_dim, d_dim * d_sum, e_dim * reach]
    assert len(columns) == len(COST_FEATURES)
    return np.stack(columns, axis=1)

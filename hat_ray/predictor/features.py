"""What a predictor sees of an architecture, and what HAT's published tables keep of it.

Decision: HAT's ten averages, each times its number of layers, give back every cost term of `hat_ray.space.features`
exactly, because those terms are sums over layers. So one predictor serves both, and rows imported from HAT can
predict whole architectures.
"""

from collections.abc import Sequence

import numpy as np

from hat_ray.errors import PredictorError
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import COST_FEATURES, HAT_FEATURES, FloatArray, cost_features

FEATURE_SET = "cost-15"
"""Name of the columns that a predictor is fitted to; it changes when they do."""


def architecture_matrix(architectures: Sequence[Architecture]) -> FloatArray:
    """Return the predictor's columns: (N, 15)."""
    return cost_features(architectures)


def matrix_from_hat(averages: FloatArray) -> FloatArray:
    """Turn HAT's ten averages (N, 10) in the order of `HAT_FEATURES` into the predictor's columns (N, 15)."""
    if averages.ndim != 2 or averages.shape[1] != len(HAT_FEATURES):
        raise PredictorError(f"HAT's features have {len(HAT_FEATURES)} columns, got an array of shape {averages.shape}")
    e_dim, e_depth, e_ffn, e_heads, d_dim, d_depth, d_ffn, d_self, d_cross, d_reach = averages.astype(np.float64).T
    e_sum, d_sum, reach = e_ffn * e_depth, d_ffn * d_depth, d_reach * d_depth
    encoder = [e_depth, e_dim, e_sum, e_heads * e_depth, e_depth * e_dim, e_dim * e_sum]
    decoder = [d_depth, d_dim, d_sum, d_self * d_depth, d_cross * d_depth, reach]
    columns = [*encoder, *decoder, d_depth * d_dim, d_dim * d_sum, e_dim * reach]
    assert len(columns) == len(COST_FEATURES)
    return np.stack(columns, axis=1)

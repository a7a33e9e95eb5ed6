"""Predictor inputs: names and order that stored predictors and tables depend on, and values worked out by hand."""

import numpy as np

from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.features import (
    COST_FEATURES,
    HAT_FEATURES,
    LAYER_FEATURES,
    cost_columns,
    cost_features,
    costs_of_averages,
    hat_features,
    layer_features,
)

BY_HAND = Architecture(
    EncoderShape(64, (128, 32), (4, 2)), DecoderShape(32, (64, 16, 16), (2, 4, 2), (1, 2, 4), (2, 1, 2)), 64
)


def test_names_and_order_stay():
    assert (
        *("encoder_depth", "encoder_embed_dim", "encoder_ffn_sum", "encoder_heads_sum"),
        *("encoder_attention_work", "encoder_ffn_work"),
        *("decoder_depth", "decoder_embed_dim", "decoder_ffn_sum", "decoder_self_heads_sum"),
        *("decoder_cross_heads_sum", "decoder_reach_sum", "decoder_attention_work", "decoder_ffn_work"),
        "cross_memory_work",
    ) == COST_FEATURES
    assert (
        *("encoder_ffn_largest", "encoder_ffn_square_sum", "decoder_ffn_largest", "decoder_ffn_square_sum"),
        *("decoder_self_heads_most", "cross_heads_work", "decoder_reach_farthest"),
    ) == LAYER_FEATURES
    assert (
        *("encoder_embed_dim", "encoder_layer_num", "encoder_ffn_embed_dim_avg", "encoder_self_attention_heads_avg"),
        *("decoder_embed_dim", "decoder_layer_num", "decoder_ffn_embed_dim_avg", "decoder_self_attention_heads_avg"),
        *("decoder_ende_attention_heads_avg", "decoder_arbitrary_ende_attn_avg"),
    ) == HAT_FEATURES
    assert cost_columns("encoder") == (0, 1, 2, 3, 4, 5, 14)
    assert cost_columns("decoder") == (6, 7, 8, 9, 10, 11, 12, 13, 14)


def test_values_by_hand():
    decoder = [3, 32, 96, 8, 7, 5, 3 * 32, 32 * 96]
    costs = [2, 64, 160, 6, 2 * 64, 64 * 160, *decoder, 64 * 5]
    assert cost_features([BY_HAND]).tolist() == [costs]
    assert costs_of_averages(hat_features([BY_HAND])).tolist() == [costs]
    assert hat_features([BY_HAND]).tolist() == [[64, 2, 80, 3, 32, 3, 32, 8 / 3, 7 / 3, 5 / 3]]
    squares = 128**2 + 32**2, 64**2 + 2 * 16**2
    assert layer_features([BY_HAND]).tolist() == [[128, squares[0], 64, squares[1], 4, 1 * 2 + 2 * 1 + 4 * 2, 2]]
    assert cost_features([BY_HAND]).dtype == np.float64

"""Numbers that describe an architecture to a predictor.

Two sets: HAT's ten averages (section 3.2), all that its published tables keep; and cost terms that follow the
arithmetic of the encoder and of one decoder step, from the whole architecture.

The sizes of many architectures as arrays, for arithmetic on thousands of them at once.
"""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from hat_ray.space.architecture import Architecture

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Shapes:
    """The sizes of N architectures; what has a value a layer is (N, L), with zeros where a layer does not exist."""

    encoder_embed_dims: IntArray
    """(N,)"""
    encoder_depths: IntArray
    encoder_ffn_dims: IntArray
    encoder_heads: IntArray
    decoder_embed_dims: IntArray
    decoder_depths: IntArray
    decoder_ffn_dims: IntArray
    decoder_self_heads: IntArray
    decoder_cross_heads: IntArray
    decoder_cross_layers: IntArray

    @classmethod
    def of(cls, architectures: Sequence[Architecture]) -> "Shapes":
        """Return the shapes of any architectures; those that have them already are not looked at one by one."""
        if isinstance(architectures, ShapedArchitectures):
            return architectures.shapes
        encoders = [architecture.encoder for architecture in architectures]
        decoders = [architecture.decoder for architecture in architectures]
        return cls(
            np.array([one.embed_dim for one in encoders], dtype=np.int64),
            np.array([one.depth for one in encoders], dtype=np.int64),
            _by_layer([one.ffn_dims for one in encoders]),
            _by_layer([one.heads for one in encoders]),
            np.array([one.embed_dim for one in decoders], dtype=np.int64),
            np.array([one.depth for one in decoders], dtype=np.int64),
            _by_layer([one.ffn_dims for one in decoders]),
            _by_layer([one.self_heads for one in decoders]),
            _by_layer([one.cross_heads for one in decoders]),
            _by_layer([one.cross_layers for one in decoders]),
        )


class ShapedArchitectures(Sequence[Architecture]):
    """Architectures that are made only when one is looked at; their shapes are known without."""

    @property
    @abstractmethod
    def shapes(self) -> Shapes: ...

    @abstractmethod
    def places_of(self, wanted: Collection[Architecture]) -> list[tuple[int, Architecture]]:
        """Return where some of these stand, and which one stands there."""


def places_of(
    architectures: Sequence[Architecture], wanted: Collection[Architecture]
) -> list[tuple[int, Architecture]]:
    """Return where some architectures stand among others, and which one stands there."""
    if isinstance(architectures, ShapedArchitectures):
        return architectures.places_of(wanted)
    return [(place, one) for place, one in enumerate(architectures) if one in wanted]


def _by_layer(values: Sequence[tuple[int, ...]]) -> IntArray:
    """Return one row each, filled up with zeros to the longest: (N, L)."""
    layers = list(zip_longest(*values, fillvalue=0))
    return np.array(layers, dtype=np.int64).reshape(len(layers), len(values)).T


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
    s = Shapes.of(architectures)
    encoder = [s.encoder_embed_dims, s.encoder_depths, *_means(s.encoder_depths, s.encoder_ffn_dims, s.encoder_heads)]
    layers = (s.decoder_ffn_dims, s.decoder_self_heads, s.decoder_cross_heads, s.decoder_cross_layers)
    return _columns(*encoder, s.decoder_embed_dims, s.decoder_depths, *_means(s.decoder_depths, *layers))


def cost_features(architectures: Sequence[Architecture]) -> FloatArray:
    """Return the cost terms, unscaled: (N, 15) in the order of `COST_FEATURES`."""
    s = Shapes.of(architectures)
    e_dim, e_depth, e_ffn = s.encoder_embed_dims, s.encoder_depths, _sum(s.encoder_ffn_dims)
    d_dim, d_depth, d_ffn = s.decoder_embed_dims, s.decoder_depths, _sum(s.decoder_ffn_dims)
    reach = _sum(s.decoder_cross_layers)
    return _columns(
        *(e_depth, e_dim, e_ffn, _sum(s.encoder_heads), e_depth * e_dim, e_dim * e_ffn),
        *(d_depth, d_dim, d_ffn, _sum(s.decoder_self_heads), _sum(s.decoder_cross_heads), reach),
        *(d_depth * d_dim, d_dim * d_ffn, e_dim * reach),
    )


def layer_features(architectures: Sequence[Architecture]) -> FloatArray:
    """Return what averages cannot tell: (N, 7) in the order of `LAYER_FEATURES`."""
    s = Shapes.of(architectures)
    ffn = [column for widths in (s.encoder_ffn_dims, s.decoder_ffn_dims) for column in (_most(widths), _sum(widths**2))]
    cross = _sum(s.decoder_cross_heads * s.decoder_cross_layers)
    return _columns(*ffn, _most(s.decoder_self_heads), cross, _most(s.decoder_cross_layers))


def _sum(values: IntArray) -> IntArray:
    return np.asarray(values.sum(axis=1))


def _most(values: IntArray) -> IntArray:
    return np.asarray(values.max(axis=1, initial=0))


def _means(depths: IntArray, *values: IntArray) -> list[FloatArray]:
    return [np.asarray(_sum(one) / depths, dtype=np.float64) for one in values]


def _columns(*columns: npt.NDArray[np.number[Any]]) -> FloatArray:
    return np.stack(columns, axis=1).astype(np.float64)

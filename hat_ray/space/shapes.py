"""The sizes of many architectures as arrays, for arithmetic on thousands of them at once."""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import zip_longest

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

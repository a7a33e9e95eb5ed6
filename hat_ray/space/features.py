"""Numbers that describe an architecture to a predictor.

Two sets: HAT's ten averages (section 3.2), all that its published tables keep; and cost terms that follow the
arithmetic of the encoder and of one decoder step, from the whole architecture. Each cost term is a product of sums over
layers, so HAT's averages give it back. Two more, of decoders with SSRU layers, are there only where some have them.
Dimensions that no term names here add generic ones: their sum and the largest of a layer, or how many layers have each
word.
"""

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import zip_longest
from operator import mul
from typing import Any

import numpy as np
import numpy.typing as npt

from hat_ray.space.architecture import Architecture, choices_of
from hat_ray.space.dimension import Dimension
from hat_ray.space.dimensions import BY_NAME, CELLS, DIMENSIONS

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Shapes:
    """What N architectures chose, as numbers, by dimension: (N,), or (N, L) with zeros where a layer does not exist."""

    columns: Mapping[str, IntArray]

    @classmethod
    def of(cls, architectures: Sequence[Architecture]) -> "Shapes":
        """Return the shapes of any architectures; those that have them already are not looked at one by one."""
        if isinstance(architectures, ShapedArchitectures):
            return architectures.shapes
        return cls({one.name: _column(one, architectures) for one in DIMENSIONS})

    def __getitem__(self, name: str) -> IntArray:
        """Return a dimension's column; everywhere `absent` where the architectures' space does not name it."""
        if name in self.columns:
            return self.columns[name]
        dimension = BY_NAME[name]
        assert dimension.absent is not None
        exists = np.ones_like(self["encoder_depths"])
        if dimension.per_layer:
            depths = self[dimension.depths]
            exists = (np.arange(depths.max(initial=0)) < depths[:, None]).astype(np.int64)
        return np.asarray(exists * dimension.number(dimension.absent))


class ShapedArchitectures(Sequence[Architecture]):
    """Architectures that are made only when one is looked at; their shapes are known without."""

    @property
    @abstractmethod
    def shapes(self) -> Shapes: ...

    @abstractmethod
    def places_of(self, wanted: Collection[Architecture]) -> list[tuple[int, Architecture]]:
        """Return the positions of some of these, and the one at each."""


def places_of(
    architectures: Sequence[Architecture], wanted: Collection[Architecture]
) -> list[tuple[int, Architecture]]:
    """Return the positions of some architectures among others, and the one at each."""
    if isinstance(architectures, ShapedArchitectures):
        return architectures.places_of(wanted)
    return [(place, one) for place, one in enumerate(architectures) if one in wanted]


def _column(dimension: Dimension, architectures: Sequence[Architecture]) -> IntArray:
    """Return one dimension's numbers: (N,), or (N, L), filled up with zeros to the longest."""
    values: list[Any] = [choices_of(one, dimension) for one in architectures]
    if dimension.words:
        values = [[dimension.number(choice) for choice in choices] for choices in values]
    layers = list(zip_longest(*values, fillvalue=0))
    if not dimension.per_layer:
        return np.array(layers, dtype=np.int64).reshape(len(values))
    return np.array(layers, dtype=np.int64).reshape(len(layers), len(values)).T


FloatArray = npt.NDArray[np.float64]
Sums = Mapping[str, npt.NDArray[np.number[Any]]]
"""By dimension its values summed over layers, (N,); of a dimension of words how many layers have each one."""

_OF_HAT = tuple(one for one in DIMENSIONS if one.hat_key)
HAT_FEATURES = tuple((one.hat_key or "").replace("-", "_") + ("_avg" if one.per_layer else "") for one in _OF_HAT)
"""HAT's names of its ten features."""

_COST_TERMS: Mapping[str, tuple[str, ...]] = {
    "encoder_depth": ("encoder_depths",),
    "encoder_embed_dim": ("encoder_embed_dims",),
    "encoder_ffn_sum": ("encoder_ffn_dims",),
    "encoder_heads_sum": ("encoder_heads",),
    "encoder_attention_work": ("encoder_depths", "encoder_embed_dims"),  # the projections' size but for qkv_dim
    "encoder_ffn_work": ("encoder_embed_dims", "encoder_ffn_dims"),
    "decoder_depth": ("decoder_depths",),
    "decoder_embed_dim": ("decoder_embed_dims",),
    "decoder_ffn_sum": ("decoder_ffn_dims",),
    "decoder_self_heads_sum": ("decoder_self_heads",),
    "decoder_cross_heads_sum": ("decoder_cross_heads",),
    "decoder_reach_sum": ("decoder_cross_layers",),
    "decoder_attention_work": ("decoder_attentions", "decoder_embed_dims"),
    "decoder_ffn_work": ("decoder_embed_dims", "decoder_ffn_dims"),
    "cross_memory_work": ("encoder_embed_dims", "decoder_cross_layers"),  # keys and values, computed once a sentence
}
"""Each cost term as the product of these sums; `decoder_attentions` are pairs of a self- and a cross-attention."""

_SSRU_TERMS: Mapping[str, tuple[str, ...]] = {
    "decoder_self_attentions": (f"{CELLS}_attention",),
    "decoder_ssru_work": ("decoder_embed_dims", f"{CELLS}_ssru"),  # its projections' size over the width
}
SSRU_FEATURES = tuple(_SSRU_TERMS)
"""Cost terms of the decoder's steps that only rows with SSRU layers need: elsewhere they would be constant."""

_IN_TERMS = {name for names in _COST_TERMS.values() for name in names}
_GENERIC = [one for one in DIMENSIONS if one.name not in {*_IN_TERMS, CELLS}]
WORD_FEATURES = tuple(f"{one.name}_{word}" for one in _GENERIC for word in one.words)
"""Counts of layers: more of one is fewer of another."""
_NUMBERS = {f"{one.name}_sum" if one.per_layer else one.name: (one.name,) for one in _GENERIC if not one.words}
_TERMS = {**_COST_TERMS, **_NUMBERS, **{name: (name,) for name in WORD_FEATURES}}
COST_FEATURES = tuple(_TERMS)

_LAYER_TERMS: Mapping[str, Callable[[Shapes], IntArray]] = {
    "encoder_ffn_largest": lambda s: _most(s["encoder_ffn_dims"]),
    "encoder_ffn_square_sum": lambda s: _sum(s["encoder_ffn_dims"] ** 2),
    "decoder_ffn_largest": lambda s: _most(s["decoder_ffn_dims"]),
    "decoder_ffn_square_sum": lambda s: _sum(s["decoder_ffn_dims"] ** 2),
    "decoder_self_heads_most": lambda s: _most(s["decoder_self_heads"]),
    # the attention products that are done one by one
    "cross_heads_work": lambda s: _sum(s["decoder_cross_heads"] * s["decoder_cross_layers"]),
    "decoder_reach_farthest": lambda s: _most(s["decoder_cross_layers"]),
}
_LARGEST = {f"{one.name}_largest": one.name for one in _GENERIC if one.per_layer and not one.words}
LAYER_FEATURES = (*_LAYER_TERMS, *_LARGEST)
"""Terms that the shapes of single layers add to the cost terms: HAT's averages do not contain it."""


def cost_names(width: int) -> tuple[str, ...]:
    """Return the names of a matrix of cost terms by its number of columns."""
    return (*COST_FEATURES, *SSRU_FEATURES)[:width]


def cost_columns(side: str) -> tuple[int, ...]:
    """Return the places of the cost terms of a side: `encoder` (once a sentence) or `decoder` (its steps)."""
    of = {
        **{one.name: one.side for one in DIMENSIONS},
        "decoder_attentions": "decoder",
        **{f"{one.name}_{w}": one.side for one in _GENERIC for w in one.words},
    }
    return tuple(place for place, names in enumerate(_TERMS.values()) if {of[name] for name in names} & {side, "model"})


def hat_features(architectures: Sequence[Architecture]) -> FloatArray:
    """Return HAT's ten features, unscaled: (N, 10) in the order of `HAT_FEATURES`."""
    s = Shapes.of(architectures)
    return _columns(*(_sum(s[one.name]) / s[one.depths] if one.per_layer else s[one.name] for one in _OF_HAT))


def cost_features(architectures: Sequence[Architecture], width: int | None = None) -> FloatArray:
    """Return the cost terms, unscaled: (N, C) in the order of `COST_FEATURES`, and then of `SSRU_FEATURES`.

    `width` is C, without or with the latter; None: with them where an architecture has an SSRU layer.
    """
    s = Shapes.of(architectures)
    sums = {one.name: _sum(s[one.name]) for one in DIMENSIONS if not one.words}
    words = {
        f"{one.name}_{word}": _sum((s[one.name] == one.number(word)).astype(np.int64))
        for one in (*_GENERIC, BY_NAME[CELLS])
        for word in one.words
    }
    if width is None:
        width = len(COST_FEATURES) + (len(SSRU_FEATURES) if words[f"{CELLS}_ssru"].any() else 0)
    pairs = (sums["decoder_depths"] + words[f"{CELLS}_attention"]) / 2
    return _cost_terms({**sums, **words, "decoder_attentions": pairs}, width)


def costs_of_averages(averages: FloatArray) -> FloatArray:
    """Turn HAT's ten averages (N, 10) in the order of `HAT_FEATURES` into the cost terms (N, C)."""
    of = dict(zip((one.name for one in _OF_HAT), averages.T, strict=True))
    sums = {one.name: of[one.name] * of[one.depths] if one.per_layer else of[one.name] for one in _OF_HAT}
    for one in _GENERIC:
        layers = of[one.depths] if one.per_layer else np.ones(len(averages))
        if one.words:
            sums.update({f"{one.name}_{word}": layers * (word == one.absent) for word in one.words})
        elif one.absent is not None:
            sums[one.name] = layers * one.number(one.absent)
    return _cost_terms({**sums, "decoder_attentions": of["decoder_depths"]}, len(COST_FEATURES))


def layer_features(architectures: Sequence[Architecture]) -> FloatArray:
    """Return the shape terms that averages do not contain: (N, L) in the order of `LAYER_FEATURES`."""
    s = Shapes.of(architectures)
    return _columns(*(of(s) for of in _LAYER_TERMS.values()), *(_most(s[name]) for name in _LARGEST.values()))


def _cost_terms(sums: Sums, width: int) -> FloatArray:
    terms = (*_TERMS.values(), *_SSRU_TERMS.values())[:width]
    return _columns(*(reduce(mul, (sums[name] for name in names)) for names in terms))


def _sum(values: IntArray) -> IntArray:
    return values if values.ndim == 1 else np.asarray(values.sum(axis=1))


def _most(values: IntArray) -> IntArray:
    return np.asarray(values.max(axis=1, initial=0))


def _columns(*columns: npt.NDArray[np.number[Any]]) -> FloatArray:
    return np.stack(columns, axis=1).astype(np.float64)

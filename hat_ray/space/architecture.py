"""An architecture: one point of a search space, as a frozen value with one canonical form.

Equal networks, and only those, compare equal, hash equal and print alike: what lies past the chosen depth does not
exist, a decoder layer never attends to more encoder layers than there are, of repeats of one output only those count
that a decoder layer distinguishes from it, and a decoder layer without self-attention has one self head.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import cached_property
from operator import attrgetter
from typing import Any, get_origin

from hat_ray.errors import SpaceError
from hat_ray.space.dimension import MAX_DEPTH, MAX_SIZE, Choice, Dimension
from hat_ray.space.dimensions import BY_NAME, CELLS, DIMENSIONS, SELF_HEADS

MAX_CROSS_LAYERS = 3

Extra = tuple[tuple[str, tuple[Choice, ...]], ...]
"""Choices of dimensions without an attribute, by name: one value, or one a layer."""


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """One encoder: a width shared by all its layers, and a hidden width and head count for each layer."""

    embed_dim: int
    ffn_dims: tuple[int, ...]  # its length is the depth
    heads: tuple[int, ...]
    repeats: int = 0
    """HAT: how many skipped layers repeat the last output, for decoder layers that attend to several. Published
    spaces have a fixed encoder depth, so it is 0 there; hat-ray's own spaces attend to active layers only."""
    repeats_before_norm: bool = False
    """HAT: with pre-norm layers only the last output is normalised, so that a repeat differs from it."""

    @property
    def depth(self) -> int:
        return len(self.ffn_dims)


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """One decoder: a width shared by all its layers, and for each layer its hidden width, heads and cross layers."""

    embed_dim: int
    ffn_dims: tuple[int, ...]  # its length is the depth
    self_heads: tuple[int, ...]
    cross_heads: tuple[int, ...]
    cross_layers: tuple[int, ...]
    """How many of the last encoder layers each decoder layer attends to: 1, 2 or 3 (section 3.1)."""

    @property
    def depth(self) -> int:
        return len(self.ffn_dims)


@dataclass(frozen=True)
class Architecture:
    """One translation Transformer: an encoder, a decoder, and the query-key-value width that all attentions share.

    The query-key-value width is fixed in HAT (section 3.1): fewer heads are wider heads, and cost nothing.
    """

    encoder: EncoderShape
    decoder: DecoderShape
    qkv_dim: int = 512
    extra: Extra = ()
    """Choices of the dimensions that HAT lacks, in the order of `DIMENSIONS`, where they differ from `absent`."""

    def __post_init__(self) -> None:
        _check(self)
        if self.extra:
            object.__setattr__(self, "extra", _canonical_extra(self))
            if "ssru" in self.cells:
                pairs = zip(self.decoder.self_heads, self.cells, strict=True)
                heads = tuple(1 if cell == "ssru" else own for own, cell in pairs)
                object.__setattr__(self, "decoder", replace(self.decoder, self_heads=heads))
        encoder, decoder = self.encoder, self.decoder
        outputs = encoder.depth + encoder.repeats
        cross_layers = tuple(min(layers, outputs) for layers in decoder.cross_layers)
        repeats = encoder.repeats
        if encoder.repeats_before_norm:  # attended to are the last output, then its repeats: no others are looked at
            repeats = min(repeats, max(cross_layers) - 1)
        elif repeats:  # copies of one output attend exactly like the output alone
            cross_layers = tuple(1 if layers <= repeats + 1 else layers for layers in cross_layers)
            repeats = repeats if max(cross_layers) > 1 else 0
        before_norm = encoder.repeats_before_norm and repeats > 0
        if (repeats, before_norm) != (encoder.repeats, encoder.repeats_before_norm):
            known = replace(encoder, repeats=repeats, repeats_before_norm=before_norm)
            object.__setattr__(self, "encoder", known)
        if cross_layers != decoder.cross_layers:
            object.__setattr__(self, "decoder", replace(decoder, cross_layers=cross_layers))

    @cached_property
    def id(self) -> str:
        """A short stable hash of the canonical form: 12 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    @property
    def cells(self) -> tuple[Choice, ...]:
        """The cell of each decoder layer, `attention` or `ssru`."""
        return choices_of(self, BY_NAME[CELLS])

    def __str__(self) -> str:
        """One readable line: `enc 64x2 ffn 128,64 heads 4,2 | dec 64x1 ffn 128 self 4 cross 2 reach 1 | qkv 64`."""
        e, d = self.encoder, self.decoder
        repeats = f" repeats {e.repeats}" if e.repeats else ""
        repeats += " before norm" if e.repeats_before_norm else ""
        extra = "".join(f" | {name} {_list(values)}" for name, values in self.extra)
        return (
            f"enc {e.embed_dim}x{e.depth} ffn {_list(e.ffn_dims)} heads {_list(e.heads)}{repeats} | "
            f"dec {d.embed_dim}x{d.depth} ffn {_list(d.ffn_dims)} self {_list(d.self_heads)} "
            f"cross {_list(d.cross_heads)} reach {_list(d.cross_layers)} | qkv {self.qkv_dim}{extra}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values with a fixed order of keys; what equals its default is left out."""
        value = {"encoder": _to_dict(self.encoder), "decoder": _to_dict(self.decoder), "qkv_dim": self.qkv_dim}
        return {**value, "extra": {name: list(values) for name, values in self.extra}} if self.extra else value

    def to_json(self) -> str:
        """Return the canonical text: equal for equal architectures."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Architecture":
        """Read what `to_dict` wrote; raise SpaceError when something is missing or ill-typed."""
        try:
            encoder, decoder = _of_dict(EncoderShape, value["encoder"]), _of_dict(DecoderShape, value["decoder"])
            extra = tuple((name, tuple(values)) for name, values in value.get("extra", {}).items())
            return cls(encoder, decoder, value["qkv_dim"], extra)
        except (KeyError, TypeError, AttributeError) as error:
            why = f"{error} is missing" if isinstance(error, KeyError) else f"a value is ill-typed, {error}"
            raise SpaceError(f"not an architecture: {why}, in {str(value)[:200]}") from error

    @classmethod
    def from_json(cls, text: str) -> "Architecture":
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:  # no JSON, a number of too many digits, too many brackets
            raise SpaceError(f"not an architecture: {error} in {text[:80]!r}") from error
        return cls.from_dict(value)


def _check(architecture: Architecture) -> None:
    e, d = architecture.encoder, architecture.decoder
    depths = e.depth, d.depth
    if min(depths) < 1:
        raise SpaceError(f"encoder and decoder need at least one layer each, got {e.depth} and {d.depth}")
    if max(depths) > MAX_DEPTH:
        raise SpaceError(f"encoder and decoder have at most {MAX_DEPTH} layers each, got {e.depth} and {d.depth}")
    for side, shape in (("encoder", e), ("decoder", d)):
        for name in _LAYERED[type(shape)]:
            if (count := len(getattr(shape, name))) != shape.depth:
                got = f"{count} values for {shape.depth} layers"
                raise SpaceError(f"{side}.{name} must name one value a layer, got {got}")
    sizes = (e.embed_dim, d.embed_dim, architecture.qkv_dim, *e.ffn_dims, *d.ffn_dims, *d.cross_layers)
    heads = (*e.heads, *d.self_heads, *d.cross_heads)
    values = (*sizes, *heads)
    if {*map(type, values)} != {int} or min(values) < 1:  # a search makes thousands of architectures a second
        wrong = next(value for value in values if type(value) is not int or value < 1)
        raise SpaceError(f"sizes, heads and cross layers must be whole numbers from 1 on, got {repr(wrong)[:80]}")
    if max(values) > MAX_SIZE:
        raise SpaceError(f"sizes and heads must be at most {MAX_SIZE}, got {max(values)}")
    if type(e.repeats) is not int or not 0 <= e.repeats <= MAX_DEPTH:
        raise SpaceError(f"encoder.repeats must be a whole number from 0 to {MAX_DEPTH}, got {repr(e.repeats)[:80]}")
    if type(e.repeats_before_norm) is not bool:
        raise SpaceError(f"encoder.repeats_before_norm must be true or false, got {repr(e.repeats_before_norm)[:80]}")
    for value in {*heads}:
        if architecture.qkv_dim % value:
            raise SpaceError(f"heads must divide the query-key-value width {architecture.qkv_dim}, got {value}")
    if max(d.cross_layers) > MAX_CROSS_LAYERS:
        raise SpaceError(
            f"a decoder layer attends to 1 to {MAX_CROSS_LAYERS} encoder layers, got {max(d.cross_layers)}"
        )


def _canonical_extra(architecture: Architecture) -> Extra:
    """Return the extra values in the order of the table; raise SpaceError for what no dimension allows."""
    given = dict(architecture.extra)
    for name, values in given.items():
        dimension = BY_NAME.get(name)
        if dimension is None or dimension.field is not None:
            raise SpaceError(f"no dimension {name} is known here: install the package that adds it")
        wanted = depth_of(architecture, dimension) if dimension.per_layer else 1
        if len(values) != wanted:
            raise SpaceError(f"{name} must have {wanted} values, got {len(values)}")
        broken = [rule for value in values if (rule := dimension.why_not(value))]
        if broken:
            raise SpaceError(f"{name} {broken[0]}")
        if dimension.capped_by is not None:
            most = depth_of(architecture, BY_NAME[dimension.capped_by])
            given[name] = tuple(value if isinstance(value, str) else min(value, most) for value in values)
    named = ((dimension, given[dimension.name]) for dimension in DIMENSIONS if dimension.name in given)
    return tuple((dimension.name, values) for dimension, values in named if {*values} != {dimension.absent})


def depth_of(architecture: Architecture, dimension: Dimension) -> int:
    """Return the number of layers on a dimension's side."""
    return (architecture.encoder if dimension.side == "encoder" else architecture.decoder).depth


def choices_of(architecture: Architecture, dimension: Dimension) -> tuple[Choice, ...]:
    """Return an architecture's choice in a dimension: one value, or one a layer."""
    if dimension.field is not None:
        value = _READ[dimension.name](architecture)
        return value if dimension.per_layer else (value,)
    for name, values in architecture.extra:
        if name == dimension.name:
            return values
    assert dimension.absent is not None
    return (dimension.absent,) * (depth_of(architecture, dimension) if dimension.per_layer else 1)


def own_choices_of(architecture: Architecture, dimension: Dimension) -> tuple[Choice, ...]:
    """Return `choices_of` without what was not chosen: the one self head of layers without self-attention."""
    choices = choices_of(architecture, dimension)
    if dimension.name != SELF_HEADS:
        return choices
    return tuple(heads for heads, cell in zip(choices, architecture.cells, strict=True) if cell == "attention")


def build(
    values: Mapping[str, Sequence[Choice]], qkv_dim: int, repeats: int = 0, repeats_before_norm: bool = False
) -> Architecture:
    """Return the architecture of one value a dimension, or one a layer; values past the depth are left out.

    Of the dimensions that HAT lacks, those that are not named are `absent`; `repeats` and `repeats_before_norm` are
    those of `EncoderShape`. Raise SpaceError for an ill-formed architecture.
    """
    depths: dict[str, Any] = {side: values[f"{side}_depths"][0] for side in ("encoder", "decoder")}
    parts: dict[str, dict[str, Any]] = {"encoder": {}, "decoder": {}}
    for side, name, field, per_layer in _BUILT:
        parts[side][field] = tuple(values[name][: depths[side]]) if per_layer else values[name][0]
    extra = tuple(
        (one.name, tuple(values[one.name][: depths[one.side] if one.per_layer else 1]))
        for one in _EXTRA
        if one.name in values
    )
    encoder = EncoderShape(**parts["encoder"], repeats=repeats, repeats_before_norm=repeats_before_norm)
    return Architecture(encoder, DecoderShape(**parts["decoder"]), qkv_dim, extra)


def _to_dict(shape: EncoderShape | DecoderShape) -> dict[str, Any]:
    values = {name: getattr(shape, name) for name, default in _FIELDS[type(shape)] if getattr(shape, name) != default}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _of_dict(kind: type[Any], value: Mapping[str, Any]) -> Any:
    """Read a shape; a field without a default must be there."""
    found = {}
    for name, default in _FIELDS[kind]:
        if default is MISSING or name in value:
            found[name] = tuple(value[name]) if name in _LAYERED[kind] else value[name]
    return kind(**found)


def _list(values: Sequence[Choice]) -> str:
    return ",".join(map(str, values))


_SHAPES: tuple[type[Any], ...] = (EncoderShape, DecoderShape)
_FIELDS = {kind: [(one.name, one.default) for one in fields(kind)] for kind in _SHAPES}
_LAYERED = {kind: [one.name for one in fields(kind) if get_origin(one.type) is tuple] for kind in _SHAPES}
_READ: dict[str, Callable[[Architecture], Any]] = {
    one.name: attrgetter(f"{one.side}.{one.field}") for one in DIMENSIONS if one.field is not None
}
_BUILT = [(one.side, one.name, one.field, one.per_layer) for one in DIMENSIONS if one.field not in (None, "depth")]
_EXTRA = [one for one in DIMENSIONS if one.field is None]

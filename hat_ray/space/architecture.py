"""An architecture: one point of a search space, as a frozen value with one canonical form.

Equal networks compare equal, hash equal and print alike: what lies past the chosen depth does not exist, and a decoder
layer never attends to more encoder layers than there are.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hat_ray.errors import SpaceError

MAX_CROSS_LAYERS = 3
MAX_SIZE = 1 << 17
"""Largest width; twice what the largest language models have."""
MAX_DEPTH = 128
"""Most layers of an encoder or a decoder."""


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """One encoder: a width shared by all its layers, and a hidden width and head count for each layer."""

    embed_dim: int
    ffn_dims: tuple[int, ...]  # its length is the depth
    heads: tuple[int, ...]
    repeats: int = 0
    """HAT: how many skipped layers repeat the last output, for decoder layers that attend to several. Published
    spaces have a fixed encoder depth, so it is 0 there; hat-ray's own spaces attend to active layers only."""

    @property
    def depth(self) -> int:
        return len(self.ffn_dims)


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """One decoder: a width shared by all its layers, and for each layer its hidden width, heads and reach."""

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

    def __post_init__(self) -> None:
        _check(self)
        encoder, decoder = self.encoder, self.decoder
        reach = encoder.depth + encoder.repeats
        cross_layers = tuple(min(layers, reach) for layers in decoder.cross_layers)
        needs_repeats = encoder.depth > 1 and max(cross_layers) > 1
        if encoder.repeats and not needs_repeats:  # copies of one output attend exactly like the output alone
            cross_layers = tuple(min(layers, encoder.depth) for layers in cross_layers)
            object.__setattr__(self, "encoder", EncoderShape(encoder.embed_dim, encoder.ffn_dims, encoder.heads))
        if cross_layers != decoder.cross_layers:
            canonical = DecoderShape(
                decoder.embed_dim, decoder.ffn_dims, decoder.self_heads, decoder.cross_heads, cross_layers
            )
            object.__setattr__(self, "decoder", canonical)

    @cached_property
    def id(self) -> str:
        """A short stable hash of the canonical form: 12 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def __str__(self) -> str:
        """One readable line: `enc 64x2 ffn 128,64 heads 4,2 | dec 64x1 ffn 128 self 4 cross 2 reach 1 | qkv 64`."""
        e, d = self.encoder, self.decoder
        repeats = f" repeats {e.repeats}" if e.repeats else ""
        return (
            f"enc {e.embed_dim}x{e.depth} ffn {_list(e.ffn_dims)} heads {_list(e.heads)}{repeats} | "
            f"dec {d.embed_dim}x{d.depth} ffn {_list(d.ffn_dims)} self {_list(d.self_heads)} "
            f"cross {_list(d.cross_heads)} reach {_list(d.cross_layers)} | qkv {self.qkv_dim}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values with a fixed order of keys."""
        e, d = self.encoder, self.decoder
        encoder: dict[str, Any] = {"embed_dim": e.embed_dim, "ffn_dims": list(e.ffn_dims), "heads": list(e.heads)}
        if e.repeats:
            encoder["repeats"] = e.repeats
        decoder = {
            "embed_dim": d.embed_dim,
            "ffn_dims": list(d.ffn_dims),
            "self_heads": list(d.self_heads),
            "cross_heads": list(d.cross_heads),
            "cross_layers": list(d.cross_layers),
        }
        return {"encoder": encoder, "decoder": decoder, "qkv_dim": self.qkv_dim}

    def to_json(self) -> str:
        """Return the canonical text: equal for equal architectures."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Architecture":
        """Read what `to_dict` wrote; raises SpaceError when something is missing or ill-typed."""
        try:
            e, d = value["encoder"], value["decoder"]
            encoder = EncoderShape(e["embed_dim"], tuple(e["ffn_dims"]), tuple(e["heads"]), e.get("repeats", 0))
            names = ("ffn_dims", "self_heads", "cross_heads", "cross_layers")
            decoder = DecoderShape(d["embed_dim"], *(tuple(d[name]) for name in names))
            return cls(encoder, decoder, value["qkv_dim"])
        except (KeyError, TypeError, AttributeError) as error:
            raise SpaceError(f"not an architecture: {error} is missing or ill-typed in {str(value)[:200]}") from error

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
    for name, values, depth in (
        ("encoder.heads", e.heads, depths[0]),
        ("decoder.self_heads", d.self_heads, depths[1]),
        ("decoder.cross_heads", d.cross_heads, depths[1]),
        ("decoder.cross_layers", d.cross_layers, depths[1]),
    ):
        if len(values) != depth:
            raise SpaceError(f"{name} must name one value a layer, got {len(values)} values for {depth} layers")
    sizes = (e.embed_dim, d.embed_dim, architecture.qkv_dim, *e.ffn_dims, *d.ffn_dims, *d.cross_layers)
    heads = (*e.heads, *d.self_heads, *d.cross_heads)
    values = (*sizes, *heads)
    if {*map(type, values)} != {int} or min(values) < 1:  # a search makes thousands of architectures a second
        wrong = next(value for value in values if type(value) is not int or value < 1)
        raise SpaceError(f"sizes, heads and reaches must be whole numbers from 1 on, got {repr(wrong)[:80]}")
    if max(values) > MAX_SIZE:
        raise SpaceError(f"sizes and heads must be at most {MAX_SIZE}, got {max(values)}")
    if type(e.repeats) is not int or not 0 <= e.repeats <= MAX_DEPTH:
        raise SpaceError(f"encoder.repeats must be a whole number from 0 to {MAX_DEPTH}, got {repr(e.repeats)[:80]}")
    for value in {*heads}:
        if architecture.qkv_dim % value:
            raise SpaceError(f"heads must divide the query-key-value width {architecture.qkv_dim}, got {value}")
    if max(d.cross_layers) > MAX_CROSS_LAYERS:
        raise SpaceError(
            f"a decoder layer attends to 1 to {MAX_CROSS_LAYERS} encoder layers, got {max(d.cross_layers)}"
        )


def _list(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values))

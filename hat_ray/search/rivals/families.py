"""Models that an engineer scales by hand: families of architectures, each from the slowest member to the fastest.

All begin with the largest architecture of a space, as a plain Transformer: every decoder layer attends to the last
encoder layer alone. Nobody who scales by hand is bound to a search space, so members may lie outside of it; none is
deeper or wider than the largest. Where trained weights are inherited a member outside would start with less than its
winner: there each member is the nearest architecture of the space.

The family `deep-shallow-ssru` is `deep-shallow` with an SSRU in each decoder layer, as teams that ship to browsers
draw it (Kim et al. 2019). A space without SSRU layers has none of it, nor has one that has no others: `deep-shallow`
has them there.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from hat_ray.search.selection import SSRU_STUDENT, HandScaled
from hat_ray.space.architecture import Architecture, build, choices_of, depth_of
from hat_ray.space.dimension import Choice, Dimension
from hat_ray.space.dimensions import BY_NAME, CELLS, DIMENSIONS
from hat_ray.space.search_space import SearchSpace

_PARTS = 32
_NARROWEST = 4
"""Widths are shrunk in steps of a 32nd, to an eighth."""
_EVEN = 8
"""Widths are multiples of it, where the largest's are."""
_TWO_LAYERS_TO = 3 * _PARTS // 4
"""With two decoder layers, widths are shrunk to three quarters; one layer at full width is the faster model then."""


def hand_scaled(
    space: SearchSpace, kind: HandScaled, *, keep_qkv: bool = False, inside: bool = False
) -> list[Architecture]:
    """Return the members of a family, the slowest first; the largest itself is none of them.

    `keep_qkv` keeps the query-key-value width, which predictors do not see. `inside` moves each member to the nearest
    architecture of the space: one with weights to inherit.
    """
    members = _members(space, kind, keep_qkv or inside)
    if inside:
        members = [_nearest(space, one) for one in members]
    largest = space.largest()
    return [one for one in dict.fromkeys(members) if one not in (largest, _plain(largest))]


def _members(space: SearchSpace, kind: HandScaled, keep_qkv: bool) -> list[Architecture]:
    largest = space.largest()
    full = Fraction(1)
    if kind == SSRU_STUDENT:
        is_choice = {*space.choices.get(CELLS, ())} > {"ssru"}
        return [_recurrent(one) for one in _members(space, "deep-shallow", keep_qkv)] if is_choice else []
    if kind == "scaled-depth":
        depths = largest.encoder.depth, largest.decoder.depth
        return [
            _scaled(largest, full, (max(1, depths[0] - cut), max(1, depths[1] - cut)), keep_qkv)
            for cut in range(1, max(depths))
        ]
    if kind == "scaled-width":
        return [_scaled(largest, share, None, keep_qkv) for share in _shares(_NARROWEST)[1:]]
    deepest = largest.encoder.depth
    two = [_scaled(largest, share, (deepest, 2), keep_qkv) for share in _shares(_TWO_LAYERS_TO)]
    one = [_scaled(largest, share, (deepest, 1), keep_qkv) for share in _shares(_NARROWEST)]
    return [*(two if largest.decoder.depth > 1 else []), *one]


def _recurrent(architecture: Architecture) -> Architecture:
    """Return an architecture with an SSRU in each decoder layer."""
    values: dict[str, Sequence[Any]] = {one.name: choices_of(architecture, one) for one in DIMENSIONS}
    return build({**values, CELLS: ("ssru",) * architecture.decoder.depth}, architecture.qkv_dim)


def _nearest(space: SearchSpace, architecture: Architecture) -> Architecture:
    """Return the architecture of a space whose choices are the nearest, the smaller of two that are as near."""
    values: dict[str, Sequence[Any]] = {}
    for one in DIMENSIONS:
        known = space.choices.get(one.name, one.unnamed)
        chosen = choices_of(architecture, one)
        chosen += chosen[-1:] * (len(choices_of(space.largest(), one)) - len(chosen))  # its layers may be more
        values[one.name] = tuple(_nearest_choice(one, known, value) for value in chosen)
    return build(values, space.qkv_dim)


def _nearest_choice(dimension: Dimension, known: Sequence[Choice], wanted: Choice) -> Choice:
    size = dimension.number(wanted)
    return min(known, key=lambda choice: (abs(dimension.number(choice) - size), dimension.number(choice)))


def _shares(least: int) -> list[Fraction]:
    """Return the shares of the full widths, from 1 down to `least` parts."""
    return [Fraction(part, _PARTS) for part in range(_PARTS, least - 1, -1)]


def _plain(architecture: Architecture) -> Architecture:
    return _scaled(architecture, Fraction(1), None, keep_qkv=True)


def _scaled(largest: Architecture, share: Fraction, depths: tuple[int, int] | None, keep_qkv: bool) -> Architecture:
    """Return the largest with a share of its widths, and with these depths of encoder and decoder."""
    if depths is None:
        depths = largest.encoder.depth, largest.decoder.depth
    of_side = dict(zip(("encoder", "decoder"), depths, strict=True))
    qkv = largest.qkv_dim if keep_qkv else _qkv(largest, share)
    values: dict[str, Sequence[Any]] = {}
    for one in DIMENSIONS:
        chosen = choices_of(largest, one)
        if one.name == one.depths:
            values[one.name] = (min(of_side[one.side], depth_of(largest, one)),)
        else:
            values[one.name] = tuple(_CHANGES.get(one.name, _same)(value, share, qkv) for value in chosen)
    return build(values, qkv)


def _same(value: Any, _share: Fraction, _qkv_dim: int) -> Any:
    return value


def _width(value: int, share: Fraction, _qkv_dim: int = 0) -> int:
    """Return a share of a width, a multiple of what the full width is a multiple of."""
    unit = next(unit for unit in (_EVEN, 4, 2, 1) if value % unit == 0)
    return max(unit, round(value * share / unit) * unit)


def _heads(value: int, share: Fraction, qkv_dim: int) -> int:
    """Return the number of heads nearest to a share that divides the query-key-value width."""
    wanted = value * share
    return min((one for one in range(1, value + 1) if qkv_dim % one == 0), key=lambda one: (abs(one - wanted), one))


def _qkv(largest: Architecture, share: Fraction) -> int:
    return _width(largest.qkv_dim, share)


_CHANGES: Mapping[str, Any] = {
    **{name: _width for name in BY_NAME if name.endswith(("_embed_dims", "_ffn_dims"))},
    **{name: _heads for name in BY_NAME if name.endswith("_heads")},
    "decoder_cross_layers": lambda value, share, qkv_dim: 1,
}
"""How a choice is scaled, by dimension."""

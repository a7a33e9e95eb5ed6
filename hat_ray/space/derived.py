"""Search spaces that follow from architectures."""

from collections.abc import Iterable, Sequence

from hat_ray.space.architecture import Architecture, depth_of, own_choices_of
from hat_ray.space.dimension import Choice
from hat_ray.space.dimensions import BY_NAME, DIMENSIONS, SELF_HEADS
from hat_ray.space.search_space import SearchSpace


def space_shown_by(architectures: Iterable[Architecture], name: str = "shown") -> SearchSpace | None:
    """Return the smallest space that the space of some architectures is known to cover.

    A space holds every combination of its choices, so one architecture with a choice proves the choice, and one with
    layers that differ proves that layers may. A choice above a cap is seen as the cap: a value that equals the depth
    which caps it counts only in the deepest networks. None where there are no architectures, or their query-key-value
    widths differ.
    """
    shown = list(architectures)
    if len({one.qkv_dim for one in shown}) != 1:
        return None
    choices: dict[str, set[Choice]] = {}
    for dimension in DIMENSIONS:
        cap = BY_NAME[dimension.capped_by] if dimension.capped_by else None
        deepest = max(depth_of(one, cap) for one in shown) if cap else 0
        choices[dimension.name] = {
            choice
            for one in shown
            for choice in own_choices_of(one, dimension)
            if cap is None or dimension.number(choice) < depth_of(one, cap) or depth_of(one, cap) == deepest
        }
    sizes = {name: sorted(found, key=BY_NAME[name].number, reverse=True) for name, found in choices.items()}
    sizes[SELF_HEADS] = sizes[SELF_HEADS] or [1]  # no layer has self-attention
    alike = all(len({*own_choices_of(one, dimension)}) <= 1 for one in shown for dimension in DIMENSIONS)
    return SearchSpace(name, shown[0].qkv_dim, alike, **sizes)


def space_around(architecture: Architecture, name: str = "around") -> SearchSpace:
    """Return a space whose largest architecture has a trained one's widths, depths and heads, and smaller ones below.

    Widths go down to a half, hidden widths to a quarter, encoder layers to a half, decoder layers to one, heads to a
    half where that divides the query-key-value width. What the architecture chose in any layer is a choice, so that it
    lies in the space. Dimensions that HAT lacks keep their choices.
    """
    encoder, decoder, qkv_dim = architecture.encoder, architecture.decoder, architecture.qkv_dim
    own_heads = [int(one) for one in own_choices_of(architecture, BY_NAME[SELF_HEADS])]
    choices = {
        "encoder_embed_dims": _below([encoder.embed_dim], 1, 0.75, 0.5),
        "decoder_embed_dims": _below([decoder.embed_dim], 1, 0.75, 0.5),
        "encoder_ffn_dims": _below(encoder.ffn_dims, 1, 0.5, 0.25),
        "decoder_ffn_dims": _below(decoder.ffn_dims, 1, 0.5, 0.25),
        "encoder_depths": range(encoder.depth, (encoder.depth + 1) // 2 - 1, -1),
        "decoder_depths": range(decoder.depth, 0, -1),
        "encoder_heads": _heads(encoder.heads, qkv_dim),
        SELF_HEADS: _heads(own_heads or (1,), qkv_dim),
        "decoder_cross_heads": _heads(decoder.cross_heads, qkv_dim),
        "decoder_cross_layers": range(1, max(decoder.cross_layers) + 1),
    }
    shown = space_shown_by([architecture])
    assert shown is not None, "one architecture has one width"
    others = {one: values for one, values in shown.choices.items() if one not in choices}
    return SearchSpace(name, qkv_dim, False, **{one: tuple(values) for one, values in choices.items()}, **others)


def _below(used: Sequence[int], *shares: float) -> tuple[int, ...]:
    """Return the sizes in use and shares of the largest, in multiples of 8 where there is room, the largest first."""
    largest = max(used)
    step = 8 if largest >= 32 else 1
    return tuple(
        sorted({*used, *(max(step, int(share * largest) // step * step) for share in shares[1:])}, reverse=True)
    )


def _heads(used: Sequence[int], qkv_dim: int) -> tuple[int, ...]:
    half = max(used) // 2
    fits = {half} if half and qkv_dim % half == 0 else set()
    return tuple(sorted({*used, *fits}, reverse=True))

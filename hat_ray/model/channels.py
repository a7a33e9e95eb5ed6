"""Which axis of which parameter counts which channels: the encoder's width, the decoder's, a layer's hidden units.

What an elastic layer cuts, what sorting moves, and what an update's gradients reach: all follow from this one table.
"""

import re
from collections.abc import Iterator

from torch import Tensor

from hat_ray.model.slicing import Cut
from hat_ray.space.architecture import Architecture

_LAYER = re.compile(r"((?:encoder|decoder)\.layers\.(\d+))\.(.+)")
_EVERY = slice(None)


def channel_axes(name: str, tensor: Tensor) -> Iterator[tuple[slice, int, str]]:
    """Yield which rows of a parameter, which of its axes, and the group of channels that the axis counts.

    A group is `encoder`, `decoder`, or a layer's name such as `decoder.layers.2`, for its hidden units.
    """
    side = name.split(".", maxsplit=1)[0]
    layer = _LAYER.fullmatch(name)
    if layer is None:  # embeddings, output projection, positions, last norm: the width is the last axis
        yield _EVERY, tensor.dim() - 1, side
        return
    owner, _, rest = layer.groups()
    match rest:
        case "fc1.weight":
            yield _EVERY, 0, owner
            yield _EVERY, 1, side
        case "fc1.bias":
            yield _EVERY, 0, owner
        case "fc2.weight":
            yield _EVERY, 0, side
            yield _EVERY, 1, owner
        case "encoder_attn.in_proj_weight":  # queries read the decoder, keys and values the encoder
            third = tensor.shape[0] // 3
            yield slice(0, third), 1, side
            yield slice(third, None), 1, "encoder"
        case "encoder_attn.k_proj_weight" | "encoder_attn.v_proj_weight":
            yield _EVERY, 1, "encoder"
        case _ if rest.endswith("in_proj_bias"):
            return
        case _ if rest.endswith(("in_proj_weight", "q_proj_weight")):
            yield _EVERY, 1, side
        case _:  # output projections, norms, the bias of fc2
            yield _EVERY, 0, side


def used_parts(name: str, tensor: Tensor, architecture: Architecture, cut: Cut, shared: bool) -> list[Tensor]:
    """Return the parts of a parameter, or of its gradient, that an architecture uses: views that do not overlap.

    `shared` says that one embedding serves both sides, so that the wider side decides.
    """
    axes = list(channel_axes(name, tensor))
    rows = {part.start or 0: part for part, _, _ in axes} or {0: _EVERY}
    parts = []
    for start, part in rows.items():
        view = tensor[part]
        sizes = list(view.shape)
        for other, axis, group in axes:
            if (other.start or 0) == start:
                sizes[axis] = min(sizes[axis], _size(name, group, architecture, shared))
        parts.append(cut(view, *sizes))
    return parts


def _size(name: str, group: str, architecture: Architecture, shared: bool) -> int:
    widths = {"encoder": architecture.encoder.embed_dim, "decoder": architecture.decoder.embed_dim}
    if shared and name.endswith("embed_tokens.weight"):
        return max(widths.values())
    if group in widths:
        return widths[group]
    side, _, index = group.split(".")
    hidden = architecture.encoder.ffn_dims if side == "encoder" else architecture.decoder.ffn_dims
    return hidden[int(index)]

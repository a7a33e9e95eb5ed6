"""Which axis of which parameter counts which channels: the encoder's width, the decoder's, a layer's hidden units.

The slices of elastic layers, sorting, and the reach of an update's gradients: all follow from this one table.

Sort a SuperTransformer's channels by importance, so that the front slice of each weight holds the best of it.

Decisions
- Sorted axes: the width of the encoder, that of the decoder, and each layer's hidden units. Attention's inner width
  and the heads are never cut, so they keep their order.
- A channel's importance is the squared norm of its weights, each matrix scaled to mean 1, summed over all matrices
  that read or write it: a large embedding does not outvote the layers.
- Sorting renames channels and changes nothing else: the largest architecture computes the same. Positions are added to
  channels, so their order goes along (`Positions.order`), and so do Adam's moments.
- Differs from HAT, which never sorts. Once-for-all networks sort channels of convolutions (Cai et al., ICLR 2020).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from hat_ray.errors import HatRayError
from hat_ray.model.config import ModelConfig
from hat_ray.model.layers import SliceRule
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.model.transformer import ElasticTransformer
from hat_ray.space.architecture import Architecture

_LAYER = re.compile(r"((?:encoder|decoder)\.layers\.(\d+))\.(.+)")
_EVERY = slice(None)


def channel_axes(name: str, tensor: Tensor) -> Iterator[tuple[slice, int, str]]:
    """Yield which rows of a parameter, which of its axes, and the group of channels that the axis counts.

    A group is `encoder`, `decoder`, or a layer's name such as `decoder.layers.2`, for its hidden units.
    """
    side = name.split(".", maxsplit=1)[0]
    layer = _LAYER.fullmatch(name)
    if name == "decoder.output_bias":  # counts words
        return
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
        case "ssru.weight" | "ssru.forget_weight":
            yield _EVERY, 0, side
            yield _EVERY, 1, side
        case _ if rest.endswith("in_proj_bias"):
            return
        case _ if rest.endswith(("in_proj_weight", "q_proj_weight")):
            yield _EVERY, 1, side
        case _:  # output projections, norms, the bias of fc2
            yield _EVERY, 0, side


def used_parts(name: str, tensor: Tensor, architecture: Architecture, cut: SliceRule, shared: bool) -> list[Tensor]:
    """Return the parts of a parameter, or of its gradient, that an architecture uses: views that do not overlap.

    With `shared`, one embedding serves both sides, so that the wider side decides.
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


@dataclass(frozen=True)
class ChannelOrder:
    """For each group of channels (`encoder`, `decoder`, or a layer's name) its old numbers in their new order."""

    groups: Mapping[str, Tensor]

    def apply(self, name: str, tensor: Tensor) -> Tensor:
        """Return a parameter, or anything of its shape such as Adam's moments, with its channels in the new order."""
        for part, axis, group in channel_axes(name, tensor):
            if group in self.groups:
                moved = tensor.clone()
                moved[part] = tensor[part].index_select(axis, self.groups[group].to(tensor.device))
                tensor = moved
        return tensor


def require_sortable(config: ModelConfig, super_dims: tuple[int, int]) -> None:
    """Raise HatRayError when encoder and decoder share an embedding but not its width: no one order serves both."""
    if config.share_embeddings == "all" and len(set(super_dims)) > 1:
        raise HatRayError(
            f"model.sharing=importance with one embedding for both sides needs one largest width, got "
            f"{super_dims[0]} and {super_dims[1]}: set model.share_embeddings=decoder or change the space"
        )


def order_by_importance(model: SuperTransformer) -> ChannelOrder:
    """Return the order that puts the channels with the largest weights first; see `require_sortable`."""
    require_sortable(model.config, model.super_dims)
    totals = channel_importance(model)
    return ChannelOrder({group: total.argsort(descending=True, stable=True) for group, total in totals.items()})


def channel_importance(model: ElasticTransformer) -> dict[str, Tensor]:
    """Return the importance of each channel by group; one embedding for both sides makes their widths one group."""
    totals: dict[str, Tensor] = {}
    for name, weight in model.weights().items():
        for part, axis, group in channel_axes(name, weight):
            if weight.dim() == 2:
                norms = weight[part].double().square().sum(1 - axis)
                totals[group] = totals.get(group, 0) + norms / norms.mean().clamp(min=1e-30)
    if model.config.share_embeddings == "all" and len(totals["encoder"]) == len(totals["decoder"]):
        totals["encoder"] = totals["decoder"] = totals["encoder"] + totals["decoder"]
    return totals

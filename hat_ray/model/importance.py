"""Sort a SuperTransformer's channels by importance, so that the front slice of each weight holds the best of it.

Decisions
- What is sorted: the width of the encoder, that of the decoder, and each layer's hidden units. Attention's inner width
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
from hat_ray.model.supertransformer import SuperTransformer

_LAYER = re.compile(r"((?:encoder|decoder)\.layers\.\d+)\.(.+)")


@dataclass(frozen=True)
class ChannelOrder:
    """For each group of channels (`encoder`, `decoder`, or a layer's name) its old numbers in their new order."""

    groups: Mapping[str, Tensor]

    def apply(self, name: str, tensor: Tensor) -> Tensor:
        """Return a parameter, or anything of its shape such as Adam's moments, with its channels in the new order."""
        for part, axis, group in _axes(name, tensor):
            if group in self.groups:
                moved = tensor.clone()
                moved[part] = tensor[part].index_select(axis, self.groups[group].to(tensor.device))
                tensor = moved
        return tensor


def order_by_importance(model: SuperTransformer) -> ChannelOrder:
    """Return the order that puts the channels with the largest weights first.

    Raises HatRayError when encoder and decoder share an embedding but not its width: no one order serves both.
    """
    if model.config.share_embeddings == "all" and len(set(model.super_dims)) > 1:
        raise HatRayError(
            f"model.sharing=importance with one embedding for both sides needs one largest width, got "
            f"{model.super_dims[0]} and {model.super_dims[1]}: set model.share_embeddings=decoder or change the space"
        )
    totals: dict[str, Tensor] = {}
    for name, weight in model.weights().items():
        for part, axis, group in _axes(name, weight):
            if weight.dim() == 2:
                norms = weight[part].double().square().sum(1 - axis)
                totals[group] = totals.get(group, 0) + norms / norms.mean().clamp(min=1e-30)
    if model.config.share_embeddings == "all":
        totals["encoder"] = totals["decoder"] = totals["encoder"] + totals["decoder"]
    return ChannelOrder({group: total.argsort(descending=True, stable=True) for group, total in totals.items()})


def _axes(name: str, tensor: Tensor) -> Iterator[tuple[slice, int, str]]:
    """Yield which rows of a parameter, which of its axes, and which group of channels that axis counts."""
    every, side = slice(None), name.split(".", maxsplit=1)[0]
    layer = _LAYER.fullmatch(name)
    if layer is None:  # embeddings, output projection, positions, last norm: the width is the last axis
        yield every, tensor.dim() - 1, side
        return
    owner, rest = layer.groups()
    match rest:
        case "fc1.weight":
            yield every, 0, owner
            yield every, 1, side
        case "fc1.bias":
            yield every, 0, owner
        case "fc2.weight":
            yield every, 0, side
            yield every, 1, owner
        case "encoder_attn.in_proj_weight":  # queries read the decoder, keys and values the encoder
            third = tensor.shape[0] // 3
            yield slice(0, third), 1, side
            yield slice(third, None), 1, "encoder"
        case "encoder_attn.k_proj_weight" | "encoder_attn.v_proj_weight":
            yield every, 1, "encoder"
        case _ if rest.endswith("in_proj_bias"):
            return
        case _ if rest.endswith(("in_proj_weight", "q_proj_weight")):
            yield every, 1, side
        case _:  # output projections, norms, the bias of fc2
            yield every, 0, side

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

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from hat_ray.errors import HatRayError
from hat_ray.model.channels import channel_axes
from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer


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
    totals: dict[str, Tensor] = {}
    for name, weight in model.weights().items():
        for part, axis, group in channel_axes(name, weight):
            if weight.dim() == 2:
                norms = weight[part].double().square().sum(1 - axis)
                totals[group] = totals.get(group, 0) + norms / norms.mean().clamp(min=1e-30)
    if model.config.share_embeddings == "all":
        totals["encoder"] = totals["decoder"] = totals["encoder"] + totals["decoder"]
    return ChannelOrder({group: total.argsort(descending=True, stable=True) for group, total in totals.items()})

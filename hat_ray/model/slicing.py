"""Which part of a shared weight serves a smaller size: the one rule that all elastic layers follow.

Decisions
- A slice is a view that starts at the front of each dimension (HAT, section 3.1) or in its middle.
- A slice of the full size is the weight itself: a SubTransformer made of elastic layers pays nothing for elasticity.
- Slices nest: the slice of a slice is the slice of the whole. In the middle this needs sizes that differ by even
  numbers, which widths and hidden widths do.
"""

from typing import Protocol

from torch import Tensor

from hat_ray.model.config import Sharing


class Cut(Protocol):
    """A rule that cuts a weight to given sizes."""

    def __call__(self, weight: Tensor, *sizes: int) -> Tensor: ...


def front(weight: Tensor, *sizes: int) -> Tensor:
    """Return the front slice of the given sizes, a view; the weight itself when nothing is cut."""
    if weight.shape == sizes:
        return weight
    for dim, size in enumerate(sizes):
        weight = weight.narrow(dim, 0, size)
    return weight


def middle(weight: Tensor, *sizes: int) -> Tensor:
    """Return the middle slice of the given sizes, a view; the weight itself when nothing is cut."""
    if weight.shape == sizes:
        return weight
    for dim, size in enumerate(sizes):
        weight = weight.narrow(dim, (weight.shape[dim] - size) // 2, size)
    return weight


def cut_for(sharing: Sharing) -> Cut:
    """Return the rule of a policy; `importance` sorts the channels once and then takes the front."""
    return middle if sharing == "middle" else front

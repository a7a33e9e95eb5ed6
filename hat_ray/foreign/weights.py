"""The weights of a foreign model by name, each of which must have its shape and be read; and its settings.

Decisions
- Every weight is checked before a model of its size is made, and a weight that is left over is named.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hat_ray.errors import CheckpointError

MOST_OF_ANY = 2_000_000
"""Most of any size that a foreign model may claim before its weights are looked at, such as entries of a vocabulary."""


class Weights:
    """Weights that are taken one by one."""

    def __init__(self, state: Mapping[str, Tensor], source: str) -> None:
        self._left, self._source = dict(state), source

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, *shape: int, also: Sequence[str] = ()) -> Tensor:
        """Return a weight in single precision, which may stand there by other names `also`.

        Raises CheckpointError where it is missing, of another shape or type, or differs from name to name.
        """
        found = {one: self._left.pop(one) for one in (name, *also) if one in self._left}
        if not found:
            raise CheckpointError(f"{self._source} lacks the weight {name}: it is damaged or of another architecture")
        first = next(iter(found.values()))
        for one, weight in found.items():
            if not weight.is_floating_point():
                raise CheckpointError(
                    f"{self._source}: {one} must be floating-point numbers, got {weight.dtype}: take the model before "
                    "its weights were quantised"
                )
            if tuple(weight.shape) != shape:
                raise CheckpointError(f"{self._source}: {one} has shape {_shape(weight)}, its settings ask for {shape}")
            if not torch.equal(weight, first):
                raise CheckpointError(f"{self._source}: {' and '.join(found)} must be one matrix: take a whole model")
        return first.float()

    def take_if_there(self, name: str, *shape: int) -> Tensor | None:
        """Return a weight, or None where there is none of that name."""
        return self.take(name, *shape) if name in self._left else None

    def require_all_read(self) -> None:
        """Raise CheckpointError for a weight that hat-ray's Transformer lacks."""
        if self._left:
            name = sorted(self._left)[0]
            raise CheckpointError(f"{self._source} has weights that hat-ray's Transformer lacks, such as {name:.80}")


def require_values(values: Mapping[str, Any], only: Mapping[str, tuple[Any, ...]], source: str) -> None:
    """Raise CheckpointError for a setting that has another value than hat-ray computes; missing ones have the first."""
    for name, accepted in only.items():
        value = values.get(name, accepted[0])
        if type(value) is not type(accepted[0]) or value not in accepted:
            shown = " or ".join(map(repr, accepted))
            raise CheckpointError(
                f"{source}: {name} is {value!r:.60}, hat-ray's Transformer has {shown} only: take a model without it"
            )


def whole_number(
    values: Mapping[str, Any], name: str, default: int, source: str, least: int = 1, most: int = MOST_OF_ANY
) -> int:
    """Return a setting that is a whole number; raise CheckpointError where it is none, too small or too large."""
    value = values.get(name, default)
    if type(value) is not int or not least <= value <= most:
        raise CheckpointError(f"{source}: {name} must be a whole number from {least} to {most}, got {value!r:.60}")
    return value


def _shape(weight: Tensor) -> tuple[int, ...]:
    return tuple(weight.shape)

"""Mixed precision: matrix products in bf16 or fp16, everything that sums in fp32.

Decision: fp16's scale of the loss is our own and not torch.amp.GradScaler, because the gradients of an update are
summed over batches and workers before they are judged: all workers must see the same overflow, and a resumed training
must go on with the same scale. Its rule is the scaler's: halve after an overflow, double after 2,000 updates without.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_FIRST_SCALE = 2.0**13
_UPDATES_UNTIL_DOUBLED = 2_000


class Precision:
    """The precision of one training on one kind of device."""

    def __init__(self, name: str, device_type: str) -> None:
        self._dtype, self._device_type = _DTYPES.get(name), device_type
        self.scale = _FIRST_SCALE if name == "fp16" else 1.0
        self._steady = 0

    def autocast(self) -> AbstractContextManager[object]:
        """Run matrix products in this precision."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device_type, self._dtype)

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss to take gradients of; they come out `scale` times too large."""
        return loss if self.scale == 1.0 else loss * self.scale

    def accept(self, grad_norm: Tensor) -> bool:
        """Say whether an update's gradients may be used, and adapt the scale. Only fp16 looks: it asks the device."""
        if self._dtype != torch.float16:
            return True
        finite = bool(torch.isfinite(grad_norm))
        self._steady = self._steady + 1 if finite else 0
        if not finite:
            self.scale = max(1.0, self.scale / 2)
        elif self._steady == _UPDATES_UNTIL_DOUBLED:
            self.scale, self._steady = self.scale * 2, 0
        return finite

    @property
    def state(self) -> tuple[float, int]:
        """What a checkpoint keeps."""
        return self.scale, self._steady

    def restore(self, state: tuple[float, int]) -> None:
        """Go on from what a checkpoint kept."""
        self.scale, self._steady = state

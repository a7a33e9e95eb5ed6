"""Counts what would make a CPU wait for its GPU; on any device."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique")
"""PyTorch's operators whose result's value or shape the CPU needs: on a GPU each of them waits for the device."""


class Waits(TorchDispatchMode):
    """Counts operators that would make a CPU wait for its GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, str]] = []
        self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += 1
        name = func.overloadpacket.__name__
        masked = name == "index" and any(part is not None and part.dtype == torch.bool for part in args[1])
        if masked or (name.startswith(WAITING) and name != "nonzero_static"):  # its size is given
            self.seen.append((self.operators, name))
        return func(*args, **(kwargs or {}))

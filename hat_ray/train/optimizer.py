"""Adam as HAT runs it (fairseq's), on PyTorch's fused kernel.

Decisions
- fairseq adds epsilon before the correction of the bias, PyTorch after it: in the first updates, small gradients then
  move weights differently. PyTorch's with epsilon / sqrt(1 - beta2^steps) is fairseq's, exactly.
- Steps count the updates that a parameter took part in. A layer is used whole or not at all, so its parameters are one
  group with one count, and one call of the kernel serves them all.
- A group without gradients is left alone: no step, no decay, no moments.

Learning rates as pure functions of the update's number, counted from 0. HAT: fairseq's schedules, exactly.

Mixed precision: matrix products in bf16 or fp16, everything that sums in fp32.

Decision: fp16's scale of the loss is our own and not torch.amp.GradScaler, because the gradients of an update are
summed over batches and workers before they are judged: all workers must see the same overflow, and a resumed training
must continue with the same scale. Its rule is the scaler's: halve after an overflow, double after 2,000 updates
without.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from hat_ray.train.config import TrainConfig


def learning_rate(config: TrainConfig, update: int) -> float:
    """Return the learning rate that update number `update` is made with."""
    if update < config.warmup_updates:
        return config.warmup_init_lr + update * (config.lr - config.warmup_init_lr) / config.warmup_updates
    if config.schedule == "inverse_sqrt":
        return config.lr * math.sqrt(max(1, config.warmup_updates) / max(1, update))
    period = max(1, config.updates - config.warmup_updates)
    phase = min(1.0, (update - config.warmup_updates) / period)
    return config.min_lr + 0.5 * (config.lr - config.min_lr) * (1 + math.cos(math.pi * phase))


_LAYER = re.compile(r"(encoder|decoder)\.layers\.\d+\.")
_KEYS = ("step", "exp_avg", "exp_avg_sq")


class Adam:
    """Adam with decoupled weight decay, one group a layer and one for the rest."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self._named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._eps, self._beta2 = config.adam_eps, config.adam_betas[1]
        self._adam = torch.optim.AdamW(
            _groups(self._named), betas=config.adam_betas, weight_decay=config.weight_decay, fused=True
        )
        self._steps = [0] * len(self._adam.param_groups)

    def forget_gradients(self) -> None:
        """Take all gradients away, so that what the next update does not use has none."""
        self._adam.zero_grad(set_to_none=True)

    def named_gradients(self) -> list[tuple[str, Tensor]]:
        """Return the gradients that exist by parameter, in the order of the parameters."""
        return [(name, parameter.grad) for name, parameter in self._named if parameter.grad is not None]

    def gradients(self) -> list[Tensor]:
        """Return the gradients that exist, in the order of the parameters."""
        return [gradient for _, gradient in self.named_gradients()]

    def step(self, lr: float) -> None:
        """Move every parameter that has a gradient."""
        for index, group in enumerate(self._adam.param_groups):
            if group["params"][0].grad is not None:
                self._steps[index] += 1
                group["lr"] = lr
                group["eps"] = self._eps / math.sqrt(1 - self._beta2 ** self._steps[index])
        self._adam.step()

    def rearrange(self, change: Callable[[str, Tensor], Tensor]) -> None:
        """Give the moments of each parameter the order of channels that the parameter was given."""
        for name, parameter in self._named:
            state = self._adam.state.get(parameter)
            if state:
                state |= {key: change(name, state[key]) for key in _KEYS if key != "step"}

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by name: `exp_avg/<parameter>` and so on; none for what no update has used."""
        state = self._adam.state
        return {
            f"{key}/{name}": state[parameter][key]
            for name, parameter in self._named
            if parameter in state
            for key in _KEYS
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        for name, parameter in self._named:
            if f"step/{name}" in tensors:
                values = {key: tensors[f"{key}/{name}"].to(parameter.device) for key in _KEYS}
                self._adam.state[parameter] = values
        for index, group in enumerate(self._adam.param_groups):
            first = self._adam.state.get(group["params"][0])
            self._steps[index] = int(first["step"]) if first else 0


def _groups(named: Iterable[tuple[str, nn.Parameter]]) -> list[dict[str, list[nn.Parameter]]]:
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in named:
        layer = _LAYER.match(name)
        groups.setdefault(layer.group() if layer else "", []).append(parameter)
    return [{"params": parameters} for parameters in groups.values()]


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
        """Return whether an update's gradients are finite, and adapt the scale. Only fp16 reads the device."""
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
        """State that a checkpoint keeps."""
        return self.scale, self._steady

    def restore(self, state: tuple[float, int]) -> None:
        """Continue from a checkpoint's state."""
        self.scale, self._steady = state

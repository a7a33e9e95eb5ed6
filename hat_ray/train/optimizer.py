"""Adam as HAT runs it (fairseq's), on PyTorch's fused kernel.

Decisions
- fairseq adds epsilon before the correction of the bias, PyTorch after it: in the first updates, small gradients then
  move weights differently. PyTorch's with epsilon / sqrt(1 - beta2^steps) is fairseq's, exactly.
- Steps count the updates that a parameter took part in. A layer is used whole or not at all, so its parameters are one
  group with one count, and one call of the kernel serves them all.
- A group without gradients is left alone: no step, no decay, no moments.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from hat_ray.train.config import TrainConfig

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

"""Result of a training, beside the model."""

from collections.abc import Mapping
from dataclasses import dataclass

from hat_ray.core.codec import Loss


@dataclass(frozen=True)
class TrainPoint:
    """The state of a training at one validation."""

    update: int
    """Updates made."""
    lr: float
    """Learning rate of the last of them."""
    train_loss_bits: Loss
    """Label-smoothed training loss in bits a target token, mean since the point before."""
    valid_loss_bits: Mapping[str, Loss]
    """Label-smoothed validation loss in bits a target token: `largest` and `smallest`, or `model` from scratch."""
    valid_nll_bits: Mapping[str, Loss]
    """The same without label smoothing; perplexity is 2 to its power."""
    tokens: int
    """Target tokens trained on."""
    seconds: float
    """Seconds of training, validation and checkpoints included, over all resumptions."""
    grad_norm: Loss
    """Norm of the gradient of the last update, before clipping."""


@dataclass(frozen=True)
class TrainResult:
    """A finished training. `valid_loss_bits` is that of the final model, after averaging."""

    history: tuple[TrainPoint, ...]
    updates: int
    tokens: int
    seconds: float
    valid_loss_bits: Mapping[str, Loss]
    valid_nll_bits: Mapping[str, Loss]

    def __post_init__(self) -> None:
        for point in self.history:
            if missing := self.valid_loss_bits.keys() - point.valid_loss_bits.keys():
                raise ValueError(f"the validation at update {point.update} lacks the loss of {min(missing)}")

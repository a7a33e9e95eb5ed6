"""What a training leaves behind, beside the model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class TrainPoint:
    """The state of a training at one validation."""

    update: int
    """Updates made so far."""
    lr: float
    """Learning rate of the last of them."""
    train_loss_bits: float
    """Label-smoothed training loss in bits a target token, mean since the point before."""
    valid_loss_bits: Mapping[str, float]
    """Label-smoothed validation loss in bits a target token: `largest` and `smallest`, or `model` from scratch."""
    valid_nll_bits: Mapping[str, float]
    """The same without label smoothing; perplexity is 2 to its power."""
    tokens: int
    """Target tokens trained on so far."""
    seconds: float
    """Seconds of training so far, validation and checkpoints included, over all resumptions."""
    grad_norm: float
    """Norm of the gradient of the last update, before clipping."""


@dataclass(frozen=True)
class TrainResult:
    """A finished training. `valid_loss_bits` is that of the final model, after averaging."""

    history: tuple[TrainPoint, ...]
    updates: int
    tokens: int
    seconds: float
    valid_loss_bits: Mapping[str, float]
    valid_nll_bits: Mapping[str, float]

    @property
    def tokens_per_s(self) -> float:
        """Target tokens a second, validation and checkpoints included."""
        return self.tokens / max(self.seconds, 1e-9)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "TrainResult":
        history = tuple(TrainPoint(**point) for point in value["history"])
        return cls(**{**value, "history": history})

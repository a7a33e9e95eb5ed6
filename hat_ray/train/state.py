"""State of a training between two updates, and its result, beside the model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hat_ray.core.codec import Loss
from hat_ray.train.data import Position

Ending = Literal["updates", "time", "no improvement"]
"""Why a training ended: it made its updates, its time was up, or its validations stopped improving."""


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
    valid_bleu: Mapping[str, float] = field(default_factory=dict)
    """BLEU of the same models on the lines that `valid_bleu_lines` asks for, translated greedily; empty: none."""


@dataclass(frozen=True)
class CurvePoint:
    """Means over the updates since the point before. A training has a hundred of them, or one an update."""

    update: int
    """Updates made."""
    lr: float
    """Learning rate of the last of them."""
    loss_bits: Loss
    """Label-smoothed training loss in bits a target token."""
    grad_norm: Loss
    """Norm of the gradient of an update, before clipping."""
    tokens_per_s: float
    """Target tokens a second, validations and checkpoints included."""
    seconds: float
    """Seconds of training, over all resumptions."""


@dataclass(frozen=True)
class TrainResult:
    """A finished training. `valid_loss_bits` is that of the final model, after averaging."""

    history: tuple[TrainPoint, ...]
    updates: int
    tokens: int
    seconds: float
    valid_loss_bits: Mapping[str, Loss]
    valid_nll_bits: Mapping[str, Loss]
    curve: tuple[CurvePoint, ...] = ()
    ended: Ending = "updates"
    made_of: tuple[int, ...] = ()
    """Updates of the checkpoints that the final model is the mean of."""

    def __post_init__(self) -> None:
        for point in self.history:
            if missing := self.valid_loss_bits.keys() - point.valid_loss_bits.keys():
                raise ValueError(f"the validation at update {point.update} lacks the loss of {min(missing)}")


@dataclass
class TrainState:
    """Values that change from update to update, beside the tensors."""

    update: int = 0
    """Updates made."""
    position: Position = field(default_factory=Position)
    sums: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Training loss and target tokens since the last point of the history, and target tokens in all."""
    recent: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Training loss, target tokens, gradient norms and their number, since the last point of the curve."""
    seconds: float = 0.0
    loss_scale: tuple[float, int] = (1.0, 0)
    """Of fp16: the factor of the loss, and the updates since it changed."""
    history: list[TrainPoint] = field(default_factory=list)
    curve: list[CurvePoint] = field(default_factory=list)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "TrainState":
        """Read the result of `dataclasses.asdict` back from JSON."""
        return cls(
            values["update"],
            Position(**values["position"]),
            tuple(values["sums"]),
            tuple(values["recent"]),
            values["seconds"],
            tuple(values["loss_scale"]),
            [TrainPoint(**point) for point in values["history"]],
            [CurvePoint(**point) for point in values["curve"]],
        )

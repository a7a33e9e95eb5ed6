"""What a cluster's dashboard shows of a training while it runs: metrics by name, from what the board knows.

They are told by the driver, not by the workers: so the age of the newest checkpoint goes on rising when workers hang or
are being replaced, which is what an alarm should be set on.
"""

from dataclasses import dataclass

from hat_ray.train.board import Notes

AGE = "hat_ray_train_checkpoint_age_seconds"
UPDATES = "hat_ray_train_updates"
VALID_LOSS = "hat_ray_train_valid_loss_bits"

METRICS = {
    UPDATES: "Updates made",
    "hat_ray_train_tokens_per_second": "Target tokens a second, since training was begun or resumed",
    "hat_ray_train_loss_bits": "Training loss in bits a target token, since the last validation",
    VALID_LOSS: "Validation loss in bits a target token, by model: largest, smallest, or model from scratch",
    AGE: "Seconds since the last checkpoint, or since training was begun or resumed",
    "hat_ray_train_learning_rate": "Learning rate of the last update",
    "hat_ray_train_gradient_norm": "Norm of the gradient of the last update that was logged, before clipping",
}
"""Descriptions by name."""

_OF_PROGRESS = {
    "tokens_per_s": "hat_ray_train_tokens_per_second",
    "loss_bits": "hat_ray_train_loss_bits",
    "lr": "hat_ray_train_learning_rate",
}
_VALID = "valid/loss_bits/"


@dataclass(frozen=True)
class Sample:
    """One value of one metric; `model` says whose validation loss it is, and is empty otherwise."""

    metric: str
    value: float
    model: str = ""


def samples(notes: Notes, began: float, now: float) -> list[Sample]:
    """Return what is known now of a training that was begun or resumed at `began`; both in seconds since 1970."""
    found = [Sample(AGE, max(0.0, now - (notes.saved or began)))]
    if notes.latest is not None:
        done, _, figures = notes.latest
        found.append(Sample(UPDATES, done))
        found += [Sample(_OF_PROGRESS[name], value) for name, value in figures.items() if name in _OF_PROGRESS]
    for name, value in notes.figures.items():
        if name.startswith(_VALID):
            found.append(Sample(VALID_LOSS, value, name.removeprefix(_VALID)))
        elif name == "train/grad_norm":
            found.append(Sample("hat_ray_train_gradient_norm", value))
    return found

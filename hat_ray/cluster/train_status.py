"""What a cluster's dashboard shows of a training while it runs: metrics by name, from what the board knows.

They are told by the driver, not by the workers: so the age of the newest checkpoint goes on rising when workers hang or
are being replaced, which is what an alarm should be set on.

Where workers pin up how far they are and what went wrong, and the driver looks.

It stands alone, without PyTorch, because it becomes a process of its own on a cluster, and that must start quickly.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from hat_ray.errors import HatRayError

Latest = tuple[int, int, dict[str, float]]
"""Updates done, updates in all, figures."""


@dataclass
class Notes:
    """What is known of one training."""

    latest: Latest | None = None
    """The progress that was told last."""
    figures: dict[str, float] = field(default_factory=dict)
    """The last value of each figure that a watcher was told."""
    saved: float | None = None
    """Time of the last checkpoint, in seconds since 1970 on the board's clock."""


class Board:
    """The notes of each training by number, and the first mistake of a user that any worker met."""

    def __init__(self) -> None:
        self._notes: dict[int, Notes] = {}
        self._mistake: HatRayError | None = None
        self._regroup = False

    def tell(self, index: int, latest: Latest) -> None:
        self._of(index).latest = latest

    def watch(self, index: int, figures: Mapping[str, float]) -> None:
        notes = self._of(index)
        notes.figures |= figures
        if "checkpoint/update" in figures:
            notes.saved = time.time()

    def notes(self) -> dict[int, Notes]:
        return self._notes

    def fail(self, mistake: HatRayError) -> None:
        self._mistake = self._mistake or mistake

    def mistake(self) -> HatRayError | None:
        return self._mistake

    def ask_to_regroup(self) -> None:
        """Ask the workers to end at their next checkpoint, so that a larger group can go on from it."""
        self._regroup = True

    def is_asked_to_regroup(self) -> bool:
        return self._regroup

    def _of(self, index: int) -> Notes:
        return self._notes.setdefault(index, Notes())


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

"""Where workers pin up how far they are and what went wrong, and the driver looks.

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

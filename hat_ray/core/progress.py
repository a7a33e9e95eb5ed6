"""How long work tells of itself: `progress(done, total, figures)`. The command line draws one bar from it."""

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    def __call__(self, done: int, total: int, figures: Mapping[str, float], /) -> None:
        """Say that `done` of `total` steps are over; `figures` are the latest values, such as the loss."""


def no_progress(done: int, total: int, figures: Mapping[str, float], /) -> None:
    """Tell nobody."""

"""The callback for the progress of long work: `progress(done, total, figures)`. The command line draws one bar."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol


class Progress(Protocol):
    def __call__(self, done: int, total: int, figures: Mapping[str, float], /) -> None:
        """Report that `done` of `total` steps are over; `figures` are the latest values, such as the loss."""


def no_progress(done: int, total: int, figures: Mapping[str, float], /) -> None:
    """Report nothing."""


ProgressFactory = Callable[[str], AbstractContextManager[Progress]]
"""Shows one piece of work under a label."""

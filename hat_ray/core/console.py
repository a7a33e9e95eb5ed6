"""Output while a command works: one progress bar on a terminal, a line at intervals elsewhere.

Everything here goes to stderr; stdout belongs to results.
"""

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TextIO

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from hat_ray.core.progress import Progress

QUIET_SECONDS = 60.0
"""Between two progress lines where there is no terminal."""

screen = Console(stderr=True)


def configure_logging(verbose: bool) -> None:
    """Send our own log records to stderr; other libraries' only from warnings on."""
    handler: logging.Handler
    if screen.is_terminal:
        handler = RichHandler(console=screen, show_path=False, show_time=False, markup=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = _ToStderr()
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    handler.addFilter(_Once())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("hat_ray").setLevel(logging.DEBUG if verbose else logging.INFO)


class _ToStderr(logging.StreamHandler[TextIO]):
    """Writes to what is stderr at that moment: the stream of a command may be closed before the process ends."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _Once:
    """Lets each line about a latency table through once: a command looks at a table's folders more than once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        line = record.getMessage()
        if not record.name.startswith("hat_ray.latency") or line not in self._seen:
            self._seen.add(line)
            return True
        return False


def say(message: str) -> None:
    """Print one line for people; a closed output does not end the work."""
    with suppress(OSError):
        screen.print(message, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """Show a progress bar; yields the callback that the work reports its progress to."""
    if screen.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=screen, transient=True) as bar:
            task = bar.add_task(label, total=None, figures="")

            def show(done: int, total: int, figures: Mapping[str, float], /) -> None:
                bar.update(task, completed=done, total=total, figures=_figures(figures))

            yield show
    else:
        yield _Lines(label)


class _Lines:
    """Progress as a line every `QUIET_SECONDS`, for logs and files."""

    def __init__(self, label: str) -> None:
        self.label, self.last = label, time.monotonic()
        self.first: tuple[int, float] | None = None

    def __call__(self, done: int, total: int, figures: Mapping[str, float], /) -> None:
        now = time.monotonic()
        if self.first is None or done < self.first[0]:  # lost work is done again
            self.first = done, now
        if now - self.last >= QUIET_SECONDS:
            self.last = now
            left = time_left(done - self.first[0], total - done, now - self.first[1])
            say(" ".join(filter(None, [self.label, f"{done}/{total}", _figures(figures), left])))


def time_left(made: int, missing: int, seconds: float) -> str:
    """Return the time that `missing` steps will take after `made` ones took `seconds`; empty when it is unknown."""
    if made <= 0 or missing <= 0:
        return ""
    minutes, rest = divmod(round(missing * seconds / made), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} left"


def _figures(figures: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in figures.items())

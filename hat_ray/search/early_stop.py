"""Early stop: a candidate that is surely beaten is scored on a part of the validation set only, and its loss estimated.

Life of a candidate: before it is scored, `bars` says how much loss it may have on each part of the validation set; its
scorer stops at the first part where it has more; `judge` turns what was scored into a loss, an estimated one where
it was stopped, and learns from it where it was not.

Decisions
- Hopeless is what does not reach any device's frontier: on each device something that takes no longer has less loss. So
  neither a limit's winner nor a point of a frontier is looked for among the stopped, whatever the limit.
- The whole loss is predicted from that of a part by a line through all that was scored whole, on the same sentences: it
  takes out what makes these sentences easy or hard. The bar lies `search.early_stop_margin` standard errors beyond.
- A tenth, chosen by the architecture's id, is always scored whole. They keep the line honest, and say how often the
  rule would have stopped something good: that error is shown beside what was saved.
- An estimated loss is learned from by the search's model, and counts for nothing else.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from hat_ray.search.watch import FrontierWatch
from hat_ray.space.architecture import Architecture

SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Shares of the validation set after which a candidate may be stopped."""
CONTROLS = 10
"""One in so many is scored whole, however bad it looks."""
_LEAST_WHOLE = 24
"""Candidates scored whole before any is stopped."""
_LEAST_SLOPE = 0.25
"""Where losses of a part say less about the whole ones, nothing is stopped."""

Bars = tuple[float, ...]
"""The most loss at each of `SHARES`; infinite where nothing is too much, empty where candidates are never stopped."""
NO_BARS: Bars = (math.inf,) * len(SHARES)


@dataclass(frozen=True)
class PartScore:
    """What a scorer found: the loss of the part of the validation set that it came to, the whole one or less."""

    loss: float
    share: float = 1.0
    """Of the validation set."""
    at_shares: tuple[float, ...] = ()
    """The loss over each part of `SHARES` that was reached."""


@dataclass(frozen=True)
class Judged:
    """A candidate's loss as the search takes it."""

    loss: float
    share: float = 1.0
    """Of the validation set that it was scored on; below 1 the loss is an estimate."""
    error: float = 0.0
    """The estimate's standard error, in bits."""
    at_shares: tuple[float, ...] = ()
    spared_at: float | None = None
    """The share at which a candidate that is scored whole whatever it looks like would have been stopped."""


@runtime_checkable
class ScoresInParts(Protocol):
    """A scorer that can stop."""

    def in_parts(self, architecture: Architecture, bars: Bars) -> PartScore:
        """Score part after part, and stop after the first whose loss is above its bar."""


def part_score(score: Callable[[Architecture], float], architecture: Architecture, bars: Bars) -> PartScore:
    """Score an architecture, in parts where there are bars and the scorer can stop at them."""
    if bars and isinstance(score, ScoresInParts):
        return score.in_parts(architecture, bars)
    return PartScore(float(score(architecture)))


@dataclass(frozen=True)
class Line:
    """Whole losses by those of a part: loss = `start` + `slope` * part, with this standard error."""

    start: float
    slope: float
    error: float

    def bar(self, loss: float, margin: float) -> float:
        """Return the part's loss from which on the whole one is above `loss` by `margin` standard errors."""
        return (loss - self.start + margin * self.error) / self.slope if self.slope >= _LEAST_SLOPE else math.inf

    def at(self, part: float) -> float:
        return self.start + self.slope * part


def line_through(parts: npt.NDArray[np.float64], losses: npt.NDArray[np.float64]) -> Line:
    """Return the line of least squares through losses (N,) of a part and of the whole set."""
    mean, centred = float(parts.mean()), parts - parts.mean()
    spread = float(centred @ centred)
    slope = float(centred @ losses) / spread if spread > 0 else 0.0
    start = float(losses.mean()) - slope * mean
    rest = losses - start - slope * parts
    return Line(start, slope, float(np.sqrt(rest @ rest / max(1, len(rest) - 2) * (1 + 1 / len(rest)))))


class EarlyStop:
    """What the search knows of losses of parts, and what follows for the next candidate."""

    def __init__(self, watch: FrontierWatch, margin: float | None) -> None:
        """`margin`: standard errors; None: candidates are never stopped."""
        self._watch, self._margin = watch, margin
        self._parts: list[tuple[float, ...]] = []
        self._losses: list[float] = []
        self._lines: list[Line] | None = None

    def bars(self, architecture: Architecture, latencies_ms: Mapping[str, float]) -> Bars:
        """Return what a candidate may have at each share."""
        if self._margin is None:
            return ()
        return NO_BARS if is_control(architecture) else self._bars(latencies_ms, self._margin)

    def _bars(self, latencies_ms: Mapping[str, float], margin: float) -> Bars:
        lines, least = self._fitted(), self._watch.least_loss(latencies_ms)
        return tuple(line.bar(least, margin) for line in lines) if lines and math.isfinite(least) else NO_BARS

    def judge(self, architecture: Architecture, latencies_ms: Mapping[str, float], score: PartScore) -> Judged:
        """Return a candidate's loss; one that was scored whole is learned from."""
        reached = len(score.at_shares)
        lines = self._fitted()
        if score.share < 1:
            line = lines[reached - 1]  # without lines there are no bars to stop at
            return Judged(line.at(score.loss), score.share, line.error, score.at_shares)
        spared = None
        if self._margin is not None and reached and is_control(architecture):
            bars = self._bars(latencies_ms, self._margin)
            above = [share for share, part, bar in zip(SHARES, score.at_shares, bars, strict=True) if part > bar]
            spared = above[0] if above else None
        self.learn(score.loss, score.at_shares)
        return Judged(score.loss, at_shares=score.at_shares, spared_at=spared)

    def learn(self, loss: float, at_shares: Sequence[float]) -> None:
        """Take what a candidate that was scored whole says of the parts."""
        if len(at_shares) == len(SHARES) and math.isfinite(loss) and np.isfinite(at_shares).all():
            self._parts.append(tuple(at_shares))
            self._losses.append(loss)
            self._lines = None

    def _fitted(self) -> list[Line]:
        if len(self._losses) < _LEAST_WHOLE:
            return []
        if self._lines is None:
            losses = np.array(self._losses)
            self._lines = [line_through(part, losses) for part in np.array(self._parts).T]
        return self._lines


def is_control(architecture: Architecture) -> bool:
    return int(architecture.id, 16) % CONTROLS == 0

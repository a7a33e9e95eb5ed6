"""Early stopping: a candidate that is surely beaten is scored on a part of the validation set, and its loss estimated.

Life of a candidate: before it is scored, `bars` returns the most loss it may have on each part of the validation set.
Its scorer stops at the first part where it has more. `estimate` turns the score into a loss: an estimate where scoring
was stopped; where it was not, the loss is learned from.

Decisions
- A candidate is hopeless when it reaches no frontier: on each device another one that takes no longer has less loss,
  and under each limit whose other bounds it keeps another one that also keeps them. So neither a limit's winner nor a
  point of a frontier is among the stopped candidates, however much latency a limit allows.
- The whole loss is predicted from the loss of a part by a line through all candidates that were scored whole, on the
  same sentences: it removes how easy or hard these sentences are. The bar lies `search.early_stop_margin` standard
  errors beyond.
- A tenth of the candidates, the controls, chosen by the architecture's id, is always scored whole. They keep the line
  honest, and show how often the rule would have stopped a good candidate: that error is reported beside the saving.
- The search's model learns from estimated losses, and they count for nothing else.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from hat_ray.search.candidates import Candidate
from hat_ray.search.frontier import frontier, scored_whole
from hat_ray.search.limits import Limit
from hat_ray.search.stopping import FrontierTracker, Values
from hat_ray.space.architecture import Architecture


@dataclass(frozen=True)
class EarlyStoppingSummary:
    """How much scoring early stopping saved in one search, and the error of its estimates."""

    candidates: int
    stopped: int
    saved_share: float
    """Share of all validation passes."""
    error_bits: float
    """Standard error of the estimated losses by the fitted lines, root of the mean square."""
    spared: int
    """Controls that would have been stopped, and were scored whole."""
    spared_error_bits: float | None
    """Error of the estimates that these would have got, root of the mean square."""
    spared_on_frontier: int
    """Those of them on a frontier at the end: each would have been lost by mistake."""

    def __str__(self) -> str:
        off = "" if self.spared_error_bits is None else f" (estimates off by {self.spared_error_bits:.4f} bits)"
        return (
            f"stopped early: {self.stopped} of {self.candidates}, {100 * self.saved_share:.0f} % of scoring saved, "
            f"estimated losses +- {self.error_bits:.4f} bits; of {self.spared} controls that would have been stopped"
            f"{off} {self.spared_on_frontier} stand on a frontier"
        )


def early_stopping_summary(
    candidates: Sequence[Candidate], limits: Sequence[Limit] = ()
) -> EarlyStoppingSummary | None:
    """Return the effect of early stopping on a search; None where candidates were not scored in parts."""
    scored = [one for one in candidates if one.loss_at_shares]
    if not scored:
        return None
    stopped, spared = [one for one in scored if one.estimated], [one for one in scored if one.would_stop_at is not None]
    devices = {device for one in scored for device in one.latency_ms}
    best = {one.architecture for device in devices for one in frontier(candidates, device)}
    for group in {limit.group for limit in limits if limit.group.bounds}:
        best |= {one.architecture for one in frontier(candidates, group.device, group)}
    return EarlyStoppingSummary(
        candidates=len(scored),
        stopped=len(stopped),
        saved_share=sum(1 - one.scored_share for one in scored) / len(scored),
        error_bits=_root_mean_square([one.loss_error_bits for one in stopped]),
        spared=len(spared),
        spared_error_bits=_spared_error(scored_whole(scored), spared),
        spared_on_frontier=sum(one.architecture in best for one in spared),
    )


def _spared_error(whole: Sequence[Candidate], spared: Sequence[Candidate]) -> float | None:
    """Estimate each spared control by the line through what would have been scored whole anyway."""
    learned = [one for one in whole if one.would_stop_at is None and np.isfinite(one.loss_bits)]
    if len(learned) < 3 or not spared:
        return None
    losses = [one.loss_bits for one in learned]
    lines = [line_through(part, losses) for part in zip(*(one.loss_at_shares for one in learned), strict=True)]
    off = []
    for one in spared:
        place = SHARES.index(one.would_stop_at)
        off.append(lines[place].at(one.loss_at_shares[place]) - one.loss_bits)
    return _root_mean_square(off)


def _root_mean_square(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values else 0.0


SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Shares of the validation set after which a candidate may be stopped."""
CONTROLS = 10
"""One candidate in ten is scored whole, however bad it looks."""
_LEAST_WHOLE = 24
"""Candidates scored whole before any is stopped."""
_LEAST_SLOPE = 0.25
"""Where whole losses depend less on those of a part, nothing is stopped."""

Bars = tuple[float, ...]
"""The most loss at each of `SHARES`; infinite where every loss is allowed, empty where candidates are never stopped."""
NO_BARS: Bars = (math.inf,) * len(SHARES)


@dataclass(frozen=True)
class PartScore:
    """The result of a scorer: the loss over the validation set, or over the part where it stopped."""

    loss_bits: float
    share: float = 1.0
    """Of the validation set."""
    at_shares: tuple[float, ...] = ()
    """The loss over each part of `SHARES` that was reached."""


@dataclass(frozen=True)
class LossEstimate:
    """A candidate's loss: exact, or estimated from a part of the validation set."""

    loss_bits: float
    share: float = 1.0
    """Of the validation set that it was scored on; below 1 the loss is an estimate."""
    error: float = 0.0
    """The estimate's standard error, in bits."""
    at_shares: tuple[float, ...] = ()
    would_stop_at: float | None = None
    """The share at which a control would have been stopped."""


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


class LineFit:
    """The line of least squares through pairs that come one by one: a part's loss, and the whole loss."""

    def __init__(self) -> None:
        self._count = 0
        self._part = self._whole = 0.0  # means
        self._parts = self._wholes = self._both = 0.0  # sums of squares and of products of the distances from them

    def add(self, part: float, whole: float) -> None:
        """Add a pair (Welford, 1962)."""
        self._count += 1
        off_part, off_whole = part - self._part, whole - self._whole
        self._part += off_part / self._count
        self._whole += off_whole / self._count
        self._parts += off_part * (part - self._part)
        self._wholes += off_whole * (whole - self._whole)
        self._both += off_part * (whole - self._whole)

    @property
    def line(self) -> Line:
        """The line through one pair or more."""
        slope = self._both / self._parts if self._parts > 0 else 0.0
        rest = max(0.0, self._wholes - slope * self._both)
        error = math.sqrt(rest / max(1, self._count - 2) * (1 + 1 / self._count))
        return Line(self._whole - slope * self._part, slope, error)


def line_through(parts: Iterable[float], losses: Iterable[float]) -> Line:
    """Return the line of least squares through losses (N,) of a part and of the whole set."""
    fit = LineFit()
    for part, loss in zip(parts, losses, strict=True):
        fit.add(part, loss)
    return fit.line


class EarlyStop:
    """Decides when scoring stops, and estimates the losses of stopped candidates."""

    def __init__(self, frontiers: FrontierTracker, margin: float | None) -> None:
        """`margin`: standard errors; None: candidates are never stopped."""
        self._frontiers, self._margin = frontiers, margin
        self._fits = [LineFit() for _ in SHARES]
        self._learned = 0

    def bars(self, architecture: Architecture, values: Values) -> Bars:
        """Return the most loss that a candidate may have at each share."""
        if self._margin is None:
            return ()
        return NO_BARS if is_control(architecture) else self._bars(values, self._margin)

    def _bars(self, values: Values, margin: float) -> Bars:
        lines, least = self._fitted(), self._frontiers.least_loss(values)
        return tuple(line.bar(least, margin) for line in lines) if lines and math.isfinite(least) else NO_BARS

    def estimate(self, architecture: Architecture, values: Values, score: PartScore) -> LossEstimate:
        """Return a candidate's loss; learn from one that was scored whole."""
        reached = len(score.at_shares)
        lines = self._fitted()
        if score.share < 1:
            line = lines[reached - 1]  # without lines there are no bars to stop at
            return LossEstimate(line.at(score.loss_bits), score.share, line.error, score.at_shares)
        would_stop_at = None
        if self._margin is not None and reached and is_control(architecture):
            bars = self._bars(values, self._margin)
            above = [share for share, part, bar in zip(SHARES, score.at_shares, bars, strict=True) if part > bar]
            would_stop_at = above[0] if above else None
        self.learn(score.loss_bits, score.at_shares)
        return LossEstimate(score.loss_bits, at_shares=score.at_shares, would_stop_at=would_stop_at)

    def learn(self, loss: float, at_shares: Sequence[float]) -> None:
        """Use the parts of a candidate that was scored whole for the lines."""
        if len(at_shares) == len(SHARES) and math.isfinite(loss) and np.isfinite(at_shares).all():
            self._learned += 1
            for fit, part in zip(self._fits, at_shares, strict=True):
                fit.add(part, loss)

    def _fitted(self) -> list[Line]:
        return [fit.line for fit in self._fits] if self._learned >= _LEAST_WHOLE else []


def is_control(architecture: Architecture) -> bool:
    return int(architecture.id, 16) % CONTROLS == 0

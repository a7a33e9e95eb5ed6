"""What the search gained over each kind of rival, in one sentence a winner, also where it gained nothing.

Decisions
- A difference counts where paired bootstrap over sentences gives a p value below 5 % (of several seeds the least
  favourable one), and where several seeds were trained, where it also exceeds twice its standard error over seeds.
  Any other difference is called level, with its figures.
- Of several random rivals the mean is compared; it differs where it does by more than twice its standard error over
  the rivals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from hat_ray.core.text import fixed, milliseconds, signed
from hat_ray.report.data import ChosenModel, ReportData
from hat_ray.report.reading import BY_HAND, latency_ms
from hat_ray.search.selection import HAND_SCALED, Kind

_ALPHA, _ERRORS = 0.05, 2.0
_LEAST = 0.05
"""BLEU; less is shown as 0.0."""
ONE_SEED = "one training each: the spread over seeds is not known"


@dataclass(frozen=True)
class Gain:
    """A winner against one kind of rival."""

    kind: Kind
    rivals: tuple[ChosenModel, ...]
    bleu: float
    """BLEU of the winner minus that of the rivals, means over seeds and rivals."""
    differs: bool
    """Whether it is more than noise."""
    p: float | None
    """Of one rival, by paired bootstrap."""


def gains(data: ReportData, winner: ChosenModel) -> list[Gain]:
    """Return what a winner gained over each kind of rival that was scored: scaled by hand first, then random."""
    found = []
    for kind in (*HAND_SCALED, "random"):
        rivals = tuple(m for m in data.chosen if m.kind == kind and m.limit == winner.limit and m.bleu is not None)
        others = tuple(one for one in rivals if one.architecture != winner.architecture)
        if winner.bleu is not None and others:
            found.append(_gain(data, winner, others))
    return found


def _gain(data: ReportData, winner: ChosenModel, rivals: tuple[ChosenModel, ...]) -> Gain:
    means = [one.bleu for one in rivals if one.bleu is not None]
    gained = (winner.bleu or 0.0) - fmean(means)
    if len(rivals) > 1:
        error = math.hypot(stdev(means) / math.sqrt(len(means)), _error_over_seeds(winner))
        return Gain(rivals[0].kind, rivals, gained, abs(gained) > max(_LEAST, _ERRORS * error), None)
    ids = winner.architecture.id, rivals[0].architecture.id
    p = next((one.p for one in data.comparisons if (one.winner, one.rival) == ids), None)
    error = math.hypot(_error_over_seeds(winner), _error_over_seeds(rivals[0]))
    differs = p is not None and p < _ALPHA and abs(gained) > max(_LEAST, _ERRORS * error)
    return Gain(rivals[0].kind, rivals, gained, differs, p)


def _error_over_seeds(model: ChosenModel) -> float:
    """Return the standard error of a mean over seeds; 0 with one seed."""
    return 0.0 if model.bleu_spread is None else model.bleu_spread / math.sqrt(len(model.bleus))


def best_by_hand(data: ReportData, winner: ChosenModel) -> ChosenModel | None:
    """Return the best of a winner's rivals that are scaled by hand."""
    found = [one for gain in gains(data, winner) if gain.kind in HAND_SCALED for one in gain.rivals]
    return max(found, key=lambda one: one.bleu or 0.0, default=None)


def gain_sentence(data: ReportData, winner: ChosenModel, device: str) -> str:
    """Return the one sentence on what the search gained over each kind of rival; empty without rivals."""
    clauses = [_clause(gain, device) for gain in gains(data, winner)]
    clauses += [
        f"found no rival “{BY_HAND[one.kind].lower()}” ({one.reason})"
        for one in data.missing
        if one.limit == winner.limit
    ]
    if not clauses:
        return ""
    joined = clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])} and {clauses[-1]}"
    seeds = len(winner.bleus)
    spread = ONE_SEED if seeds < 2 else f"mean ± standard deviation of {seeds} trainings each"
    return f"With {score_text(winner)} BLEU the search {joined} ({spread})."


def score_text(model: ChosenModel) -> str:
    """Return a model's BLEU with its spread over seeds."""
    spread = "" if model.bleu_spread is None else f" ± {fixed(model.bleu_spread, 1)}"
    return f"{fixed(model.bleu, 1)}{spread}"


def _clause(gain: Gain, device: str) -> str:
    who = _who(gain, device)
    if not gain.differs:
        return f"was level with {who[:-1]}, {signed(gain.bleu, 1)})"
    if gain.bleu > 0:
        return f"gained {fixed(gain.bleu, 1)} over {who}"
    return f"lost {fixed(-gain.bleu, 1)} to {who}"


def _who(gain: Gain, device: str) -> str:
    p = "" if gain.p is None else f", p {gain.p:.3f}"
    if len(gain.rivals) == 1:
        one = gain.rivals[0]
        name = "a random architecture" if gain.kind == "random" else f"“{BY_HAND[gain.kind].lower()}”"
        return f"{name} ({score_text(one)} at {milliseconds(latency_ms(one, device))}{p})"
    return f"{len(gain.rivals)} random architectures (mean {_range(gain.rivals)})"


def _range(rivals: Sequence[ChosenModel]) -> str:
    means = [one.bleu for one in rivals if one.bleu is not None]
    return f"{fixed(fmean(means), 1)} ± {fixed(stdev(means), 1)}, from {fixed(min(means), 1)} to {fixed(max(means), 1)}"

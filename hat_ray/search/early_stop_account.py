"""What early stopping saved in a search, and the error that it made: told by the controls that it spared."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hat_ray.search.candidates import Candidate
from hat_ray.search.early_stop import SHARES, line_through
from hat_ray.search.result import frontier, scored_whole


@dataclass(frozen=True)
class Account:
    """Counts of one search, and how far estimates are off."""

    candidates: int
    stopped: int
    saved_share: float
    """Share of all validation passes that was saved."""
    error_bits: float
    """Standard error of the estimated losses, root of the mean square; as the lines through whole ones say it."""
    spared: int
    """Controls that would have been stopped, and were scored whole."""
    spared_error_bits: float | None
    """How far the estimates that these would have got are off their losses, root of the mean square."""
    spared_on_frontier: int
    """How many of these stand on a frontier at the end: each would have been lost by mistake."""

    def __str__(self) -> str:
        off = "" if self.spared_error_bits is None else f" (estimates off by {self.spared_error_bits:.4f} bits)"
        return (
            f"stopped early: {self.stopped} of {self.candidates}, {100 * self.saved_share:.0f} % of scoring saved, "
            f"estimated losses +- {self.error_bits:.4f} bits; of {self.spared} controls that would have been stopped"
            f"{off} {self.spared_on_frontier} stand on a frontier"
        )


def account_of(candidates: Sequence[Candidate]) -> Account | None:
    """Return the account of a search; None where candidates were not scored in parts."""
    scored = [one for one in candidates if one.loss_at_shares]
    if not scored:
        return None
    stopped, spared = [one for one in scored if one.estimated], [one for one in scored if one.spared_at is not None]
    devices = {device for one in scored for device in one.latency_ms}
    best = {one.architecture for device in devices for one in frontier(candidates, device)}
    return Account(
        candidates=len(scored),
        stopped=len(stopped),
        saved_share=sum(1 - one.scored_share for one in scored) / len(scored),
        error_bits=_root_mean_square([one.loss_error for one in stopped]),
        spared=len(spared),
        spared_error_bits=_spared_error(scored_whole(scored), spared),
        spared_on_frontier=sum(one.architecture in best for one in spared),
    )


def _spared_error(whole: Sequence[Candidate], spared: Sequence[Candidate]) -> float | None:
    """Estimate each spared control by the line through what would have been scored whole anyway."""
    learned = [one for one in whole if one.spared_at is None and np.isfinite(one.loss)]
    if len(learned) < 3 or not spared:
        return None
    losses, parts = np.array([one.loss for one in learned]), np.array([one.loss_at_shares for one in learned])
    lines = [line_through(part, losses) for part in parts.T]
    off = []
    for one in spared:
        place = SHARES.index(one.spared_at)
        off.append(lines[place].at(one.loss_at_shares[place]) - one.loss)
    return _root_mean_square(off)


def _root_mean_square(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values else 0.0

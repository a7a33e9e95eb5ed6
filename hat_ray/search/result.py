"""What a search found: the winner of each limit and the frontier of each device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hat_ray.search.candidates import Candidate
from hat_ray.search.frontier import hypervolume, pareto_front
from hat_ray.search.limits import Limit


@dataclass(frozen=True)
class Winner:
    """The best candidate that keeps a limit."""

    limit: Limit
    candidate: Candidate


@dataclass(frozen=True)
class SearchResult:
    """Every candidate in the order of asking; the winner of each limit; each device's frontier, fastest first."""

    candidates: tuple[Candidate, ...]
    winners: tuple[Winner, ...]
    frontiers: Mapping[str, tuple[Candidate, ...]]


def summarise(candidates: Sequence[Candidate], limits: Sequence[Limit]) -> SearchResult:
    """Pick winners and frontiers from scored candidates: where some were measured to keep a limit, one of these."""
    devices = tuple(dict.fromkeys(limit.device for limit in limits))
    winners, whole = [], scored_whole(candidates)
    for limit in limits:
        within = [candidate for candidate in whole if candidate.takes_ms(limit.device) <= limit.ms]
        measured = [candidate for candidate in within if limit.device in candidate.measured_ms]
        best = favourite(measured or within, limit)
        if best is not None:
            winners.append(Winner(limit, best))
    return SearchResult(tuple(candidates), tuple(winners), {device: frontier(candidates, device) for device in devices})


def scored_whole(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates whose loss is no estimate: only these win, or stand on a frontier."""
    return [candidate for candidate in candidates if not candidate.estimated]


def favourite(
    candidates: Sequence[Candidate], limit: Limit, caution: Mapping[str, float] | None = None
) -> Candidate | None:
    """Return the candidate with the least loss that keeps a limit, by all that is known.

    `caution` is a factor by device: what was not measured must keep the limit even if it takes so many times longer; if
    nothing does, the fastest of what was not measured is returned.
    """
    device, factor = limit.device, (caution or {}).get(limit.device, 1.0)
    within = [one for one in scored_whole(candidates) if one.takes_ms(device) <= limit.ms]
    surely = [one for one in within if device in one.measured_ms or factor * one.latency_ms[device] <= limit.ms]
    if surely or not within:
        return min(surely, key=lambda candidate: (candidate.loss, candidate.order), default=None)
    return min(within, key=lambda candidate: (candidate.latency_ms[device], candidate.order))


def frontier(candidates: Sequence[Candidate], device: str) -> tuple[Candidate, ...]:
    """Return the candidates that no other beats in both loss and latency on a device, fastest first."""
    candidates = scored_whole(candidates)
    places = pareto_front([c.loss for c in candidates], [c.takes_ms(device) for c in candidates])
    return tuple(candidates[place] for place in places)


def hypervolume_of(candidates: Sequence[Candidate], device: str, reference: tuple[float, float]) -> float:
    """Return the area that candidates dominate on a device, up to a reference (loss, latency in ms)."""
    candidates = scored_whole(candidates)
    return hypervolume([c.loss for c in candidates], [c.takes_ms(device) for c in candidates], reference)

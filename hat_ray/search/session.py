"""One search with its record on disk: what is asked, what came back, and where it was when it was killed.

Both drivers stand on it: `search.py` in one process, `cluster.py` on Ray. The candidates table is the truth: what
stands in it is never scored again, whatever else was lost.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hat_ray.errors import SearchError
from hat_ray.progress import Progress, silent
from hat_ray.search.candidates import Candidate, CandidateTable
from hat_ray.search.config import SearchConfig
from hat_ray.search.evolution import Evolution
from hat_ray.search.frontier import hypervolume, pareto_front
from hat_ray.search.limits import LatencyFunction, Limit
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage import Folder

Score = Callable[[Architecture], float]
"""The validation loss of one architecture, such as `CandidateScorer`."""

_FLUSH_S = 2.0


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


class Session:
    """A search that is under way: an `Evolution`, its candidates table, and who is told of progress."""

    def __init__(
        self,
        space: SearchSpace,
        latency_ms: Mapping[str, LatencyFunction],
        limits: Sequence[Limit],
        config: SearchConfig,
        folder: Folder,
        seed: int,
        progress: Progress = silent,
    ) -> None:
        self.evolution = Evolution(space, latency_ms, limits, config, seed)
        self.config, self.folder, self._progress = config, folder, progress
        self._table = CandidateTable(folder)
        self._identity = _identity(space, latency_ms, limits, config, seed)
        self._require_same_search()
        self.known = {candidate.architecture: candidate for candidate in self._table.read()}
        """Candidates that stand in the table, by architecture."""
        self._unwritten: list[Candidate] = []
        self._written_at = time.monotonic()

    def record(self, architecture: Architecture, loss: float, seconds: float) -> None:
        """Tell the evolution a loss, put the candidate on the list to be written, and say how far the search is."""
        self.evolution.tell(architecture, loss)
        if architecture not in self.known:
            candidate = self._candidate(architecture, seconds)
            self.known[architecture] = candidate
            self._unwritten.append(candidate)
        if time.monotonic() - self._written_at > _FLUSH_S:
            self.write()
        self._progress(len(self.evolution.losses), self.config.evaluations, self._figures())

    def write(self) -> None:
        """Put what was recorded on disk now."""
        self._table.append(self._unwritten)
        self._unwritten, self._written_at = [], time.monotonic()

    def close(self) -> SearchResult:
        """Write the table as one file and return what was found."""
        self.write()
        self._table.compact()
        return self.result()

    def result(self) -> SearchResult:
        told = self.evolution.losses
        candidates = sorted((c for a, c in self.known.items() if a in told), key=lambda candidate: candidate.order)
        return summarise(candidates, self.evolution.limits)

    def _candidate(self, architecture: Architecture, seconds: float) -> Candidate:
        proposal = self.evolution.proposal(architecture)
        return Candidate(
            architecture=architecture,
            loss=self.evolution.losses[architecture],
            latency_ms=self.evolution.latencies_ms(architecture),
            order=proposal.order,
            generation=proposal.generation,
            origin=proposal.origin,
            parents=proposal.parents,
            seconds=seconds,
        )

    def _figures(self) -> dict[str, float]:
        figures: dict[str, float] = {}
        several = len({limit.device for limit in self.evolution.limits}) > 1
        for limit in self.evolution.limits:
            best = self.evolution.best(limit)
            if best is not None:
                place = f"{limit.device[:24]} " if several else ""
                figures[f"{place}<{limit.ms:.4g} ms:"] = self.evolution.losses[best]
        return figures

    def _require_same_search(self) -> None:
        """Refuse a folder that holds another search; name this one there otherwise."""
        if self.folder.exists("search.json"):
            if self.folder.read_json("search.json") != self._identity:
                raise SearchError(
                    f"{self.folder} holds a search with another space, predictor, limits, settings or seed: "
                    f"use another folder or delete it"
                )
        else:
            self.folder.write_json("search.json", self._identity)


def summarise(candidates: Sequence[Candidate], limits: Sequence[Limit]) -> SearchResult:
    """Pick winners and frontiers from scored candidates."""
    devices = tuple(dict.fromkeys(limit.device for limit in limits))
    winners = []
    for limit in limits:
        within = [candidate for candidate in candidates if candidate.latency_ms[limit.device] <= limit.ms]
        if within:
            winners.append(Winner(limit, min(within, key=lambda candidate: (candidate.loss, candidate.order))))
    return SearchResult(tuple(candidates), tuple(winners), {device: frontier(candidates, device) for device in devices})


def frontier(candidates: Sequence[Candidate], device: str) -> tuple[Candidate, ...]:
    """Return the candidates that no other beats in both loss and latency on a device, fastest first."""
    places = pareto_front([c.loss for c in candidates], [c.latency_ms[device] for c in candidates])
    return tuple(candidates[place] for place in places)


def hypervolume_of(candidates: Sequence[Candidate], device: str, reference: tuple[float, float]) -> float:
    """Return the area that candidates dominate on a device, up to a reference (loss, latency in ms)."""
    return hypervolume([c.loss for c in candidates], [c.latency_ms[device] for c in candidates], reference)


def _identity(
    space: SearchSpace,
    latency_ms: Mapping[str, LatencyFunction],
    limits: Sequence[Limit],
    config: SearchConfig,
    seed: int,
) -> dict[str, str]:
    """Return what makes two searches the same, in words and as one hash; the predictors by what they answer."""
    settings = config.decisive()
    probes = {d: [f"{ms:.6g}" for ms in f([space.smallest(), space.largest()])] for d, f in latency_ms.items()}
    asked = [[limit.device, limit.ms] for limit in limits]
    text = json.dumps([space.id, settings, probes, asked, seed], sort_keys=True)
    return {
        "space": space.id,
        "limits": "; ".join(map(str, limits)),
        "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16],
    }

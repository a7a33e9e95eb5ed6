"""A whole search: evolve, time the winners on their devices, learn from what broke its limit, and evolve again.

A round is one phase of evolution and what follows it: each limit's best candidate is timed; where it breaks its limit
the next best is, until one keeps it. Measured milliseconds then stand in the place of predicted ones. When something
broke, its device's predictor is fitted again to a table that has the new rows, and another, shorter phase follows.

Decisions
- `rounds.json` and the predictors of each round lie in the search's folder. The predictor stage is finished and what
  depends on it must not change under it; and a shared latency table grows meanwhile, so a killed search that fitted
  again would not go on as it had begun.
- A timing session may find a device quieter than all before: every row of it is then taken to be faster. The predictor
  in force still has the old scale, so it is fitted again, limits that are fractions of its range are taken from the new
  one, and another phase follows.
- What the devices said is kept in `rounds.json` for the same reason; the rows themselves are in the latency table, for
  whoever fits next.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pydantic import BaseModel, ConfigDict, TypeAdapter

from hat_ray.core.codec import read_typed, write_sealed
from hat_ray.search.candidates import Candidate, CandidateTable
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.device_latency import DeviceLatency, Times, refreshed
from hat_ray.search.engine.session import Phase
from hat_ray.search.frontier import SearchResult, favourite, summarise
from hat_ray.search.limits import LatencyFunction, Limit, fastest
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder

logger = logging.getLogger(__name__)

FILE = "rounds.json"
_TRIES = 8
"""How many candidates of each limit a round times at most before the search goes on without."""
_BOLD_TRIES = 4
"""After so many, what is not timed must keep its limit with a margin; step by step the margin becomes as large as the
worst that was seen. Where nothing does, the fastest is timed: it is what can be kept."""

SCALE_TOLERANCE = 0.005
"""Where a device's rows moved by more, as a share, its predictor is fitted again."""


class Devices(Protocol):
    """The devices that a search is for, as it sees them."""

    def measure(self, architectures: Sequence[Architecture]) -> Mapping[str, Times]:
        """Time architectures on every device that can be reached; what was timed before need not be again."""

    def learn(self, device: str, round_: int) -> DeviceLatency:
        """Fit a device's predictor again, with the rows that `measure` added, and keep it as that of a round."""

    def recall(self, device: str, round_: int) -> DeviceLatency:
        """Return what `learn` kept."""

    def scale(self, device: str) -> float:
        """Return how many times as long as when its predictor was fitted the same rows are taken to last now."""


ResolveLimits = Callable[[Mapping[str, DeviceLatency]], Sequence[Limit]]
"""Finds the limits in milliseconds by what is known of the devices."""

RunPhase = Callable[[Mapping[str, LatencyFunction], Sequence[Limit], Phase], object]
"""Does one phase of evolution; what it scores stands in the candidates table."""


class _Round(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    measured_ms: dict[str, dict[str, float]]
    """Milliseconds by device and by architecture in canonical JSON: all that is known after this round."""
    learned: tuple[str, ...]
    """Devices whose predictor was fitted again."""
    limits_ms: tuple[tuple[str, float], ...] = ()
    """Device and limit, from then on; empty where they stayed as they were."""
    final: bool


class _Book(BaseModel):
    """The rounds that are over."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: tuple[_Round, ...] = ()


_BOOK = TypeAdapter(_Book)


@dataclass(frozen=True)
class Outcome:
    """What a whole search found, and how latency is predicted by now."""

    result: SearchResult
    limits: Sequence[Limit]
    devices: Mapping[str, DeviceLatency]


@dataclass
class SearchInRounds:
    """A search with its devices; `run` does it, or what a kill left of it."""

    space: SearchSpace
    limits: Sequence[Limit]
    config: SearchConfig
    folder: Folder
    predictors: Mapping[str, DeviceLatency]
    devices: Devices
    run_phase: RunPhase
    scored_by: str = ""
    resolve: ResolveLimits | None = None
    """None: the limits are milliseconds, which no scale changes."""

    def run(self) -> Outcome:
        """Search, measure, learn and search again as often as the settings allow; candidates keep what is known."""
        book = self._read()
        known, measured = dict(self.predictors), _measured(book)
        for number, round_ in enumerate(book.rounds):
            known |= {device: self.devices.recall(device, number) for device in round_.learned}
            self._take_limits(round_)
        while not (book.rounds and book.rounds[-1].final):
            number = len(book.rounds)
            self._evolve(known, measured, number)
            # the predictions that this round's phase was made with: what is learned now serves the next one
            broke = self._measure_winners(known, measured) if self.config.measure_rounds else set()
            moved = self._moved(known, measured) if self.config.measure_rounds else set()
            learned = {device: self.devices.learn(device, number) for device in sorted(broke | moved)}
            packed = {name: {a.to_json(): ms for a, ms in times.items()} for name, times in measured.items()}
            known |= learned
            round_ = _Round(
                measured_ms=packed,
                learned=tuple(learned),
                limits_ms=self._limits_after(known, moved),
                final=self._is_final(number, bool(broke), bool(moved)),
            )
            book = _Book(rounds=(*book.rounds, round_))
            write_sealed(self.folder, FILE, book.model_dump(mode="json"))
            self._take_limits(round_)
        candidates = self._candidates(known, measured)
        CandidateTable(self.folder).replace(candidates)
        result = summarise(candidates, self.limits)
        self._warn_of_losers(result)
        return Outcome(result, self.limits, known)

    def _is_final(self, number: int, broke: bool, moved: bool) -> bool:
        """Tell whether a round is the last: where a scale moved in what would be, its winners are timed once more."""
        most = self.config.measure_rounds
        if moved:
            return number > most
        return not broke or number >= most or self.config.evaluations_more == 0

    def _moved(self, known: Mapping[str, DeviceLatency], measured: dict[str, dict[Architecture, float]]) -> set[str]:
        """Return the devices whose rows have another scale than their predictor; bring what was measured to it."""
        moved = set()
        for device in known:
            scale = self.devices.scale(device)
            if abs(scale - 1) > SCALE_TOLERANCE:
                moved.add(device)
                logger.warning(
                    "%s: its rows are taken to last %.1f %% %s since a timing session found another quiet level: its "
                    "predictor is fitted again",
                    *(device, 100 * abs(scale - 1), "less" if scale < 1 else "longer"),
                )
        if moved:
            every = list(dict.fromkeys(one for times in measured.values() for one in times))
            for device, times in self.devices.measure(every).items() if every else ():
                measured.setdefault(device, {}).update(times)
        return moved

    def _limits_after(self, known: Mapping[str, DeviceLatency], moved: set[str]) -> tuple[tuple[str, float], ...]:
        if self.resolve is None or not moved:
            return ()
        new = [limit for limit in self.resolve(known) if limit.device in moved]
        return tuple((limit.device, limit.ms) for limit in [*(x for x in self.limits if x.device not in moved), *new])

    def _take_limits(self, round_: _Round) -> None:
        if round_.limits_ms:
            self.limits = [Limit(device, ms) for device, ms in round_.limits_ms]
            logger.info("the limits are now %s", "; ".join(map(str, self.limits)))

    def _read(self) -> _Book:
        return read_typed(self.folder, FILE, _BOOK) if self.folder.exists(FILE) else _Book()

    def _candidates(self, known: Mapping[str, DeviceLatency], measured: Mapping[str, Times]) -> list[Candidate]:
        return refreshed(CandidateTable(self.folder).read(), known, measured)

    def _evolve(self, known: Mapping[str, DeviceLatency], measured: Mapping[str, Times], number: int) -> None:
        functions = {name: device.corrected(measured.get(name, {})) for name, device in known.items()}
        limits = self.limits if number == 0 else _reachable(self.space, functions, self.limits)
        phase = Phase(
            number,
            None if number == 0 else self.config.evaluations_more,
            {name: device.interval_ms for name, device in known.items()},
            self.scored_by,
        )
        if limits:
            self.run_phase(functions, limits, phase)

    def _measure_winners(
        self, known: Mapping[str, DeviceLatency], measured: dict[str, dict[Architecture, float]]
    ) -> set[str]:
        """Time each limit's best candidate until one keeps it; return the devices where some did not."""
        slower: dict[str, float] = {}  # by device: the most that a broken limit's candidate took, over its prediction
        silent: set[str] = set()
        for number in range(_TRIES):
            candidates = self._candidates(known, measured)
            part = max(0, number + 1 - _BOLD_TRIES) / (_TRIES - _BOLD_TRIES)
            caution = {device: worst**part for device, worst in slower.items()}
            best = {limit: found for limit in self.limits if (found := favourite(candidates, limit, caution))}
            new = {
                limit: one
                for limit, one in best.items()
                if limit.device not in one.measured_ms and limit.device not in silent
            }
            if not new:
                break
            architectures = list(dict.fromkeys(one.architecture for one in new.values()))
            for device, times in self.devices.measure(architectures).items():
                measured.setdefault(device, {}).update(times)
            for limit, one in new.items():
                ms = measured.get(limit.device, {}).get(one.architecture)
                if ms is None:
                    silent.add(limit.device)
                    logger.warning("%s timed nothing: its winners are as predicted", limit.device)
                elif ms > limit.ms:
                    slower[limit.device] = max(slower.get(limit.device, 1.0), ms / one.latency_ms[limit.device])
                    logger.info("%s was the best under %s and takes %.4g ms", one.architecture.id, limit, ms)
        return set(slower)

    def _warn_of_losers(self, result: SearchResult) -> None:
        won = {winner.limit for winner in result.winners}
        for limit in self.limits:
            if limit not in won:
                logger.warning("no candidate keeps %s by what was measured: raise search.limits_ms", limit)
        for winner in result.winners if self.config.measure_rounds else ():
            if winner.limit.device not in winner.candidate.measured_ms:
                logger.warning("the winner under %s was not timed", winner.limit)


def _measured(book: _Book) -> dict[str, dict[Architecture, float]]:
    if not book.rounds:
        return {}
    return {
        device: {Architecture.from_json(text): ms for text, ms in times.items()}
        for device, times in book.rounds[-1].measured_ms.items()
    }


def _reachable(space: SearchSpace, functions: Mapping[str, LatencyFunction], limits: Sequence[Limit]) -> list[Limit]:
    """Return the limits that some architecture keeps by what is known now; warn of the others."""
    least = {device: fastest(space, function)[1] for device, function in functions.items()}
    for limit in limits:
        if limit.ms < least[limit.device]:
            logger.warning("%s cannot be kept: the fastest takes %.4g ms", limit, least[limit.device])
    return [limit for limit in limits if limit.ms >= least[limit.device]]


def adopt(folder: Folder, candidates: Sequence[Candidate], known: Mapping[str, DeviceLatency]) -> None:
    """Put earlier runs' candidates into a search's table, once, before its first phase."""
    table = CandidateTable(folder)
    if not candidates or table.read():
        return
    ordered = [replace(candidate, order=order) for order, candidate in enumerate(candidates)]
    table.append(refreshed(ordered, known, {}))

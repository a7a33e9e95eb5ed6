"""A whole search: search, measure the winners on their devices, refit where a limit was missed, and search again.

A round is one phase of search and the measurements after it. Each limit's best candidate is timed; where it misses its
limit the next best is timed, until one keeps it. Measured milliseconds then replace predicted ones. Where a limit was
missed, the device's predictor is fitted again to a table with the new rows, and another, shorter phase follows.

Decisions
- `rounds.json` and the predictors of each round lie in the search's folder. The predictor stage is finished, and stages
  that depend on it must not change under it. A shared latency table also grows meanwhile, so an interrupted search that
  fitted again would not resume as it had begun.
- A timing session may find a device quieter than all sessions before: every row of it then counts as faster. The
  predictor in force has the old scale, so it is fitted again, limits that are fractions of its range are computed from
  the new one, and another phase follows.
- Measurements are kept in `rounds.json` for the same reason; the rows themselves are in the latency table, for the next
  fit.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from hat_ray.core.codec import read, write
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
"""Most candidates of each limit that a round times before the search continues without one."""
_BOLD_TRIES = 4
"""After this many, a candidate that is not timed must keep its limit with a margin, which grows step by step to the
worst ratio seen. Where no candidate does, the fastest is timed."""

SCALE_TOLERANCE = 0.005
"""Share by which a device's rows must move for its predictor to be fitted again."""


class Devices(Protocol):
    """The devices that a search is for."""

    def measure(self, architectures: Sequence[Architecture]) -> Mapping[str, Times]:
        """Time architectures on every device that can be reached; earlier timings may be returned."""

    def refit(self, device: str, round_: int) -> DeviceLatency:
        """Fit a device's predictor again, with the rows that `measure` added, and keep it as that of a round."""

    def load_refitted(self, device: str, round_: int) -> DeviceLatency:
        """Return the predictor that `refit` kept."""

    def scale(self, device: str) -> float:
        """Return how many times longer the same rows count now than when the device's predictor was fitted."""


ResolveLimits = Callable[[Mapping[str, DeviceLatency]], Sequence[Limit]]
"""Computes the limits in milliseconds from the devices' predictors."""

RunPhase = Callable[[Mapping[str, LatencyFunction], Sequence[Limit], Phase], object]
"""Runs one phase of the search; the candidates table holds its results."""


class _Round(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    measured_ms: dict[str, dict[str, float]]
    """Milliseconds by device and by architecture in canonical JSON: all measurements after this round."""
    refitted: tuple[str, ...]
    """Devices whose predictor was fitted again."""
    limits_ms: tuple[tuple[str, float], ...] = ()
    """Device and limit, from then on; empty where they stayed as they were."""
    final: bool


class RoundLog(BaseModel):
    """The finished rounds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: tuple[_Round, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The result of a whole search, and the predictors in force."""

    result: SearchResult
    limits: Sequence[Limit]
    devices: Mapping[str, DeviceLatency]


@dataclass
class MeasuredSearch:
    """A search with measurements on its devices; `run` starts or resumes it."""

    space: SearchSpace
    limits: Sequence[Limit]
    config: SearchConfig
    folder: Folder
    predictors: Mapping[str, DeviceLatency]
    devices: Devices
    run_phase: RunPhase
    scored_by: str = ""
    resolve: ResolveLimits | None = None
    """None: the limits are in milliseconds and stay as they are."""

    def run(self) -> Outcome:
        """Search, measure, refit and search again, as often as the settings allow."""
        log = self._read()
        known, measured = dict(self.predictors), _measured(log)
        for number, round_ in enumerate(log.rounds):
            known |= {device: self.devices.load_refitted(device, number) for device in round_.refitted}
            self._take_limits(round_)
        while not (log.rounds and log.rounds[-1].final):
            number = len(log.rounds)
            self._evolve(known, measured, number)
            # with the predictions of this round's phase: a predictor that is fitted again serves the next one
            broke = self._measure_winners(known, measured) if self.config.refine_rounds else set()
            moved = self._moved(known, measured) if self.config.refine_rounds else set()
            refitted = {device: self.devices.refit(device, number) for device in sorted(broke | moved)}
            packed = {name: {a.to_json(): ms for a, ms in times.items()} for name, times in measured.items()}
            known |= refitted
            round_ = _Round(
                measured_ms=packed,
                refitted=tuple(refitted),
                limits_ms=self._limits_after(known, moved),
                final=self._is_final(number, bool(broke), bool(moved)),
            )
            log = RoundLog(rounds=(*log.rounds, round_))
            write(self.folder, FILE, log)
            self._take_limits(round_)
        candidates = self._candidates(known, measured)
        CandidateTable(self.folder).replace(candidates)
        result = summarise(candidates, self.limits)
        self._warn_of_losers(result)
        return Outcome(result, self.limits, known)

    def _is_final(self, number: int, broke: bool, moved: bool) -> bool:
        """Return whether a round is the last; where a scale moved in the last one, another one follows."""
        most = self.config.refine_rounds
        if moved:
            return number > most
        return not broke or number >= most or self.config.evaluations_refining == 0

    def _moved(self, known: Mapping[str, DeviceLatency], measured: dict[str, dict[Architecture, float]]) -> set[str]:
        """Return the devices whose rows moved off their predictor's scale; convert the measurements to the new one."""
        moved = set()
        for device in known:
            scale = self.devices.scale(device)
            if abs(scale - 1) > SCALE_TOLERANCE:
                moved.add(device)
                logger.warning(
                    "%s: its rows count as %.1f %% %s since a timing session found another quiet level: its predictor "
                    "is fitted again",
                    *(device, 100 * abs(scale - 1), "faster" if scale < 1 else "slower"),
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

    def _read(self) -> RoundLog:
        return read(self.folder, FILE, RoundLog) if self.folder.exists(FILE) else RoundLog()

    def _candidates(self, known: Mapping[str, DeviceLatency], measured: Mapping[str, Times]) -> list[Candidate]:
        return refreshed(CandidateTable(self.folder).read(), known, measured)

    def _evolve(self, known: Mapping[str, DeviceLatency], measured: Mapping[str, Times], number: int) -> None:
        functions = {name: device.corrected(measured.get(name, {})) for name, device in known.items()}
        limits = self.limits if number == 0 else _reachable(self.space, functions, self.limits)
        phase = Phase(
            number,
            None if number == 0 else self.config.evaluations_refining,
            {name: device.interval_ms for name, device in known.items()},
            self.scored_by,
        )
        if limits:
            self.run_phase(functions, limits, phase)

    def _measure_winners(
        self, known: Mapping[str, DeviceLatency], measured: dict[str, dict[Architecture, float]]
    ) -> set[str]:
        """Time each limit's best candidate until one keeps it; return the devices where some missed it."""
        slower: dict[str, float] = {}  # by device: the worst ratio of measured to predicted of a missed limit
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
                    logger.warning("%s returned no timings: its winners rest on predictions", limit.device)
                elif ms > limit.ms:
                    slower[limit.device] = max(slower.get(limit.device, 1.0), ms / one.latency_ms[limit.device])
                    logger.info("%s was the best under %s and takes %.4g ms", one.architecture.id, limit, ms)
        return set(slower)

    def _warn_of_losers(self, result: SearchResult) -> None:
        won = {winner.limit for winner in result.winners}
        for limit in self.limits:
            if limit not in won:
                logger.warning("no measured candidate keeps %s: raise the limit or search.evaluations", limit)
        for winner in result.winners if self.config.refine_rounds else ():
            if winner.limit.device not in winner.candidate.measured_ms:
                logger.warning("the winner under %s was not timed", winner.limit)


def _measured(log: RoundLog) -> dict[str, dict[Architecture, float]]:
    if not log.rounds:
        return {}
    return {
        device: {Architecture.from_json(text): ms for text, ms in times.items()}
        for device, times in log.rounds[-1].measured_ms.items()
    }


def _reachable(space: SearchSpace, functions: Mapping[str, LatencyFunction], limits: Sequence[Limit]) -> list[Limit]:
    """Return the limits that some architecture is predicted to keep; warn of the others."""
    least = {device: fastest(space, function)[1] for device, function in functions.items()}
    for limit in limits:
        if limit.ms < least[limit.device]:
            logger.warning("%s cannot be kept: the fastest takes %.4g ms", limit, least[limit.device])
    return [limit for limit in limits if limit.ms >= least[limit.device]]


def adopt(folder: Folder, candidates: Sequence[Candidate], known: Mapping[str, DeviceLatency]) -> None:
    """Add earlier runs' candidates to a search's table, once, before its first phase."""
    table = CandidateTable(folder)
    if not candidates or table.read():
        return
    ordered = [replace(candidate, order=order) for order, candidate in enumerate(candidates)]
    table.append(refreshed(ordered, known, {}))

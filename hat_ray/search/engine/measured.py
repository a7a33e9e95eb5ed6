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
from typing import ClassVar, Protocol, Self

from pydantic import BaseModel, ConfigDict, model_validator

from hat_ray.core.codec import read, write
from hat_ray.latency.quantities import LATENCY
from hat_ray.search.candidates import Candidate, CandidateTable
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.device_predictions import DevicePredictions, Measurements, bounds_of, refreshed
from hat_ray.search.engine.session import Phase
from hat_ray.search.frontier import SearchResult, favourite, summarise
from hat_ray.search.limits import Limit, Predictions, quantity_text
from hat_ray.search.reach import is_reachable
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

    def measure(self, architectures: Sequence[Architecture]) -> Mapping[str, Measurements]:
        """Time architectures on every device that can be reached; earlier timings may be returned."""

    def refit(self, device: str, round_: int) -> DevicePredictions:
        """Fit a device's predictor again, with the rows that `measure` added, and keep it as that of a round."""

    def load_refitted(self, device: str, round_: int) -> DevicePredictions:
        """Return the predictor that `refit` kept."""

    def scale(self, device: str) -> float:
        """Return how many times longer the same rows count now than when the device's predictor was fitted."""


ResolveLimits = Callable[[Mapping[str, DevicePredictions]], Sequence[Limit]]
"""Computes the limits from the devices' predictors."""

RunPhase = Callable[[Predictions, Sequence[Limit], Phase], object]
"""Runs one phase of the search; the candidates table holds its results."""


class _Round(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    measured: dict[str, dict[str, dict[str, float]]]
    """By device, architecture in canonical JSON, and quantity: all measurements after this round."""
    refitted: tuple[str, ...]
    """Devices whose predictor was fitted again."""
    limits: tuple[Limit, ...] = ()
    """Those from then on; empty where they stayed as they were."""
    final: bool

    @model_validator(mode="after")
    def _every_measurement_has_its_latency(self) -> Self:
        for of_device in self.measured.values():
            for architecture, values in of_device.items():
                if LATENCY not in values:
                    raise ValueError(f"the measurement of {architecture} lacks {LATENCY}")
        return self


class RoundLog(BaseModel):
    """The finished rounds."""

    FORMAT: ClassVar[int] = 2
    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: tuple[_Round, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The result of a whole search, and the predictors in force."""

    result: SearchResult
    limits: Sequence[Limit]
    devices: Mapping[str, DevicePredictions]


@dataclass
class MeasuredSearch:
    """A search with measurements on its devices; `run` starts or resumes it."""

    space: SearchSpace
    limits: Sequence[Limit]
    config: SearchConfig
    folder: Folder
    predictors: Mapping[str, DevicePredictions]
    devices: Devices
    run_phase: RunPhase
    scored_by: str = ""
    resolve: ResolveLimits | None = None
    """None: the limits are no fractions of a device's range, and stay as they are."""
    unattached: frozenset[str] = frozenset()
    """Devices that only a latency table knows: their winners rest on predictions."""

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
            packed = {name: {a.to_json(): dict(of) for a, of in found.items()} for name, found in measured.items()}
            known |= refitted
            round_ = _Round(
                measured=packed,
                refitted=tuple(refitted),
                limits=self._limits_after(known, moved),
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

    def _moved(self, known: Mapping[str, DevicePredictions], measured: "_Measured") -> set[str]:
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
            every = list(dict.fromkeys(one for found in measured.values() for one in found))
            for device, found in self.devices.measure(every).items() if every else ():
                measured.setdefault(device, {}).update(found)
        return moved

    def _limits_after(self, known: Mapping[str, DevicePredictions], moved: set[str]) -> tuple[Limit, ...]:
        if self.resolve is None or not moved:
            return ()
        new = [limit for limit in self.resolve(known) if limit.device in moved]
        return (*(limit for limit in self.limits if limit.device not in moved), *new)

    def _take_limits(self, round_: _Round) -> None:
        if round_.limits:
            self.limits = round_.limits
            logger.info("the limits are now %s", "; ".join(map(str, self.limits)))

    def _read(self) -> RoundLog:
        return read(self.folder, FILE, RoundLog) if self.folder.exists(FILE) else RoundLog()

    def _candidates(
        self, known: Mapping[str, DevicePredictions], measured: Mapping[str, Measurements]
    ) -> list[Candidate]:
        return refreshed(CandidateTable(self.folder).read(), known, measured)

    def _evolve(
        self, known: Mapping[str, DevicePredictions], measured: Mapping[str, Measurements], number: int
    ) -> None:
        functions = {name: bounds_of(device, measured.get(name)) for name, device in known.items()}
        limits = self.limits if number == 0 else _reachable(self.space, functions, self.limits)
        phase = Phase(
            number,
            None if number == 0 else self.config.evaluations_refining,
            {name: device[LATENCY].interval for name, device in known.items()},
            self.scored_by,
        )
        if limits:
            self.run_phase(functions, limits, phase)

    def _measure_winners(self, known: Mapping[str, DevicePredictions], measured: "_Measured") -> set[str]:
        """Time each limit's best candidate until one keeps it; return the devices where some missed it."""
        worse: dict[str, dict[str, float]] = {}  # worst ratio of measured to predicted of a missed bound
        silent = set(self.unattached)
        for number in range(_TRIES):
            candidates = self._candidates(known, measured)
            part = max(0, number + 1 - _BOLD_TRIES) / (_TRIES - _BOLD_TRIES)
            caution = {
                device: {name: worst**part for name, worst in of_device.items()} for device, of_device in worse.items()
            }
            best = {limit: found for limit in self.limits if (found := favourite(candidates, limit, caution))}
            new = {
                limit: one
                for limit, one in best.items()
                if limit.device not in one.measured_ms and limit.device not in silent
            }
            if not new:
                break
            architectures = list(dict.fromkeys(one.architecture for one in new.values()))
            for device, timed in self.devices.measure(architectures).items():
                measured.setdefault(device, {}).update(timed)
            for limit, one in new.items():
                values = measured.get(limit.device, {}).get(one.architecture)
                if values is None:
                    silent.add(limit.device)
                    logger.warning("%s returned no timings: its winners rest on predictions", limit.device)
                else:
                    _note_missed(limit, one, values, worse)
        return set(worse)

    def _warn_of_losers(self, result: SearchResult) -> None:
        won = {winner.limit for winner in result.winners}
        for limit in self.limits:
            if limit not in won:
                logger.warning("no measured candidate keeps %s: raise the limit or search.evaluations", limit)
        for winner in result.winners if self.config.refine_rounds else ():
            if winner.limit.device in self.unattached:
                logger.info("the winner under %s rests on a prediction: only the table knows the device", winner.limit)
            elif winner.limit.device not in winner.candidate.measured_ms:
                logger.warning("the winner under %s was not timed", winner.limit)


_Measured = dict[str, dict[Architecture, Mapping[str, float]]]
"""By device, architecture and quantity."""


def _note_missed(
    limit: Limit, one: Candidate, measured: Mapping[str, float], worse: dict[str, dict[str, float]]
) -> None:
    """Note by how much the measured quantities of a candidate that break a limit exceed the predicted ones."""
    predicted = one.predicted(limit.device)
    for name in limit.broken({**predicted, **measured}):
        of_device = worse.setdefault(limit.device, {})
        of_device[name] = max(of_device.get(name, 1.0), measured[name] / predicted[name])
        text = f"takes {measured[name]:.4g} ms" if name == LATENCY else f"has {quantity_text(name, measured[name])}"
        logger.info("%s was the best under %s and %s", one.architecture.id, limit, text)


def _measured(log: RoundLog) -> _Measured:
    if not log.rounds:
        return {}
    return {
        device: {Architecture.from_json(text): values for text, values in found.items()}
        for device, found in log.rounds[-1].measured.items()
    }


def _reachable(space: SearchSpace, predictions: Predictions, limits: Sequence[Limit]) -> list[Limit]:
    """Return the limits that some architecture is predicted to keep; warn of the others."""
    return [limit for limit in limits if is_reachable(space, predictions[limit.device], limit)]


def adopt(folder: Folder, candidates: Sequence[Candidate], known: Mapping[str, DevicePredictions]) -> None:
    """Add earlier runs' candidates to a search's table, once, before its first phase."""
    table = CandidateTable(folder)
    if not candidates or table.read():
        return
    ordered = [replace(candidate, order=order) for order, candidate in enumerate(candidates)]
    table.append(refreshed(ordered, known, {}))

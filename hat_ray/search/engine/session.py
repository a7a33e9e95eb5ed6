"""One search with its record on disk: proposals, scores, and the state that an interrupted search resumes from.

Both drivers use it: `engine/local.py` in one process, `cluster/search.py` on Ray. The candidates table is the truth: a
candidate in it is never scored again, whatever else was lost.
"""

import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from hat_ray.core.codec import read, write
from hat_ray.core.determinism import stream_seed
from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import SearchError
from hat_ray.latency.quantities import LATENCY
from hat_ray.search.candidates import Candidate, CandidateTable, utc_now
from hat_ray.search.config import SearchConfig
from hat_ray.search.early_stopping import Bars, EarlyStop, LossEstimate, PartScore
from hat_ray.search.engine.ask_tell import Evolution, EvolutionState
from hat_ray.search.engine.device_predictions import IntervalFunction, beside_latency
from hat_ray.search.frontier import SearchResult, summarise
from hat_ray.search.limits import Limit, Predictions
from hat_ray.search.stopping import FrontierTracker, StopRule
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder

logger = logging.getLogger(__name__)

Score = Callable[[Architecture], float]
"""The validation loss of one architecture, such as `CandidateScorer`."""

_FLUSH_S = 2.0
_STATE_SHARE = 0.02  # most of the driver's time that writing the state may take
_STATE = "state.json"
_SPENT = "spent.json"


EvolutionStateT = TypeVar("EvolutionStateT", bound=EvolutionState[Any])


class _Saved(BaseModel, Generic[EvolutionStateT]):
    """The content of `state.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    round: int
    evolution: EvolutionStateT


@dataclass(frozen=True)
class _Spent:
    """The content of `spent.json`."""

    seconds: float


@dataclass(frozen=True)
class Phase:
    """A part of a search: before the winners are measured, or between two such measurements.

    The table's candidates of earlier phases and runs are external: they are known before the first ask and count as no
    evaluation of this phase. So a phase depends on the table and its arguments alone, and an interrupted one is
    repeated without a trace.
    """

    number: int = 0
    evaluations: int | None = None
    """None: `search.evaluations`."""
    intervals: Mapping[str, IntervalFunction] = field(default_factory=dict)
    """Of the latency, by device."""
    scored_by: str = ""
    """Hash of the SuperTransformer and the validation set that losses come from."""


class Session:
    """A phase under way: an `Evolution`, its candidates table, and its progress."""

    def __init__(
        self,
        space: SearchSpace,
        predictions: Predictions,
        limits: Sequence[Limit],
        config: SearchConfig,
        folder: Folder,
        seed: int,
        progress: Progress = no_progress,
        phase: Phase | None = None,
    ) -> None:
        self.config, self.folder, self._progress = config, folder, progress
        self.phase = phase or Phase()
        self.evolution = Evolution(space, predictions, limits, config, _seed(seed, self.phase.number))
        self._table = CandidateTable(folder)
        self._require_same_search(_identity(space, predictions, limits, config, seed))
        rows = self._table.read()
        self.before = [candidate for candidate in rows if candidate.round < self.phase.number]
        """Candidates of earlier phases and runs."""
        self.known = {c.architecture: c for c in rows if c.round == self.phase.number}
        """Candidates of this phase that stand in the table, by architecture."""
        evaluations = config.evaluations if self.phase.evaluations is None else self.phase.evaluations
        self.evolution.budget = len(self.before) + evaluations
        self._unseen = set(self.known)
        self._unwritten: list[Architecture] = []
        self._written_at = time.monotonic()
        self._state_due = 0.0
        largest = [space.largest()]
        self.frontiers = FrontierTracker(
            {device: float(functions[LATENCY](largest)[0]) for device, functions in predictions.items()},
            self.evolution.options.population,
            limits,
        )
        self._early = EarlyStop(self.frontiers, config.early_stop_margin if config.early_stop else None)
        self._reported = 0
        """Evaluations that progress has reported."""
        self._stop = StopRule(config, read(folder, _SPENT, _Spent).seconds if folder.exists(_SPENT) else 0.0)
        self.stopped: str | None = None
        """Why the search ended before its evaluations were used up."""

    def begin(self) -> None:
        """Add the candidates of earlier phases and runs that a restored evolution does not hold."""
        for candidate in self.before:
            if candidate.architecture not in self.evolution.losses:
                self.evolution.tell(candidate.architecture, candidate.loss_bits, estimated=candidate.estimated)
            self._add_to_frontiers(candidate)
            self._learn_parts(candidate)
        self._stop_if_due()

    def bars(self, architecture: Architecture) -> Bars:
        """Return the most loss that a proposal may have on each part of the validation set before it is stopped."""
        return self._early.bars(architecture, self.evolution.values(architecture))

    def record(self, architecture: Architecture, score: PartScore, seconds: float, worker: str = "") -> None:
        """Record the score of a proposal, queue its candidate for the table, and report progress."""
        estimate = self._early.estimate(architecture, self.evolution.values(architecture), score)
        self.evolution.tell(architecture, estimate.loss_bits, estimated=estimate.share < 1)
        self.known[architecture] = self._candidate(architecture, estimate, seconds, worker or _WORKER)
        self._unwritten.append(architecture)
        self._track(architecture)
        if time.monotonic() - self._written_at > _FLUSH_S:
            self.write()
        self._report_progress()

    def reuse(self, architecture: Architecture) -> None:
        """Record the score that the table holds of a proposal, as `record` did before an interruption."""
        candidate = self.known[architecture]
        self.evolution.tell(architecture, candidate.loss_bits, estimated=candidate.estimated)
        self._learn_parts(candidate)
        self._track(architecture)
        self._report_progress()

    def _report_progress(self) -> None:
        self._reported = self.done
        self._progress(self.done, self.evaluations, self.figures())

    def _learn_parts(self, candidate: Candidate) -> None:
        if not candidate.estimated:
            self._early.learn(candidate.loss_bits, candidate.loss_at_shares)

    def _add_to_frontiers(self, candidate: Candidate) -> None:
        values = self.evolution.values(candidate.architecture)
        self.frontiers.add(candidate.loss_bits, values, estimated=candidate.estimated)

    def _track(self, architecture: Architecture) -> None:
        """Update frontiers and stop rules; candidates scored before an interruption stop nothing."""
        self._add_to_frontiers(self.known[architecture])
        self._stop.count(self.frontiers)
        self._unseen.discard(architecture)
        self._stop_if_due()

    def _stop_if_due(self) -> None:
        if self._unseen or self.stopped:
            return
        self.stopped = self._stop.reason()
        if self.stopped:
            self.evolution.budget = self.evolution.spent
            logger.info("the search stops: %s", self.stopped)

    @property
    def done(self) -> int:
        """Evaluations of this phase that are over, as the algorithm counts them."""
        return self.evolution.done - len(self.before)

    @property
    def evaluations(self) -> int:
        """Evaluations that this phase will have made."""
        return self.evolution.budget - len(self.before)

    def write(self) -> None:
        """Write the recorded candidates to the table now."""
        if self._unwritten:
            self._fill_intervals(self._unwritten)
            self._table.append([self.known[architecture] for architecture in self._unwritten])
            if self.config.max_seconds is not None:
                write(self.folder, _SPENT, _Spent(self._stop.spent_s))
        self._unwritten, self._written_at = [], time.monotonic()

    def save_state(self) -> None:
        """Save the state, so that an interrupted driver resumes from it; seldom where that takes long.

        Called after an ask and before the answer is recorded, it makes the search of one worker repeat exactly.
        """
        began = time.monotonic()
        if began < self._state_due and self.config.workers > 1:
            return
        write(self.folder, _STATE, _Saved(round=self.phase.number, evolution=self.evolution.state()))
        self._state_due = time.monotonic() + (time.monotonic() - began) / _STATE_SHARE

    def resume(self) -> None:
        """Resume an interrupted search: load its last state, then the candidates of the table that came later.

        Pending proposals are asked for again.
        """
        if self.folder.exists(_STATE):
            kind = cast(type[_Saved[Any]], _Saved.__class_getitem__(self.evolution.state_type))
            state = read(self.folder, _STATE, kind)
            if state.round == self.phase.number:
                self.evolution.load_state(state.evolution)
        self.begin()
        for architecture in self.evolution.losses:
            if architecture in self.known:
                self._learn_parts(self.known[architecture])
                self._track(architecture)
        for architecture in self.known:
            if architecture not in self.evolution.losses:
                self.reuse(architecture)
        self.evolution.retry_pending()

    def close(self) -> SearchResult:
        """Write the table as one file and return the result."""
        self.write()
        if self._reported != self.done:  # `hat` ends with networks that it knows: they count and are not scored
            self._report_progress()
        self._table.compact()
        self.folder.delete(_STATE)
        return self.result()

    def result(self) -> SearchResult:
        scored = self.evolution.losses
        candidates = [*self.before, *(c for a, c in self.known.items() if a in scored)]
        return summarise(sorted(candidates, key=lambda candidate: candidate.order), self.evolution.limits)

    def figures(self) -> dict[str, float]:
        """Return the figures of the progress line: the least loss under each limit, and the mean hypervolume."""
        figures: dict[str, float] = {}
        several = len({limit.device for limit in self.evolution.limits}) > 1
        for limit in self.evolution.limits:
            best = self.evolution.best(limit)
            if best is not None:
                place = f"{limit.device[:24]} " if several else ""
                figures[f"{place}<{limit.text}:"] = self.evolution.losses[best]
        volumes = self.frontiers.hypervolumes()
        stopped = {"stopped early": self.stopped_early} if self.config.early_stop else {}
        return figures | {"hypervolume": sum(volumes.values()) / len(volumes)} | stopped

    @property
    def stopped_early(self) -> int:
        """Number of candidates whose scoring was stopped early."""
        return self.evolution.num_estimated

    def _candidate(self, architecture: Architecture, estimate: LossEstimate, seconds: float, worker: str) -> Candidate:
        proposal = self.evolution.proposal(architecture)
        return Candidate(
            architecture=architecture,
            loss_bits=self.evolution.losses[architecture],
            latency_ms=self.evolution.latencies_ms(architecture),
            quantities=beside_latency(self.evolution.values(architecture)),
            order=proposal.order,
            generation=proposal.generation,
            origin=proposal.origin,
            parents=proposal.parents,
            seconds=seconds,
            round=self.phase.number,
            worker=worker,
            utc_time=utc_now(),
            scored_by=self.phase.scored_by,
            scored_share=estimate.share,
            loss_error_bits=estimate.error,
            loss_at_shares=estimate.at_shares,
            would_stop_at=estimate.would_stop_at,
        )

    def _fill_intervals(self, architectures: Sequence[Architecture]) -> None:
        """Predict intervals for many at once: one by one they would cost the driver more than all else."""
        ends = {device: function(architectures) for device, function in self.phase.intervals.items()}
        for place, architecture in enumerate(architectures):
            low = {device: float(low[place]) for device, (low, _) in ends.items()}
            high = {device: float(high[place]) for device, (_, high) in ends.items()}
            self.known[architecture] = replace(self.known[architecture], low_ms=low, high_ms=high)

    def _require_same_search(self, identity: Mapping[str, str]) -> None:
        """Refuse a folder of another search; write this one's identity where there is none. Later phases may differ."""
        if self.phase.number > 0:
            return
        if self.folder.exists("search.json"):
            if read(self.folder, "search.json", dict[str, str]) != identity:
                raise SearchError(
                    f"{self.folder} holds a search with another space, predictor, limits, settings or seed: "
                    f"use another folder or delete it"
                )
        else:
            write(self.folder, "search.json", dict(identity))


_WORKER = f"{platform.node()}:{os.getpid()}"


def _seed(seed: int, phase: int) -> int:
    return seed if phase == 0 else stream_seed(seed, "round", phase)


def _identity(
    space: SearchSpace,
    predictions: Predictions,
    limits: Sequence[Limit],
    config: SearchConfig,
    seed: int,
) -> dict[str, str]:
    """Return the identity of a search, in words and as one hash; predictors are identified by their answers."""
    settings = config.result_settings()
    ends = [space.smallest(), space.largest()]
    probes = {
        device: {name: [f"{value:.6g}" for value in function(ends)] for name, function in functions.items()}
        for device, functions in predictions.items()
    }
    asked = [[limit.device, limit.by_quantity] for limit in limits]
    text = json.dumps([space.id, settings, probes, asked, seed], sort_keys=True)
    return {
        "space": space.id,
        "limits": "; ".join(map(str, limits)),
        "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16],
    }

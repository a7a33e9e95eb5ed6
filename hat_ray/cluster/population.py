"""The coordinator of a search on a cluster: one actor that owns the search and hands out batches of candidates.

The life of a batch: a member of the population asks for one (`next_batch`) and waits until a generation is there. It
scores the batch and brings the results with its next question. The coordinator records them in the `Session`, writes
the candidates table, asks the algorithm, and answers all members that wait.

Decisions
- Questions that arrive while the coordinator is busy are answered together, with one write of the table: members that
  end at the same time would otherwise wait for each other's.
- Members pull. A member that is slow, or starts late, holds nobody up, and nothing is asked for it before it is ready.
- The population is asynchronous, in steady state: every member breeds from the one archive.
- A batch has a number. Results of another number come from a worker that was lost meanwhile: they are dropped.
- A lost worker's architectures are asked for again, each `retries` times at most.
- Any fault of the search itself, such as a full disk, ends all members; `status` and `close` raise it in the driver.
"""

import asyncio
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hat_ray.cluster.metrics import BEST, EVALUATIONS, HYPERVOLUME, IN_PROGRESS, show
from hat_ray.search.config import SearchConfig
from hat_ray.search.early_stopping import Bars, PartScore
from hat_ray.search.engine.session import Phase, Session
from hat_ray.search.frontier import SearchResult
from hat_ray.search.limits import Limit, Predictions
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder


@dataclass(frozen=True)
class SearchSetup:
    """Parts of a search."""

    space: SearchSpace
    predictions: Predictions
    limits: Sequence[Limit]
    config: SearchConfig
    folder: Folder
    seed: int
    phase: Phase | None


@dataclass(frozen=True)
class Batch:
    """Architectures that one member scores next, each with its bars of early stopping."""

    number: int
    tasks: tuple[tuple[Architecture, Bars], ...]


@dataclass(frozen=True)
class Scored:
    """The result of one task."""

    score: PartScore
    seconds: float


@dataclass(frozen=True)
class SearchStatus:
    """Progress of a search."""

    done: int
    evaluations: int
    figures: Mapping[str, float]
    over: bool
    """Nothing is left to score, or nothing can be."""
    failure: str | None
    """Why scoring cannot continue."""
    mistake: bool
    """Whether a user can mend it."""
    stopped: str | None
    """Why the search ended before its evaluations were used up."""


class SearchCoordinator:
    """Owns a search. It is an actor whose methods all run in one event loop, so that one runs at a time."""

    def __init__(self, setup: SearchSetup) -> None:
        self._setup = setup
        self._batches: dict[int, Batch] = {}
        """Batches that members score now."""
        self._waiting: dict[int, asyncio.Future[Batch | None]] = {}
        """Members that wait for a batch, the longest first."""
        self._arrived: list[tuple[int, str, int, Sequence[Scored]]] = []
        """Questions of members that are not answered yet: member, worker, number of its last batch, and its results."""
        self._lost: Counter[Architecture] = Counter()
        self._fruitless = self._number = 0
        self._failure: str | None = None
        self._mistake = False
        self._fault: Exception | None = None

    async def begin(self) -> SearchStatus:
        """Open the search where it was interrupted; raises SearchError for a folder of another one."""
        with suppress(OSError):  # Ray starts actors at niceness 15, and all workers wait for this one
            os.setpriority(os.PRIO_PROCESS, 0, 0)
        setup, config = self._setup, self._setup.config
        self._session = Session(
            *(setup.space, setup.predictions, setup.limits, config, setup.folder, setup.seed), phase=setup.phase
        )
        self._session.resume()
        self._sizes = BatchSizes(config.workers, config.batch_seconds, config.max_batch, self._session.evaluations)
        for candidate in self._session.known.values():
            self._sizes.scored(candidate.seconds)
        return await self.status()

    async def next_batch(self, member: int, worker: str, number: int, scored: Sequence[Scored]) -> Batch | None:
        """Record what a member scored of its last batch and return the next one as soon as there is one; None: over."""
        self._release(member)
        future: asyncio.Future[Batch | None] = asyncio.get_running_loop().create_future()
        self._waiting[member] = future
        self._arrived.append((member, worker, number, scored))
        if len(self._arrived) == 1:
            asyncio.get_running_loop().call_soon(self._answer)
        return await future

    def _answer(self) -> None:
        """Record what has arrived, write it, and answer: members that ask meanwhile are served together after it."""
        arrived, self._arrived = self._arrived, []
        try:
            recorded = [self._record(*question) for question in arrived]
            if any(recorded):
                self._fruitless = 0
                self._session.write()  # so that a killed driver costs no more than the batches under way
            self._feed()
            if any(recorded):
                self._show_metrics()
        except Exception as fault:
            self._fault = fault
            self._release(*self._waiting)

    async def lost(self, member: int) -> None:
        """Ask again for the architectures of a member whose worker was lost."""
        self._answer()
        try:
            self._release(member)
            self._lose(member)
            self._feed()
        except Exception as fault:
            self._fault = fault
            self._release(*self._waiting)

    async def fail(self, message: str, mistake: bool = False) -> None:
        """End the search: scoring raised an exception, which it would raise again, or a user has to mend something."""
        if self._failure is None:
            self._failure, self._mistake = message, mistake
        self._release(*self._waiting)

    async def status(self) -> SearchStatus:
        if self._fault is not None:
            raise self._fault
        session = self._session
        return SearchStatus(
            *(session.done, session.evaluations, session.figures(), self.over),
            *(self._failure, self._mistake, session.stopped),
        )

    async def close(self) -> SearchResult:
        """Write the table as one file and return the result of a search that is over."""
        return self._session.close()

    @property
    def over(self) -> bool:
        return self._failure is not None or self._fault is not None or self._session.evolution.finished

    def _record(self, member: int, worker: str, number: int, scored: Sequence[Scored]) -> bool:
        """Record the results of a member's batch; returns whether there were any."""
        batch = self._batches.get(member)
        if batch is None:
            return False
        if batch.number != number:  # the member was started anew before its loss was reported
            self._lose(member)
            return False
        del self._batches[member]
        for (architecture, _), each in zip(batch.tasks, scored, strict=True):
            self._session.record(architecture, each.score, each.seconds, worker)
            self._sizes.scored(each.seconds)
        return True

    def _feed(self) -> None:
        """Answer members that wait, while there is something to ask; all of them once the search is over."""
        evolution = self._session.evolution
        while self._waiting:
            began = time.perf_counter()
            asked = [] if self.over else evolution.ask(self._sizes.next(evolution.budget - evolution.spent))
            if self.over:
                self._release(*self._waiting)
            if not asked:
                return  # a generation is waited for
            self._session.save_state()
            self._sizes.asked(time.perf_counter() - began)
            self._number += 1
            member = next(iter(self._waiting))
            self._batches[member] = Batch(self._number, tuple((one, self._session.bars(one)) for one in asked))
            self._waiting.pop(member).set_result(self._batches[member])

    def _release(self, *members: int) -> None:
        """Answer members that wait with None."""
        for member in members:
            if (future := self._waiting.pop(member, None)) is not None:
                future.set_result(None)

    def _lose(self, member: int) -> None:
        """Ask again for the architectures of a lost worker; give up where workers are lost again and again."""
        batch, config = self._batches.pop(member, None), self._setup.config
        self._fruitless += 1
        if batch is None and self._fruitless > (1 + config.retries) * config.workers:
            self._failure = f"{self._fruitless} workers in a row were lost before they scored anything"
        for architecture, _ in batch.tasks if batch else ():
            self._lost[architecture] += 1
            if self._lost[architecture] > config.retries:
                self._failure = (
                    f"the worker was lost {self._lost[architecture]} times while it scored {architecture.id}"
                )
            self._session.evolution.retry(architecture)

    def _show_metrics(self) -> None:
        run = self._setup.folder.label
        show(IN_PROGRESS, sum(len(batch.tasks) for batch in self._batches.values()), run=run)
        for sample in samples(self._session):
            show(sample.metric, sample.value, run=run, device=sample.device, limit=sample.limit)


_BATCH_COST_S = 0.1
"""Cost of one batch for the coordinator and Ray Tune, the slow case."""
_COORDINATOR_SHARE = 0.5
"""Share of the coordinator's time that batches may take."""
_MEMORY = 0.8
_PARTS = 20
"""At most this part of the search is under way on all workers, unless the coordinator is the bound."""


class BatchSizes:
    """Measures the time of a candidate and returns the size of the next batch.

    A batch is about `search.batch_seconds` of work, or more where the coordinator could not keep all workers busy. It
    is less towards the end, so that no worker waits for the last one, and small enough that evolution learns in time.
    """

    def __init__(self, workers: int, batch_seconds: float, most: int, evaluations: int) -> None:
        self._workers, self._batch_seconds, self._most = workers, batch_seconds, most
        self._under_way = max(1, evaluations // _PARTS // workers)
        self._candidate_s: float | None = None
        self._ask_s = 0.0

    def scored(self, seconds: float) -> None:
        """Learn the time of one candidate."""
        self._candidate_s = _mixed(self._candidate_s, seconds)

    def asked(self, seconds: float) -> None:
        """Learn the time that the search took to find a batch."""
        self._ask_s = _mixed(self._ask_s, seconds)

    def next(self, left: int) -> int:
        """Return the size of the next batch when `left` candidates are still to be asked for; at least 1."""
        if self._candidate_s is None:
            return 1  # the first batch of each worker measures
        each_s = max(self._candidate_s, 1e-4)
        cost_s = (_BATCH_COST_S + self._ask_s) * self._workers
        fewest = math.ceil(cost_s / each_s)  # the coordinator is busy all the time
        wanted = math.ceil(max(self._batch_seconds, cost_s / _COORDINATOR_SHARE) / each_s)
        ending = math.ceil(left / (2 * self._workers))
        fair = math.ceil(left / self._workers)
        return max(1, min(max(fewest, min(wanted, ending, self._under_way)), fair, self._most))


def _mixed(before: float | None, seconds: float) -> float:
    return seconds if before is None else _MEMORY * before + (1 - _MEMORY) * seconds


@dataclass(frozen=True)
class MetricSample:
    """One value of one metric; `device` and `limit` are empty where it has none."""

    metric: str
    value: float
    device: str = ""
    limit: str = ""


def samples(session: Session) -> Iterator[MetricSample]:
    """Return the present values of a search's metrics."""
    evolution = session.evolution
    yield MetricSample(EVALUATIONS, session.done)
    for limit in evolution.limits:
        best = evolution.best(limit)
        if best is not None:
            yield MetricSample(BEST, evolution.losses[best], limit.device, limit.text)
    for group, volume in session.frontiers.hypervolumes().items():
        yield MetricSample(HYPERVOLUME, volume, group.device, group.text)

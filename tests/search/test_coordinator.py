"""The coordinator of a search: who gets which batch, what becomes of lost workers, and how it ends. No cluster."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from search_stand_ins import depth_ms, macs_ms

from hat_ray.cluster.population import Batch, Scored, SearchCoordinator, SearchSetup
from hat_ray.core.lease import Lease
from hat_ray.errors import RunError, SearchError
from hat_ray.latency.quantities import LATENCY
from hat_ray.search.candidates import CandidateTable
from hat_ray.search.config import SearchConfig
from hat_ray.search.early_stopping import PartScore
from hat_ray.search.reach import resolve_limits
from hat_ray.space.cost import count_macs
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder

DEVICES = {"macs": {LATENCY: macs_ms}, "depth": {LATENCY: depth_ms}}
CONFIG = SearchConfig(algorithm="random", evaluations=12, max_batch=2, workers=2, retries=1, limits_fraction=(0.3, 0.6))


def setup(folder: Path, config: SearchConfig = CONFIG) -> SearchSetup:
    return SearchSetup(TOY, DEVICES, resolve_limits(TOY, DEVICES, config), config, Folder.at(folder), 0, None)


def coordinated(folder: Path, play: Callable[[SearchCoordinator], Awaitable[None]]) -> None:
    async def run() -> None:
        coordinator = SearchCoordinator(setup(folder))
        await coordinator.begin()
        async with asyncio.timeout(60):
            await play(coordinator)

    asyncio.run(run())


def scored(batch: Batch) -> list[Scored]:
    return [Scored(PartScore(1 / count_macs(architecture, 30)), 0.1) for architecture, _ in batch.tasks]


async def work(coordinator: SearchCoordinator, member: int) -> None:
    """Be a member that is never lost."""
    number, results = 0, []
    while (batch := await coordinator.next_batch(member, "worker", number, results)) is not None:
        number, results = batch.number, scored(batch)


def test_members_score_each_candidate_once_until_it_is_over(tmp_path: Path) -> None:
    async def play(coordinator: SearchCoordinator) -> None:
        await asyncio.gather(*(work(coordinator, member) for member in range(3)))
        status = await coordinator.status()
        assert (status.done, status.evaluations, status.over, status.failure) == (12, 12, True, None)
        result = await coordinator.close()
        assert len({candidate.architecture for candidate in result.candidates}) == 12
        assert await coordinator.next_batch(7, "late", 0, ()) is None

    coordinated(tmp_path, play)


@pytest.mark.parametrize("reported", [True, False])
def test_a_lost_members_batch_goes_to_another_one_and_its_late_results_are_dropped(
    tmp_path: Path, reported: bool
) -> None:
    """Ray Tune reports the loss, or the member's next worker is there before that."""

    async def play(coordinator: SearchCoordinator) -> None:
        lost = await coordinator.next_batch(0, "first", 0, ())
        assert lost is not None
        if reported:
            await coordinator.lost(0)
            late = asyncio.create_task(coordinator.next_batch(0, "first", lost.number, scored(lost)))
            await asyncio.sleep(0)
            assert (await coordinator.status()).done == 0
        else:
            late = asyncio.create_task(coordinator.next_batch(0, "second", 0, ()))
        again = await late
        assert again is not None
        assert again.number > lost.number
        assert {one for one, _ in lost.tasks} <= {one for one, _ in again.tasks}
        await coordinator.lost(0)
        await work(coordinator, 1)
        status = await coordinator.status()
        # each was lost twice, and may be asked for again once
        assert status.failure is not None
        assert "the worker was lost 2 times while it scored" in status.failure

    coordinated(tmp_path, play)


def test_a_member_that_waited_when_it_was_lost_gets_no_batch(tmp_path: Path) -> None:
    async def play(coordinator: SearchCoordinator) -> None:
        await coordinator.fail("ZeroDivisionError: of the scoring")
        assert await coordinator.next_batch(1, "worker", 0, ()) is None
        status = await coordinator.status()
        assert (status.over, status.failure) == (True, "ZeroDivisionError: of the scoring")

    coordinated(tmp_path, play)


def test_workers_that_are_lost_again_and_again_before_they_score_end_the_search(tmp_path: Path) -> None:
    async def play(coordinator: SearchCoordinator) -> None:
        for member in range((1 + CONFIG.retries) * CONFIG.workers + 1):
            assert not (await coordinator.status()).over
            await coordinator.lost(member)
        assert "workers in a row were lost" in str((await coordinator.status()).failure)

    coordinated(tmp_path, play)


def test_a_driver_that_lost_the_folder_ends_every_member_and_is_named_the_cause(tmp_path: Path) -> None:
    """The folder's lease travels with the coordinator, so that one that outlives its driver writes nothing."""

    async def run() -> None:
        free = Folder.at(tmp_path / "search")
        lease = Lease.take(free)
        coordinator = SearchCoordinator(replace(setup(tmp_path), folder=free.fenced(lease)))
        await coordinator.begin()
        batch = await coordinator.next_batch(0, "worker", 0, ())
        assert batch is not None
        lease.release()
        newer = Lease.take(free)
        try:
            assert await coordinator.next_batch(0, "worker", batch.number, scored(batch)) is None
            with pytest.raises(RunError, match="process"):
                await coordinator.status()
            assert CandidateTable(free).read() == []
        finally:
            newer.release()

    asyncio.run(run())


def test_another_search_in_the_folder_is_refused_at_the_start(tmp_path: Path) -> None:
    async def run() -> None:
        await SearchCoordinator(setup(tmp_path)).begin()
        with pytest.raises(SearchError, match="holds a search with another"):
            await SearchCoordinator(setup(tmp_path, CONFIG.model_copy(update={"evaluations": 13}))).begin()

    asyncio.run(run())

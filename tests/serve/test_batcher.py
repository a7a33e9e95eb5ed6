"""Batches: who waits together is done together, and one bad text hurts nobody else."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor

import pytest

from hat_ray.serve.batcher import Batcher


class Worker:
    """Upper case is its translation; it can be held, and it cannot do texts with a `!`."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.go = threading.Event()
        self.go.set()
        self.threads: set[int] = set()

    def __call__(self, texts: list[str]) -> list[str]:
        self.batches.append(texts)
        self.threads.add(threading.get_ident())
        assert self.go.wait(240)
        if any("!" in text for text in texts):
            raise ValueError("!")
        return [text.upper() for text in texts]


async def asked(batcher: Batcher, requests: Sequence[Sequence[str]]) -> list[object]:
    return list(await asyncio.gather(*map(batcher.run, requests), return_exceptions=True))


async def until_all_wait() -> None:
    """Let every request that was begun come as far as it can: none of its steps waits for anything but its turn."""
    for _ in range(10):
        await asyncio.sleep(0)


async def until_busy(batcher: Batcher) -> None:
    while not batcher.busy_s:
        await asyncio.sleep(0.001)


def test_requests_that_come_while_it_works_become_one_batch_and_each_gets_its_own() -> None:
    worker = Worker()

    async def run() -> None:
        batcher = Batcher(worker, 8, 0.0)
        worker.go.clear()
        first = asyncio.create_task(batcher.run(["a"]))
        await until_busy(batcher)
        others = asyncio.create_task(asked(batcher, [["b", "c"], ["d"], ["e", "f", "g"]]))
        await until_all_wait()
        worker.go.set()
        assert await first == ["A"]
        assert await others == [["B", "C"], ["D"], ["E", "F", "G"]]
        assert list(batcher.sizes) == [1, 6]
        assert batcher.busy_s == 0

    asyncio.run(run())
    assert worker.batches == [["a"], list("bcdefg")]
    assert threading.get_ident() not in worker.threads
    assert len(worker.threads) == 1


def test_no_batch_is_larger_than_allowed_and_the_oldest_go_first() -> None:
    worker = Worker()
    texts = [str(number) for number in range(10)]
    assert asyncio.run(Batcher(worker, 4, 0.01).run(texts)) == texts
    assert worker.batches == [texts[:4], texts[4:8], texts[8:]]


def test_an_idle_worker_waits_a_moment_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, moments, sleep = Worker(), [], asyncio.sleep

    async def run() -> None:
        over = asyncio.Event()

        async def moment(seconds: float) -> None:
            moments.append(seconds)
            await (over.wait() if seconds else sleep(0))

        batcher = Batcher(worker, 8, 0.2)
        with monkeypatch.context() as patch:
            patch.setattr("asyncio.sleep", moment)
            first = asyncio.create_task(batcher.run(["a"]))
            await until_all_wait()
            assert 0.2 in moments
            second = asyncio.create_task(batcher.run(["b"]))
            await until_all_wait()
            assert worker.batches == []
            over.set()
            assert [await first, await second] == [["A"], ["B"]]

    asyncio.run(run())
    assert worker.batches == [["a", "b"]]


def test_a_text_that_cannot_be_done_fails_alone() -> None:
    async def run() -> list[object]:
        return await asked(Batcher(Worker(), 8, 0.01), [["a"], ["b!"], ["c", "d!"], ["e"]])

    good, bad, half, other = asyncio.run(run())
    assert (good, other) == (["A"], ["E"])
    assert isinstance(bad, ValueError)
    assert isinstance(half, ValueError)


def test_what_was_given_up_is_not_done() -> None:
    worker = Worker()

    async def run() -> None:
        batcher = Batcher(worker, 8, 0.0)
        worker.go.clear()
        first = asyncio.create_task(batcher.run(["a"]))
        await until_busy(batcher)
        given_up = asyncio.create_task(batcher.run(["b"]))
        await until_all_wait()
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        last = asyncio.create_task(batcher.run(["c"]))
        await until_all_wait()
        worker.go.set()
        assert [await first, await last] == [["A"], ["C"]]

    asyncio.run(run())
    assert worker.batches == [["a"], ["c"]]


def test_a_worker_that_cannot_start_is_told_to_those_who_ask() -> None:
    def broken() -> None:
        raise OSError("no memory")

    worker = Worker()

    async def run() -> list[object]:
        batcher = Batcher(worker, 8, 0.0, prepare=broken)
        return [*await asked(batcher, [["a"], ["b"]]), *await asked(batcher, [["c"]])]

    errors = asyncio.run(run())
    assert [type(error) for error in errors if isinstance(error, BrokenExecutor)] == [type(errors[0])] * 3
    assert worker.batches == []

"""Collect the texts of all clients into batches for one worker.

The life of a text: it waits, with its request's options. As soon as the worker is free it takes the waiting texts, the
oldest first, up to `max_batch`. Their results wake the callers. An idle worker waits a moment for more texts.

Decisions
- Ray's `@serve.batch` closes a batch at the end of its window also while the model is busy, so that under load many
  small batches queue up behind a slow one. Here a batch holds the texts that have come when the worker can begin.
- The work runs in a thread of its own: the event loop keeps taking requests and answering health checks.
- A batch that raises is repeated text by text: a text that cannot be translated fails no other one.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Collects texts for one worker. It belongs to the event loop that first uses it."""

    def __init__(
        self,
        work: Callable[[list[Item]], Sequence[Result]],
        max_batch: int,
        wait_s: float,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        """`prepare` is called once in the worker's thread, before its first batch."""
        self._work, self._max_batch, self._wait_s = work, max_batch, wait_s
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._thread = ThreadPoolExecutor(1, "batch", initializer=prepare)
        self._worker: asyncio.Task[None] | None = None
        self._began: float | None = None
        self.sizes: deque[int] = deque(maxlen=100)
        """Number of texts in each of the last batches."""

    @property
    def busy_s(self) -> float:
        """Return the seconds that the present batch has taken; 0 without one."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    async def run(self, texts: Sequence[Item]) -> list[Result]:
        """Return the worker's result for each text; raises the exception that it raises for one of them."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in texts]
        self._waiting.extend(zip(texts, futures, strict=True))
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work_off())
        try:
            return list(await asyncio.gather(*futures))
        finally:  # the other texts of a request that was given up or failed need no work
            for future in futures:
                future.cancel()

    async def _work_off(self) -> None:
        """Work until no text waits."""
        if len(self._waiting) < self._max_batch:
            await asyncio.sleep(self._wait_s)
        while batch := self._take():
            self._began = time.monotonic()
            self.sizes.append(len(batch))
            results = await self._results([text for text, _ in batch])
            self._began = None
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
            await asyncio.sleep(0)  # clients that got an answer may ask again at once

    async def _results(self, texts: list[Item]) -> list[Result | Exception]:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._each_or_error, texts)
        except Exception as error:  # the thread itself could not start
            return [error] * len(texts)

    def _take(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(batch) < self._max_batch:
            text, future = self._waiting.popleft()
            if not future.done():
                batch.append((text, future))
        return batch

    def _each_or_error(self, texts: list[Item]) -> list[Result | Exception]:
        try:
            return list(self._work(texts))
        except Exception as error:
            if len(texts) == 1:
                log.exception("a text could not be translated")
                return [error]
            log.warning("a batch of %d texts failed (%r): each text is repeated alone", len(texts), error)
            return [self._each_or_error([text])[0] for text in texts]

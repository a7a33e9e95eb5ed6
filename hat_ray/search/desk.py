"""Where the driver leaves each worker's next batch of architectures, and the worker waits for it.

It stands alone, without PyTorch, because it becomes a process of its own on a cluster, and that must start quickly.
"""

import asyncio
from collections import defaultdict

Order = tuple[str, tuple[float, ...]]
"""An architecture in canonical JSON, and its bars of early stopping."""


class Desk:
    """A queue of batches for each worker; None instead of a batch: the search is over."""

    def __init__(self) -> None:
        self._batches: defaultdict[str, asyncio.Queue[list[Order] | None]] = defaultdict(asyncio.Queue)

    async def put(self, worker: str, batch: list[Order] | None) -> None:
        await self._batches[worker].put(batch)

    async def take(self, worker: str) -> list[Order] | None:
        """Return the next batch as soon as there is one."""
        return await self._batches[worker].get()

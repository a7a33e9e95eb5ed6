"""Which batches an update trains on: an endless sequence of epochs, cut into updates without gap or overlap.

Decisions
- The sequence is global: worker `r` of `n` takes every n-th batch of an update. So the number of workers changes
  neither the data nor the order, and a run may be resumed with another number of workers.
- An update that reaches the end of an epoch goes on with the next one: every pair is seen once an epoch.
- A position is two numbers; the batches of an epoch follow from seed and epoch. So a resumed run finds its place
  without walking through the epochs before.
- A worker keeps the plan of one epoch, 4 bytes a pair; sentences are read where they lie, in memory-mapped shards.
"""

from dataclasses import dataclass

from hat_ray.corpus.batches import Batch, Batches, collate, make_batches
from hat_ray.corpus.tokens import TokenTable
from hat_ray.errors import CorpusError
from hat_ray.train.workers import Workers


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the endless sequence: the next batch is number `batch` of epoch `epoch`, both counted from 0."""

    epoch: int = 0
    batch: int = 0


class Feed:
    """The batches of each update for one worker."""

    def __init__(self, table: TokenTable, max_tokens: int, accumulate: int, seed: int, workers: Workers) -> None:
        if len(table) == 0:
            raise CorpusError("training needs at least one sentence pair, got none")
        self._table, self._max_tokens, self._accumulate, self._seed = table, max_tokens, accumulate, seed
        self._workers = workers
        self._epoch: tuple[int, Batches] | None = None

    def update(self, position: Position) -> tuple[list[tuple[int, Batch]], Position]:
        """Return this worker's batches of the update at `position`, each with its number within the update, and the
        position of the next update."""
        chosen = []
        for number in range(self._accumulate):
            batches = self._batches(position.epoch)
            if number % self._workers.world_size == self._workers.rank:
                chosen.append((number, collate(self._table, batches[position.batch])))
            last = position.batch + 1 == len(batches)
            position = Position(position.epoch + 1, 0) if last else Position(position.epoch, position.batch + 1)
        return chosen, position

    def _batches(self, epoch: int) -> Batches:
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, make_batches(self._table, self._max_tokens, self._seed, epoch)
        return self._epoch[1]

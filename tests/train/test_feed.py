"""The endless sequence of batches, against its plain definition: epochs one after another, dealt out in turn."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hat_ray.corpus.batches import Batch, collate, make_batches
from hat_ray.corpus.tokens import Sentences, ShardedSentences, TokenTable
from hat_ray.corpus.vocabulary import EOS
from hat_ray.errors import CorpusError
from hat_ray.train.data import Position, UpdateBatches
from hat_ray.train.workers import OneWorker

lengths = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=30)


@dataclass
class Fellow(OneWorker):
    """One of several workers; they need not talk to read."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009


def table_of(sides: list[tuple[int, int]]) -> TokenTable:
    """Each pair's first source token is its row, so that a batch tells which pairs it holds."""
    return TokenTable.of(([100 + row] * (s - 1) + [EOS], [100 + row] * t + [EOS]) for row, (s, t) in enumerate(sides))


def rows_of(batch: Batch) -> list[int]:
    return [int(row[0]) - 100 for row in batch.target_out]


def walk(table: TokenTable, updates: int, accumulate: int, world: int, budget: int = 40) -> list[list[list[int]]]:
    """The rows of every batch of every update, put together from all workers by the batches' numbers."""
    feeds = [UpdateBatches(table, budget, accumulate, 3, Fellow(rank, world)) for rank in range(world)]
    position, found = Position(), []
    for _ in range(updates):
        shares = [feed.update(position) for feed in feeds]
        assert len({next_position for _, next_position in shares}) == 1
        numbered = sorted((number, rows_of(batch)) for share, _ in shares for number, batch in share)
        assert [number for number, _ in numbered] == list(range(accumulate))
        found.append([rows for _, rows in numbered])
        position = shares[0][1]
    return found


def plain(table: TokenTable, batches: int, budget: int = 40) -> list[list[int]]:
    found: list[list[int]] = []
    epoch = 0
    while len(found) < batches:
        found += [batch.tolist() for batch in make_batches(table, budget, 3, epoch)]
        epoch += 1
    return found[:batches]


@settings(max_examples=60)
@given(lengths, st.integers(1, 6), st.integers(1, 4), st.integers(1, 12))
def test_any_number_of_workers_reads_the_epochs_one_after_another_without_gap_or_overlap(
    sides: list[tuple[int, int]], accumulate: int, world: int, updates: int
) -> None:
    table = table_of(sides)
    expected = plain(table, updates * accumulate)
    cut = [expected[first : first + accumulate] for first in range(0, len(expected), accumulate)]
    assert walk(table, updates, accumulate, world) == cut


@settings(max_examples=40)
@given(lengths, st.integers(1, 4), st.integers(2, 4))
def test_every_epoch_holds_every_pair_once_in_an_order_of_its_own(
    sides: list[tuple[int, int]], accumulate: int, epochs: int
) -> None:
    table = table_of(sides)
    per_epoch = [len(make_batches(table, 40, 3, epoch)) for epoch in range(epochs)]
    updates = -(-sum(per_epoch) // accumulate)
    read = [rows for update in walk(table, updates, accumulate, 2) for rows in update]
    for batches in per_epoch:
        epoch, read = read[:batches], read[batches:]
        assert sorted(row for rows in epoch for row in rows) == list(range(len(table)))


def test_epochs_come_in_unlike_orders() -> None:
    table = table_of([(n % 9 + 1, n % 7 + 1) for n in range(60)])
    batches = len(make_batches(table, 40, 3, 0))
    first, second = walk(table, 2, batches, 1)
    assert first != second


@settings(max_examples=40)
@given(lengths, st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(0, 8), st.integers(1, 4))
def test_a_run_resumed_with_other_workers_goes_on_as_the_unbroken_one(
    sides: list[tuple[int, int]], accumulate: int, before: int, after: int, done: int, more: int
) -> None:
    table = table_of(sides)
    unbroken = walk(table, done + more, accumulate, 1)
    position = Position()
    for _ in range(done):
        _, position = UpdateBatches(table, 40, accumulate, 3, Fellow(0, before)).update(position)
    for update in range(more):
        shares = [
            UpdateBatches(table, 40, accumulate, 3, Fellow(rank, after)).update(position) for rank in range(after)
        ]
        numbered = sorted((number, rows_of(batch)) for share, _ in shares for number, batch in share)
        assert [rows for _, rows in numbered] == unbroken[done + update]
        position = shares[0][1]


@settings(max_examples=40)
@given(lengths, st.lists(st.integers(0, 30), max_size=4))
def test_shards_are_read_as_the_one_table_that_they_are(sides: list[tuple[int, int]], cuts: list[int]) -> None:
    table = table_of(sides)
    bounds = [0, *sorted(min(cut, len(table)) for cut in cuts), len(table)]
    parts = [table.select(np.arange(*bound)) for bound in pairwise(bounds)]
    sources, targets = ([getattr(part, side) for part in parts] for side in ("source", "target"))
    assert all(isinstance(part, Sentences) for part in sources)
    sharded = TokenTable(ShardedSentences(sources), ShardedSentences(targets))
    assert np.array_equal(sharded.longest_sides, table.longest_sides)
    for one, other in zip(make_batches(table, 40, 3, 1), make_batches(sharded, 40, 3, 1), strict=True):
        assert one.tolist() == other.tolist()
        left, right = collate(table, one), collate(sharded, other)
        assert torch.equal(left.source, right.source)
        assert torch.equal(left.target_in, right.target_in)
        assert torch.equal(left.target_out, right.target_out)
        assert left.num_tokens == right.num_tokens


def test_a_table_without_pairs_cannot_be_trained_on() -> None:
    with pytest.raises(CorpusError, match="at least one sentence pair"):
        UpdateBatches(table_of([]), 40, 1, 1, OneWorker())

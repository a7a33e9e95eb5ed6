from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hat_ray.corpus.batches import collate, make_batches, make_unshuffled_batches, pad_sources
from hat_ray.corpus.tokens import TokenTable
from hat_ray.corpus.vocabulary import EOS, PAD
from hat_ray.errors import CorpusError

lengths = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=60)


def table_of(sides: list[tuple[int, int]]) -> TokenTable:
    """Sentences of the given lengths, with tokens that tell row and place."""
    return TokenTable.of(
        ([10 + row + place for place in range(s - 1)] + [EOS], [90 + row + place for place in range(t - 1)] + [EOS])
        for row, (s, t) in enumerate(sides)
    )


def shares(table: TokenTable, max_tokens: int, world_size: int, epoch: int = 0) -> list[list[list[int]]]:
    return [
        [batch.tolist() for batch in make_batches(table, max_tokens, 7, epoch, world_size, rank)]
        for rank in range(world_size)
    ]


@given(lengths, st.integers(1, 90), st.integers(1, 5), st.integers(0, 3))
def test_over_all_ranks_every_pair_occurs_once_in_equally_many_batches_within_the_budget(
    sides: list[tuple[int, int]], max_tokens: int, world_size: int, epoch: int
) -> None:
    table = table_of(sides)
    ranks = shares(table, max_tokens, world_size, epoch)
    assert len({len(batches) for batches in ranks}) == 1
    assert Counter(i for batches in ranks for batch in batches for i in batch) == Counter(range(len(table)))
    for batch in (batch for batches in ranks for batch in batches):
        longest = max((max(sides[i]) for i in batch), default=0)
        assert len(batch) * longest <= max_tokens or len(batch) == 1
        # Empty batches are the last resort: none while another could still be halved.
        assert batch or all(len(other) <= 1 for batches in ranks for other in batches)


@given(lengths, st.integers(1, 90))
def test_batches_are_as_full_as_greedy_cutting_makes_them(sides: list[tuple[int, int]], max_tokens: int) -> None:
    table = table_of(sides)
    expected: list[int] = []  # brute force: rows of each batch, from short to long
    rows = 0
    for longest in sorted(max(pair) for pair in sides):
        if rows and (rows + 1) * longest > max_tokens:
            expected, rows = [*expected, rows], 0
        rows += 1
    expected += [rows] if rows else []
    assert [len(batch) for batch in make_unshuffled_batches(table, max_tokens)] == expected


def test_epochs_differ_repeats_do_not_and_ranks_share_one_plan() -> None:
    table = table_of([(i % 7 + 1, i % 5 + 1) for i in range(200)])
    assert shares(table, 40, 2) == shares(table, 40, 2)
    assert shares(table, 40, 2, epoch=0) != shares(table, 40, 2, epoch=1)
    assert {tuple(sorted(b)) for b in shares(table, 40, 1)[0]} != {
        tuple(sorted(b)) for b in shares(table, 40, 1, epoch=1)[0]
    }


def test_unshuffled_batches_go_from_short_to_long() -> None:
    table = table_of([(9, 2), (1, 3), (4, 4), (2, 2)])
    assert [batch.tolist() for batch in make_unshuffled_batches(table, 8)] == [[3, 1], [2], [0]]


def test_collate_pads_source_left_and_target_right_and_shifts_eos_in_front() -> None:
    table = TokenTable.of([([11, 12, EOS], [21, EOS]), ([13, EOS], [22, 23, 24, EOS])])
    batch = collate(table, np.array([1, 0]))
    assert batch.source.tolist() == [[PAD, 13, EOS], [11, 12, EOS]]
    assert batch.target_in.tolist() == [[EOS, 22, 23, 24], [EOS, 21, PAD, PAD]]
    assert batch.target_out.tolist() == [[22, 23, 24, EOS], [21, EOS, PAD, PAD]]
    assert batch.num_tokens == 6
    assert batch.to("cpu").source.dtype == torch.int64


@given(lengths.filter(bool))
def test_collated_rows_hold_the_sentences_and_nothing_else(sides: list[tuple[int, int]]) -> None:
    table = table_of(sides)
    batch = collate(table, np.arange(len(table)))
    for row in range(len(table)):
        source, target = (side.tolist() for side in table.sentence(row))
        assert [t for t in batch.source[row].tolist() if t != PAD] == source
        assert [t for t in batch.target_out[row].tolist() if t != PAD] == target
        assert [t for t in batch.target_in[row].tolist() if t != PAD] == [EOS, *target[:-1]]
    assert batch.num_tokens == int((batch.target_out != PAD).sum()) == int((batch.target_in != PAD).sum())


def test_an_empty_batch_collates_to_tensors_without_rows() -> None:
    batch = collate(table_of([(2, 2)]), np.empty(0, dtype=np.int64))
    assert batch.source.shape[0] == batch.target_in.shape[0] == batch.num_tokens == 0


def test_sources_alone_are_padded_left() -> None:
    assert pad_sources([[5, 6, EOS], [EOS]]).tolist() == [[5, 6, EOS], [PAD, PAD, EOS]]


def test_senseless_requests_are_refused() -> None:
    with pytest.raises(CorpusError, match="max_tokens 0"):
        make_batches(table_of([(2, 2)]), 0, 1, 0)
    with pytest.raises(ValueError, match="rank must lie"):
        make_batches(table_of([(2, 2)]), 8, 1, 0, world_size=2, rank=2)

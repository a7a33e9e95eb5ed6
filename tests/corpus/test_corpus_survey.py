"""The streamed passes against plain in-memory code."""

import random
from collections import Counter
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hat_ray.corpus.cleaning.rules import HeldSources, PairRules, Reason
from hat_ray.corpus.config import TextPart
from hat_ray.corpus.corpus import LengthSummary
from hat_ray.corpus.encode import EncodedChunk, EncodingJob, LengthRules, encode_here
from hat_ray.corpus.text.files import ParallelText
from hat_ray.corpus.text.source import PairedFiles, PairedLines
from hat_ray.corpus.text.survey import sample_positions, survey, vocabulary_lines
from hat_ray.corpus.tokens import TokenTable
from hat_ray.corpus.vocabulary import EOS, Vocabularies
from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.errors import CorpusError

WORDS = ["", "a", "dog", "the cat", "a dog sees the cat", "the cat sees a dog and a cat"]
rows = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS)), min_size=1, max_size=40)


def left(
    pairs: list[tuple[str, str]], valid_every: int, deduplicate: bool, leaks: Collection[str] = ()
) -> list[tuple[str, str]]:
    """The pairs to train on, said plainly."""
    kept: list[tuple[str, str]] = []
    for number, pair in enumerate(pairs, 1):
        held = valid_every and number % valid_every == 0
        if all(pair) and not held and pair[0] not in leaks and not (deduplicate and pair in kept):
            kept.append(pair)
    return kept


@settings(max_examples=60)
@given(rows, st.integers(1, 7), st.sampled_from([0, 2, 3]), st.booleans(), st.booleans())
def test_what_is_left_is_what_plain_code_leaves(
    pairs: list[tuple[str, str]], chunk: int, valid_every: int, deduplicate: bool, remove: bool
) -> None:
    source = PairedLines(ParallelText([pair[0] for pair in pairs], [pair[1] for pair in pairs]), chunk)
    expected = left(pairs, valid_every, deduplicate)
    if not expected:
        with pytest.raises(CorpusError, match=r"every training pair lacks a side|no training pair is left of"):
            survey(source, PairRules(valid_every=valid_every, deduplicate=deduplicate))
        return
    held = [pair for number, pair in enumerate(pairs, 1) if valid_every and number % valid_every == 0 and all(pair)]
    if valid_every and not held:
        with pytest.raises(CorpusError, match="takes no pair out of"):
            survey(source, PairRules(valid_every=valid_every, deduplicate=deduplicate))
        return
    rules = PairRules(HeldSources.of(["a", "elk", ""], ["dog", "elk"]), remove, valid_every, deduplicate=deduplicate)
    unleaked, expected = expected, left(pairs, valid_every, deduplicate, {"a", "dog"} if remove else ())
    if not expected:
        with pytest.raises(CorpusError, match="have a source of validation or test"):
            survey(source, rules)
        return
    found = survey(source, rules)
    kept = [pair for c in found.text.all_chunks() for pair in zip(c.text.source, c.text.target, strict=True)]
    assert kept == expected
    assert found.kept == len(expected)
    assert list(zip(found.held_out.source, found.held_out.target, strict=True)) == held
    assert found.dropped[Reason.EMPTY] == sum(not all(pair) for pair in pairs)
    assert found.dropped[Reason.HELD_OUT] == len(held)
    once = left(pairs, valid_every, False, {"a", "dog"} if remove else ())
    assert found.dropped[Reason.DUPLICATE] == len(once) - len(expected)
    assert found.dropped[Reason.LEAK] == len(left(pairs, valid_every, False)) - len(once)
    assert found.test_sources_seen == ("dog" in {pair[0] for pair in unleaked})
    assert found.valid_sources_seen == ("a" in {pair[0] for pair in unleaked})
    assert list(vocabulary_lines(found, 1000, 1)) == [p[0] for p in expected] + [p[1] for p in expected]


def test_several_files_are_one_text_in_every_pass(tmp_path: Path) -> None:
    sizes, parts = (5, 1, 8), []
    for number, size in enumerate(sizes):
        for side in "st":
            lines = [f"{side} {number} {row}" for row in range(size)]
            (tmp_path / f"{side}{number}").write_text("\n".join(lines))
        parts.append(tuple(TextPart(path=str(tmp_path / f"{side}{number}")) for side in "st"))
    source = PairedFiles(tuple(p[0] for p in parts), tuple(p[1] for p in parts), chunk_pairs=3)
    found = survey(source, PairRules())
    chunks = list(found.text.all_chunks())
    assert [chunk.number for chunk in chunks] == list(range(6))
    assert [chunk.first_row for chunk in chunks] == [0, 3, 5, 6, 9, 12]
    assert [line for chunk in chunks for line in chunk.text.source] == [
        f"s {number} {row}" for number, size in enumerate(sizes) for row in range(size)
    ]
    assert [chunk.number for chunk in found.text.all_chunks(first_chunk=3)] == [3, 4, 5]
    (tmp_path / "t1").write_text("one\ntwo")
    with pytest.raises(CorpusError, match=r"s1 has 1 and .*t1 has 2"):
        survey(source, PairRules())


@given(st.integers(1, 60_000), st.integers(0, 3), st.randoms(use_true_random=False))
def test_a_sample_has_its_size_and_no_repetition(total: int, seed: int, random: random.Random) -> None:
    size = random.randint(1, total)
    positions = sample_positions(total, size, seed)
    assert len(positions) == size
    assert all(before < after for before, after in pairwise(positions.tolist()))
    assert 0 <= positions[0] <= positions[-1] < total


def test_every_position_is_drawn_equally_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hat_ray.corpus.text.survey.CHUNK_PAIRS", 4)
    counts = Counter(p for seed in range(4000) for p in sample_positions(11, 5, seed).tolist())
    expected = 4000 * 5 / 11
    assert all(abs(counts[p] - expected) < 5 * np.sqrt(expected) for p in range(11))


@settings(max_examples=30)
@given(rows, st.integers(1, 7), st.integers(2, 12), st.sampled_from([0.0, 1.0, 1.5, 3.0]))
def test_chunks_are_encoded_as_the_whole_would_be(
    pairs: list[tuple[str, str]], chunk: int, max_length: int, max_ratio: float
) -> None:
    vocabulary = learn_vocabulary(WORDS[1:] * 3, 20, byte_fallback=False)
    source = PairedLines(ParallelText([p[0] for p in pairs] + ["a"], [p[1] for p in pairs] + ["a"]), chunk)
    found = survey(source, PairRules())
    encoded = list(
        encode_here(EncodingJob(found.text, Vocabularies.of_both(vocabulary), LengthRules(max_length, max_ratio)), 0)
    )
    expected, long, ratio = [], 0, 0
    for pair in [*filter(all, pairs), ("a", "a")]:
        s, t = (vocabulary.encode(line) for line in pair)
        if max(len(s), len(t)) > max_length:
            long += 1
        elif max_ratio and max(len(s), len(t)) - 1 > max_ratio * (min(len(s), len(t)) - 1):
            ratio += 1
        else:
            expected.append((s, t))
    assert [pair for part in encoded for pair in tokens_of(part)] == expected
    assert sum(part.dropped_long for part in encoded) == long
    assert sum(part.dropped_ratio for part in encoded) == ratio


def tokens_of(part: EncodedChunk) -> list[tuple[list[int], list[int]]]:
    table = TokenTable(part.source, part.target)
    pairs = [table.sentence(row) for row in range(len(table))]
    assert all(side[-1] == EOS for pair in pairs for side in pair)
    return [(source.tolist(), target.tolist()) for source, target in pairs]


@given(st.lists(st.integers(1, 50), min_size=1))
def test_figures_of_lengths_are_those_of_the_lengths_themselves(lengths: list[int]) -> None:
    found = LengthSummary.of(Counter(lengths))
    median, p90 = np.percentile(lengths, [50, 90], method="higher")
    assert (found.tokens, found.median, found.p90, found.longest) == (sum(lengths), median, p90, max(lengths))

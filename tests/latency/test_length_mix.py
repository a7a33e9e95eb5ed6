from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from hat_ray.errors import LatencyError
from hat_ray.latency.timing.engines import ready, translation
from hat_ray.latency.timing.workload import Workload, draw_pairs
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.space.presets import PRESETS

SPACE = PRESETS["toy"]
BASE = Workload(source_length=5, target_length=4, vocab_size=50)


def corpus(kind: str, size: int = 2000) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lengths of a corpus: captions of like length, news with a long tail, or two kinds of text in one."""
    rng = np.random.default_rng(7)
    source = {
        "captions": lambda: rng.normal(13, 3, size),
        "news": lambda: rng.lognormal(3.1, 0.6, size),
        "two kinds": lambda: np.where(rng.random(size) < 0.7, rng.normal(6, 1, size), rng.normal(60, 9, size)),
    }[kind]()
    source = np.clip(source.round(), 2, 250).astype(np.int64)
    return source, np.clip((source * rng.normal(1.1, 0.2, size)).round(), 2, 250).astype(np.int64)


@pytest.mark.parametrize("kind", ["captions", "news", "two kinds"])
@pytest.mark.parametrize("count", [4, 8, 16])
def test_a_few_pairs_have_the_corpus_mean_and_its_spread(kind: str, count: int) -> None:
    source, target = corpus(kind)
    pairs = np.array(draw_pairs(source, target, count))
    assert pairs.shape == (count, 2)
    assert pairs.mean(axis=0) == pytest.approx([source.mean(), target.mean()], rel=0.02)
    totals, chosen = np.sort(source + target), np.sort(pairs.sum(axis=1))
    at = np.arange(totals[-1])
    apart = np.searchsorted(totals, at, "right") / len(totals) - np.searchsorted(chosen, at, "right") / count
    assert np.abs(apart).max() <= 1 / count + 0.01  # as near as so few pairs can be (Kolmogorov's distance)
    assert set(map(tuple, pairs.tolist())) <= set(zip(source.tolist(), target.tolist(), strict=True))


def test_a_small_corpus_that_parts_do_not_divide_evenly_keeps_its_mean() -> None:
    source, target = corpus("news", size=45)
    pairs = np.array(draw_pairs(source, target, 16))
    assert pairs.mean(axis=0) == pytest.approx([source.mean(), target.mean()], rel=0.03)


def test_pairs_do_not_depend_on_the_order_of_the_sentences() -> None:
    source, target = corpus("news")
    order = np.random.default_rng(0).permutation(len(source))
    assert draw_pairs(source, target, 8) == draw_pairs(source[order], target[order], 8)


def test_a_corpus_smaller_than_the_mix_gives_all_its_pairs_and_an_empty_one_none() -> None:
    assert draw_pairs([5, 3], [6, 2], 4) == ((3, 2), (5, 6))
    assert draw_pairs([5, 3, 4], [6, 2, 4], 1) == ((4, 4),)
    with pytest.raises(LatencyError, match="needs validation sentences"):
        draw_pairs([], [], 4)


def test_a_mix_is_told_by_its_pairs_whatever_their_order_and_by_rounded_means() -> None:
    mixed = BASE.with_mix([(20, 23), (12, 14)])
    assert mixed == BASE.with_mix([(12, 14), (20, 23)])
    assert (mixed.length_mix, mixed.source_length, mixed.target_length) == ("12x14,20x23", 16, 18)
    assert mixed.pairs == ((12, 14), (20, 23))
    assert BASE.pairs == ((5, 4),)
    assert mixed != replace(BASE, source_length=16, target_length=18)


def test_a_repetition_translates_each_pair_once_and_tells_the_mean(time_is_work: FlopCounterMode) -> None:
    model = SubTransformer(SPACE.smallest(), 50, ModelConfig())
    pairs = [(2, 3), (6, 30), (9, 12)]
    starts: list[int] = []
    steps: list[int] = []
    start, step = model.start, model.step
    model.start = lambda source, beam: (starts.append(source.shape[1]), start(source, beam))[1]  # type: ignore
    model.step = lambda tokens, state: (steps.append(1), step(tokens, state))[1]  # type: ignore
    with ready(model, 1):
        translate = translation(model, BASE.with_mix(pairs))
        translate()
        assert (starts, len(steps)) == ([2, 6, 9], 45)
        before = time_is_work.get_total_flops()
        samples = [translate() for _ in range(8)]
        passed_ms = (time_is_work.get_total_flops() - before) / 1e6
    assert passed_ms > 0
    assert 3 * sum(sample.total_ms for sample in samples) == pytest.approx(passed_ms)


def test_a_pair_longer_than_the_positions_is_refused() -> None:
    model = SubTransformer(SPACE.smallest(), 50, ModelConfig(max_positions=64))
    with pytest.raises(LatencyError, match=r"lengths of latency\.length_mix .*max_positions 64, got 65"):
        translation(model, BASE.with_mix([(4, 4), (65, 4)]))
    with torch.inference_mode():
        translation(model.eval(), BASE.with_mix([(64, 64), (4, 4)]))()

"""Rating ways to rank: made-up trainings whose right order is known."""

import math
import random
from statistics import fmean

import numpy as np
import pytest

from hat_ray.core.codec import from_json, to_json
from hat_ray.space.cost import cost
from hat_ray.space.presets import TOY
from hat_ray.studies.rating import CEILING, LAYERS, Truth, random_regrets, rank_all, rank_policies, size_predictors
from hat_ray.studies.results import (
    PolicyStudy,
    RankingResult,
    ScoredSupernet,
    ScratchTrained,
    mean_spread,
)
from hat_ray.studies.statistics import kendall_tau_b
from hat_ray.studies.stratify import PROXY, stratify


def made_up(noise: float, seeds: int, count: int = 18) -> list[ScratchTrained]:
    """Losses fall with parameters; each seed adds its own noise."""
    rng = random.Random(4)
    tried = []
    for one in stratify(TOY, lambda many: np.array([float(cost(a).params) for a in many]), count, 3, seed=1):
        counted = cost(one.architecture)
        base = 5 - counted.params / 1e6
        losses = tuple(base + rng.gauss(0, noise) for _ in range(seeds))
        tried.append(
            ScratchTrained(
                one.architecture, one.latency, one.bin, counted.params, counted.flops, losses, (30 - base,) * seeds
            )
        )
    return tried


def test_a_perfect_order_has_tau_one_everywhere_and_no_regret():
    tried = made_up(0, 2)
    truth = Truth.of(tried, 200, seed=1)
    perfect, layers, parameters, *_, ceiling = rank_all(
        truth, tried, {"inherited": [t.scratch_mean_bits for t in tried]}
    )
    for rank in (perfect, parameters, ceiling):
        assert (rank.overall.value, rank.within.value) == (1, 1)
        assert (rank.within.low, rank.within.high) == (1, 1)
        assert rank.rho == pytest.approx(1)
        assert rank.regrets == (0, 0, 0)
    assert layers.name == LAYERS
    assert layers.gain is None
    assert ceiling.name == CEILING
    assert perfect.gain is not None
    assert perfect.gain.value == pytest.approx(1 - layers.within.value)
    assert all(regret > 0 for regret in random_regrets(truth))


def test_more_decoder_layers_are_taken_for_better():
    tried = made_up(0, 1)
    depths = size_predictors(tried)[LAYERS]
    assert kendall_tau_b(depths, [-t.architecture.decoder.depth for t in tried]) == 1


def test_the_ceiling_is_one_seed_against_the_mean_of_the_others():
    tried = made_up(0.2, 3)
    truth = Truth.of(tried, 200, seed=1)
    ceiling = rank_all(truth, tried, {})[-1]
    seeds = [[t.scratch_loss_bits[s] for t in tried] for s in range(3)]
    folds = [
        kendall_tau_b(seeds[s], [fmean(loss for i, loss in enumerate(t.scratch_loss_bits) if i != s) for t in tried])
        for s in range(3)
    ]
    assert ceiling.overall.value == pytest.approx(fmean(folds))
    assert ceiling.overall.low < ceiling.overall.value < 1
    assert len(rank_all(Truth.of(made_up(0.2, 1), 200, seed=1), tried, {})) == len(size_predictors(tried))


def test_bleu_ranks_the_other_way_round():
    tried = made_up(0, 1)
    truth = Truth.of(tried, 200, seed=1, bleu=True)
    assert truth.tau([-t.scratch_bleu[0] for t in tried], within=True) == 1
    assert truth.tau([t.scratch_mean_bits for t in tried], within=False) == 1  # less loss, more BLEU
    assert truth.tau([t.scratch_bleu[0] for t in tried], within=False) == -1


def test_policies_are_means_over_seeds_and_compared_on_the_same_resamples():
    tried, rng = made_up(0, 2), random.Random(1)
    truth = Truth.of(tried, 300, seed=1)
    good = [[t.scratch_mean_bits for t in tried]] * 2
    poor = [[t.scratch_mean_bits + rng.gauss(0, 0.3) for t in tried] for _ in range(2)]
    first, same, better = rank_policies(truth, tried, {"a": poor, "b": poor, "c": good})
    assert first.gain is None
    assert (same.gain.value, same.gain.low, same.gain.high) == (0, 0, 0)
    taus = [truth.tau(one, within=True) for one in poor]
    assert first.within.value == pytest.approx(fmean(taus))
    assert better.gain.value == pytest.approx(1 - fmean(taus))
    assert better.gain.low > 0
    assert first.within.low < first.within.value < first.within.high


def test_results_come_back_from_json_as_they_were():
    tried = made_up(0.1, 2)
    truth, losses = Truth.of(tried, 100, seed=1), tuple(t.scratch_mean_bits for t in tried)
    ranks = rank_all(truth, tried, {"inherited loss": losses})
    result = RankingResult(PROXY, tuple(tried), losses, (), ranks, random_regrets=random_regrets(truth))
    assert from_json(RankingResult, to_json(result), "the study") == result
    net = ScoredSupernet("front/uniform", 0, 10, 100, 1.5, 1e9, 4.0, 5.0, losses, 0.5, None)
    policies = rank_policies(truth, tried, {"front/uniform": [losses]})
    study = PolicyStudy(PROXY, tuple(tried), (net,), policies, ranks)
    assert from_json(PolicyStudy, to_json(study), "the study") == study


def test_mean_and_spread_leave_out_what_is_unknown():
    assert mean_spread([1.0, None, 3.0]) == (2.0, pytest.approx(math.sqrt(2)))
    assert mean_spread([None, 1.0]) == (1.0, None)
    assert mean_spread([None]) == (None, None)

"""Ranking figures against SciPy, brute force and cases whose answer is known."""

import math
import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hat_ray.studies.statistics import (
    interval,
    kendall_tau_b,
    mean_estimate,
    regrets,
    resample,
    spearman_rho,
    tau_samples,
)

lists = st.integers(2, 9).flatmap(
    lambda n: st.tuples(
        *(st.lists(st.integers(0, 4), min_size=n, max_size=n) for _ in range(2)),
        st.lists(st.integers(0, 2), min_size=n, max_size=n),
    )
)


def same(a: float | None, b: float) -> bool:
    return math.isnan(b) if a is None else a == pytest.approx(b, abs=1e-12)


@given(lists)
@settings(max_examples=200)
def test_tau_and_rho_equal_scipys_also_with_ties(values):
    x, y, _ = values
    with np.errstate(all="ignore"):
        assert same(kendall_tau_b(x, y), stats.kendalltau(x, y).statistic)
        if len(set(x)) > 1 and len(set(y)) > 1:
            assert same(spearman_rho(x, y), stats.spearmanr(x, y).statistic)


@given(lists)
@settings(max_examples=200)
def test_tau_within_bins_equals_counting_the_pairs_of_each_bin(values):
    x, y, bins = values
    right = wrong = x_pairs = y_pairs = 0
    for i, j in combinations(range(len(x)), 2):
        if bins[i] == bins[j]:
            product = (x[i] - x[j]) * (y[i] - y[j])
            right, wrong = right + (product > 0), wrong + (product < 0)
            x_pairs, y_pairs = x_pairs + (x[i] != x[j]), y_pairs + (y[i] != y[j])
    found = kendall_tau_b(x, y, bins)
    if x_pairs and y_pairs:
        assert found == pytest.approx((right - wrong) / math.sqrt(x_pairs * y_pairs))
    else:
        assert found is None


def test_a_resample_equals_tau_of_the_list_that_it_stands_for():
    rng = random.Random(3)
    x, y = [rng.random() for _ in range(9)], [rng.random() for _ in range(9)]
    bins = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    drawn = resample(bins, 50, seed=4)
    for row, overall, within in zip(drawn, tau_samples(x, y, None, drawn), tau_samples(x, y, bins, drawn), strict=True):
        xs, ys, bs = ([values[i] for i in row] for values in (x, y, bins))
        assert same(kendall_tau_b(xs, ys), overall)
        assert same(kendall_tau_b(xs, ys, bs), within)


def test_resamples_stay_in_their_bins_and_repeat():
    bins = [0, 1, 0, 1, 2]
    drawn = resample(bins, 300, seed=1)
    assert np.array_equal(np.asarray(bins)[drawn], np.broadcast_to(bins, drawn.shape))
    assert np.array_equal(drawn, resample(bins, 300, seed=1))
    assert not np.array_equal(drawn, resample(bins, 300, seed=2))
    assert set(drawn[:, 0]) == {0, 2}


def test_an_interval_covers_what_it_should():
    """Of 100 drawn samples of a population with a known tau, about 95 intervals must hold it; wide at 24 points."""
    rng, held = np.random.default_rng(5), 0
    rho = 0.6
    truth = 2 / math.pi * math.asin(rho)  # tau of a bivariate normal
    for trial in range(100):
        x = rng.normal(size=24)
        y = rho * x + math.sqrt(1 - rho**2) * rng.normal(size=24)
        low, high = interval(tau_samples(x, y, None, resample([0] * 24, 400, seed=trial)))
        held += low <= truth <= high
    assert 85 <= held <= 100


def test_orders_without_information_have_no_tau():
    assert kendall_tau_b([1, 1, 1], [1, 2, 3]) is None
    assert spearman_rho([1, 1, 1], [1, 2, 3]) is None
    assert kendall_tau_b([1, 2], [3, 4], [0, 1]) is None
    assert mean_estimate([None], [np.array([np.nan])]).value is None


def test_regret_is_the_loss_of_the_pick_over_the_best_of_its_bin():
    true = [5.0, 4.0, 3.0, 9.0, 8.0, 7.0]
    bins = [0, 0, 0, 1, 1, 1]
    assert regrets(true, true, bins) == [0, 0]
    assert regrets([1, 2, 3, 3, 2, 1], true, bins) == [2.0, 0.0]
    assert regrets([0] * 6, true, bins) == [1.0, 1.0]  # no opinion: the mean of the bin

"""The linear model of the loss against closed forms."""

import numpy as np
import pytest

from hat_ray.search.algorithms.surrogate.features import GROUPS, FloatArray, GeneFeatures
from hat_ray.search.algorithms.surrogate.model import Posterior, Scales, learn_scales, targets
from hat_ray.space.genes import GeneCode
from hat_ray.space.presets import SPACE0

SCALES = Scales.start()


def problem(rows: int, columns: int) -> tuple[FloatArray, np.ndarray, FloatArray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, columns))
    groups = rng.integers(0, len(GROUPS), columns)
    return x, groups, x @ rng.standard_normal(columns) + 0.05 * rng.standard_normal(rows)


@pytest.mark.parametrize("shape", [(30, 12), (12, 30)], ids=["long", "wide"])
def test_mean_and_spread_of_the_draws_are_those_of_bayesian_regression(shape: tuple[int, int]) -> None:
    x, groups, y = problem(*shape)
    prior = np.diag(SCALES.by_feature(groups) ** -2.0)
    noise = SCALES.of["noise"] ** 2
    covariance = np.linalg.inv(x.T @ x / noise + prior)
    mean = covariance @ x.T @ y / noise
    posterior = Posterior(x, groups, y, SCALES)
    np.testing.assert_allclose(posterior.mean(), mean, rtol=1e-6, atol=1e-8)
    draws = posterior.draws(40_000, np.random.default_rng(1))
    np.testing.assert_allclose(draws.mean(1), mean, atol=0.03)
    np.testing.assert_allclose(np.cov(draws), covariance, atol=0.03 * np.diag(covariance).max() + 1e-4)
    narrow = posterior.draws(5000, np.random.default_rng(1), spread=0.1)
    np.testing.assert_allclose(narrow.std(1), 0.1 * np.sqrt(np.diag(covariance)), rtol=0.1)


def test_targets_keep_the_order_and_cut_what_is_far_above() -> None:
    losses = np.array([3.0, 3.1, 3.2, 3.15, np.inf, 3.3, 3.12, 3.18, 3.11, 3.22, 3.17, 900.0])
    y = targets(losses)
    finite = np.isfinite(losses)
    assert (np.diff(y[np.argsort(losses)]) >= 0).all()
    assert y[~finite] == y.max()
    assert y.max() - np.median(y) < 20 * (np.median(y) - y.min())
    assert y.mean() == pytest.approx(0, abs=1e-12)
    assert y.std() == pytest.approx(1)
    assert np.array_equal(targets(np.full(5, np.inf)), np.zeros(5))
    assert np.array_equal(targets(np.full(5, 2.0)), np.zeros(5))


def test_scales_tell_signal_from_noise() -> None:
    code = GeneCode(SPACE0)
    features, rng = GeneFeatures(code), np.random.default_rng(3)
    x = features(code.canonical(code.random_rows(150, rng)))
    weights = np.where(features.groups == GROUPS.index("layer"), rng.standard_normal(x.shape[1]), 0)
    signal = targets(x @ weights)
    learned = learn_scales(x, features.groups, signal)
    luck = learn_scales(x, features.groups, targets(rng.standard_normal(150)))
    assert learned.of["noise"] < 0.1
    assert luck.of["noise"] > 0.5
    assert luck.of["layer"] < learned.of["layer"]


def test_the_model_ranks_what_it_has_not_seen() -> None:
    code = GeneCode(SPACE0)
    features, rng = GeneFeatures(code), np.random.default_rng(4)
    x = features(code.canonical(code.random_rows(400, rng)))
    truth = x @ (SCALES.by_feature(features.groups) * rng.standard_normal(x.shape[1]))
    y = targets(truth[:200])
    weights = Posterior(x[:200], features.groups, y, learn_scales(x[:200], features.groups, y)).mean()
    assert np.corrcoef(x[200:] @ weights, truth[200:])[0, 1] > 0.9

"""Slow stretches: found where they were found by hand, and nowhere else."""

from pathlib import Path

import numpy as np
import pytest

from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.slow_periods import slow_periods
from tests.predictor.hat_tables import BURSTS, hat_table, split


@pytest.mark.parametrize("name", BURSTS)
def test_they_are_found_in_the_tables_that_have_them(shared: Path, name: str) -> None:
    truth = np.zeros(2000, dtype=bool)
    for first, last in BURSTS[name]:
        truth[first : last + 1] = True
    slow = Predictor.fit(hat_table(shared, name), PredictorConfig(), name, "hat", 0).held_out.slow
    assert (slow & truth).sum() >= 0.95 * slow.sum()
    assert (slow & truth).sum() >= 0.95 * truth.sum()


@pytest.mark.parametrize("name", ["wmt14enfr_cpu_raspberrypi", "wmt14enfr_cpu_xeon"])
def test_none_is_found_in_the_clean_ones(shared: Path, name: str) -> None:
    rows = hat_table(shared, name)
    for seed, count in [(0, 2000), (1, 1600), (2, 400)]:
        part = rows if count == 2000 else rows[split(count, seed)[0]]
        assert not Predictor.fit(part, PredictorConfig(), name, "hat", 0).held_out.slow.any()


def test_noise_is_no_stretch_and_single_slow_rows_are_none() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        noise = rng.normal(0, 0.04, 600)
        noise[rng.choice(600, 12, replace=False)] += 0.5
        assert not slow_periods(noise).any()


def test_a_long_table_is_cut_in_steps_and_a_short_or_even_one_not_at_all() -> None:
    values = np.random.default_rng(0).normal(0, 0.02, 30_000)
    values[12_000:15_000] += 0.25
    found = slow_periods(values)
    assert found[12_000:15_000].mean() > 0.99
    assert found[:11_990].sum() + found[15_010:].sum() == 0
    assert not slow_periods(values[12_000:12_010]).any()
    assert not slow_periods(np.zeros(100)).any()
    assert slow_periods(np.zeros(0)).shape == (0,)


def test_slow_rows_stay_in_the_interval_but_not_in_the_quality(shared: Path) -> None:
    rows = hat_table(shared, "iwslt14deen_gpu_titanxp")
    train, test = split(1600, 0)
    aside = Predictor.fit(rows[train], PredictorConfig(), "d", "hat", 0)
    kept = Predictor.fit(rows[train], PredictorConfig(set_slow_aside=False), "d", "hat", 0)
    assert aside.quality.mape < 0.5 * kept.quality.mape
    assert not kept.held_out.slow.any()
    measured = rows.total_ms[test]
    low, high = aside.predict_rows(rows[test], 0.05), aside.predict_rows(rows[test], 0.95)
    assert 0.84 < ((low <= measured) & (measured <= high)).mean() < 0.96

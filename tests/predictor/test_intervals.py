"""Intervals that cover what they say, also from few rows; and architectures that lie outside the rows."""

from pathlib import Path

import numpy as np
import pytest

from hat_ray.errors import PredictorError
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.predictor import Predictor, conformal_factor
from hat_ray.predictor.rows import rows_of
from hat_ray.space.features import cost_features
from hat_ray.space.presets import SPACE0
from tests.predictor.hat_tables import hat_table, split
from tests.predictor.test_predictor import sampled


@pytest.mark.parametrize("name", ["wmt14ende_cpu_xeon", "wmt14ende_gpu_titanxp", "wmt14enfr_gpu_titanxp"])
def test_ninety_per_cent_cover_ninety_per_cent_of_unseen_rows(shared: Path, name: str) -> None:
    rows, covered = hat_table(shared, name), []
    for seed in range(5):
        train, test = split(1600, seed)
        predictor = Predictor.fit(rows[train], PredictorConfig(), name, "hat", seed)
        low, high = predictor.predict_rows(rows[test], 0.05), predictor.predict_rows(rows[test], 0.95)
        covered += [*((low <= rows.total_ms[test]) & (rows.total_ms[test] <= high))]
    assert 0.87 < np.mean(covered) < 0.93


@pytest.mark.parametrize("rows", [10, 15, 30, 200])
@pytest.mark.parametrize("quantile", [0.02, 0.05, 0.5, 0.9, 0.95, 0.98])
def test_a_factor_holds_with_its_probability_whatever_the_number_of_rows(rows: int, quantile: float) -> None:
    held = []
    for seed in range(400):
        ratios = np.random.default_rng(seed).lognormal(0.01, 0.05, rows + 20)
        held.append((ratios[rows:] <= conformal_factor(ratios[:rows], quantile)).mean())
    reached = np.mean(held)
    assert abs(reached - quantile) < 0.03 + 1 / (rows + 1) if 0.1 < quantile < 0.9 else True
    assert reached >= quantile - 0.02 if quantile >= 0.5 else reached <= quantile + 0.02


def test_an_interval_surrounds_its_prediction_and_grows_with_its_coverage() -> None:
    architectures = sampled(80)
    noisy = cost_features(architectures).sum(axis=1) * np.random.default_rng(0).lognormal(0, 0.05, 80)
    predictor = Predictor.fit(rows_of(architectures, noisy), PredictorConfig(), "d", SPACE0.id, 0)
    others = sampled(20, seed=9)
    predicted = predictor.predict(others)
    bounds = [predictor.interval(others, coverage) for coverage in (0.5, 0.9, 0.95)]
    for low, high in bounds:
        assert ((low < predicted) & (predicted < high)).all()
    widths = [(high / low).max() for low, high in bounds]
    assert widths == sorted(widths)
    with pytest.raises(PredictorError, match=r"coverage must lie between 0 and 1, got 1\.5"):
        predictor.interval(others, 1.5)
    with pytest.raises(PredictorError, match="quantile must lie between 0 and 1, got 0"):
        predictor.predict(others, 0)


def test_an_architecture_beyond_the_rows_is_told() -> None:
    shallow = [one for one in sampled(400) if one.decoder.depth <= 3][:60]
    predictor = Predictor.fit(
        rows_of(shallow, cost_features(shallow).sum(axis=1)), PredictorConfig(), "d", SPACE0.id, 0
    )
    deep = SPACE0.largest()
    assert predictor.extrapolation(shallow) == [None] * len(shallow)
    (told,) = predictor.extrapolation([deep])
    assert told is not None
    assert "decoder_depth 6 lies outside the timed rows' 1 to 3" in told
    others = [one for one in sampled(400, seed=7) if one.decoder.depth <= 3]
    assert sum(reason is None for reason in predictor.extrapolation(others)) > 0.8 * len(others)

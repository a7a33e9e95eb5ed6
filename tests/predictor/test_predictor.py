"""The predictor on HAT's published tables, on a device whose law is known, and through a file."""

import random
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from hat_ray.errors import DamagedError, PredictorError
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.quality import Quality, fold_of_rows, quality
from hat_ray.predictor.rows import TimedRows, costs_from_hat, rows_of
from hat_ray.predictor.store import load_predictor, save_predictor
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_macs
from hat_ray.space.features import FloatArray, cost_features, hat_features
from hat_ray.space.presets import HAT_LATENCY, SPACE0
from hat_ray.storage.folder import Folder
from tests.damage import sealed
from tests.predictor.hat_tables import hat_table

CONFIG = PredictorConfig()


def held_out_error(predictor: Predictor, rows: TimedRows) -> Quality:
    return quality(rows.total_ms, predictor.predict_rows(rows))


def sampled(count: int, seed: int = 0) -> list[Architecture]:
    rng = random.Random(seed)
    return [SPACE0.sample(rng) for _ in range(count)]


def cache_cliff_ms(architectures: list[Architecture]) -> FloatArray:
    """A device that no linear law describes: past a size its time jumps by half."""
    macs = np.array([count_macs(architecture, 30) for architecture in architectures]) / 1e7
    return np.where(macs > np.median(macs), 1.5, 1.0) * macs


def test_twenty_rows_of_a_clean_table_are_enough(shared: Path) -> None:
    table = hat_table(shared, "wmt14enfr_cpu_raspberrypi")
    errors = []
    for seed in range(5):
        order = random.Random(seed).sample(range(2000), 2000)
        predictor = Predictor.fit(table[order[:20]], CONFIG, "pi", SPACE0.id, seed)
        errors.append(held_out_error(predictor, table[order[1800:]]).mape)
    assert np.mean(errors) < 1
    assert max(errors) < 1.5


@pytest.mark.parametrize(
    ("table", "hat_mlp_mape"),
    [("iwslt14deen_gpu_titanxp", 6.92), ("wmt14ende_cpu_xeon", 4.88), ("wmt14enfr_gpu_titanxp", 2.20)],
)
def test_a_full_table_is_predicted_better_than_by_hats_network(shared: Path, table: str, hat_mlp_mape: float) -> None:
    rows, order = hat_table(shared, table), list(range(2000))
    random.Random(0).shuffle(order)
    predictor = Predictor.fit(rows[sorted(order[:1600])], CONFIG, table, SPACE0.id, 0)
    assert held_out_error(predictor, rows[order[1800:]]).mape < hat_mlp_mape
    assert len(predictor.held_out.measured_ms) == 1600


def test_hats_ten_averages_give_the_same_columns_as_the_whole_architecture() -> None:
    architectures = sampled(200)
    np.testing.assert_allclose(costs_from_hat(hat_features(architectures)), cost_features(architectures))


def test_a_linear_law_is_recovered_and_a_larger_architecture_is_never_faster() -> None:
    architectures = sampled(40)
    law = lambda some: 3 + cost_features(some) @ np.arange(15) * 1e-3  # noqa: E731
    predictor = Predictor.fit(rows_of(architectures, law(architectures)), CONFIG, "linear", SPACE0.id, 0)
    others = [HAT_LATENCY.largest(), HAT_LATENCY.smallest(), *sampled(100, seed=1)]
    np.testing.assert_allclose(predictor.predict(others), law(others), rtol=0.01)
    predicted = predictor.predict(others)
    assert predicted[0] == predicted.max()
    assert predicted[1] == predicted.min()


def test_trees_are_used_where_they_help_and_only_there() -> None:
    architectures = sampled(400)
    cliff = Predictor.fit(rows_of(architectures, cache_cliff_ms(architectures)), CONFIG, "cliff", SPACE0.id, 0)
    few = Predictor.fit(rows_of(architectures[:30], cache_cliff_ms(architectures[:30])), CONFIG, "cliff", SPACE0.id, 0)
    linear_ms = cost_features(architectures).sum(axis=1)
    linear = Predictor.fit(rows_of(architectures, linear_ms), CONFIG, "linear", SPACE0.id, 0)
    without = Predictor.fit(
        rows_of(architectures, cache_cliff_ms(architectures)),
        PredictorConfig(min_rows_for_trees=10_000),
        "cliff",
        SPACE0.id,
        0,
    )
    assert cliff.trees_share > 0
    assert cliff.quality.mape < 0.8 * without.quality.mape
    assert few.trees is None
    assert linear.trees_share == 0


def test_the_quantile_covers_its_share_of_new_rows() -> None:
    rng = np.random.default_rng(0)
    train, test = sampled(300, 1), sampled(1000, 2)
    noisy = lambda some: cost_features(some).sum(axis=1) * rng.lognormal(0, 0.05, len(some))  # noqa: E731
    predictor = Predictor.fit(rows_of(train, noisy(train)), CONFIG, "noisy", SPACE0.id, 0)
    covered = float((noisy(test) <= predictor.predict(test, quantile=0.9)).mean())
    assert 0.85 < covered < 0.95


def test_what_is_predicted_is_the_mean_of_timings_with_a_slow_tail_but_for_single_outliers() -> None:
    rng = np.random.default_rng(0)
    train, test = sampled(600, 1), sampled(300, 2)
    law = lambda some: 3 + cost_features(some).sum(axis=1)  # noqa: E731
    tail = 1 + 0.02 * rng.gamma(0.5, 2, len(train))  # half of the rows within 1 %, the mean 2 % above the law
    times = law(train) * tail
    predictor = Predictor.fit(rows_of(train, times), CONFIG, "tail", SPACE0.id, 0)
    raised = np.median(predictor.predict(test) / law(test))
    assert np.median(tail) + 0.003 < raised < tail.mean() + 0.002
    assert np.mean(np.log(predictor.held_out.measured_ms / predictor.held_out.predicted_ms)) == pytest.approx(
        0, abs=5e-3
    )
    times[::100] *= 10
    outliers = Predictor.fit(rows_of(train, times), CONFIG, "tail", SPACE0.id, 0)
    assert np.median(outliers.predict(test) / predictor.predict(test)) == pytest.approx(1, abs=3e-3)


def test_ten_thousand_architectures_go_through_the_trees_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    train, many = sampled(200), sampled(10_000, 3)
    predictor = Predictor.fit(rows_of(train, cache_cliff_ms(train)), CONFIG, "cliff", SPACE0.id, 0)
    assert predictor.trees_share > 0
    asked, ask = [], xgb.Booster.inplace_predict
    monkeypatch.setattr(
        xgb.Booster, "inplace_predict", lambda self, rows: (asked.append(len(rows)), ask(self, rows))[1]
    )
    predicted = predictor.predict(many)
    assert asked == [10_000]
    assert predicted.dtype == np.float64
    assert predicted.shape == (10_000,)
    assert predictor.predict(many[-3:]).tolist() == predicted[-3:].tolist()
    assert predictor.predict([]).shape == (0,)


def test_fitting_twice_gives_the_same_predictor() -> None:
    train, some = sampled(100), sampled(50, 4)
    first, second = (Predictor.fit(rows_of(train, cache_cliff_ms(train)), CONFIG, "d", SPACE0.id, 5) for _ in range(2))
    assert first.predict(some).tolist() == second.predict(some).tolist()
    assert first.rows_fingerprint == second.rows_fingerprint


def test_a_loaded_predictor_predicts_bit_for_bit_the_same(tmp_path: Path) -> None:
    train, some = sampled(200), sampled(300, 5)
    predictor = Predictor.fit(rows_of(train, cache_cliff_ms(train)), CONFIG, "cliff", SPACE0.id, 0)
    save_predictor(predictor, Folder.at(tmp_path))
    loaded = load_predictor(Folder.at(tmp_path), "cliff", device="cliff", space_id=SPACE0.id)
    assert predictor.trees_share > 0
    assert loaded.predict(some).tolist() == predictor.predict(some).tolist()
    assert loaded.predict(some, 0.9).tolist() == predictor.predict(some, 0.9).tolist()
    assert loaded.quality == predictor.quality
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cliff.json", "cliff.ubj"]


@pytest.mark.parametrize(
    ("asked", "named"), [({"device": "xeon"}, "device"), ({"space_id": "00000000"}, "space")], ids=["device", "space"]
)
def test_a_predictor_refuses_another_device_or_space(tmp_path: Path, asked: dict[str, str], named: str) -> None:
    train = sampled(30)
    save_predictor(
        Predictor.fit(rows_of(train, cache_cliff_ms(train)), CONFIG, "pi", SPACE0.id, 0),
        Folder.at(tmp_path),
        "predictor",
    )
    with pytest.raises(PredictorError, match=f"only for the {named}"):
        load_predictor(Folder.at(tmp_path), "predictor", **asked)


def test_a_missing_or_foreign_file_is_one_clear_line(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    with pytest.raises(PredictorError, match="no predictor pi"):
        load_predictor(folder, "pi")
    folder.write_json("pi.json", sealed({"device": "pi", "format": 2}))
    with pytest.raises(DamagedError, match=r"pi\.json is damaged \(space_id: Field required\)"):
        load_predictor(folder, "pi")


@pytest.mark.parametrize(
    ("rows", "latencies", "message"),
    [
        (5, [1.0] * 5, "at least 10 different architectures"),
        (12, [1.0] * 11, "one latency"),
        (12, [1.0] * 11 + [float("nan")], "above zero, got nan in row 11"),
        (12, [1.0] * 11 + [0.0], "above zero, got 0.0 in row 11"),
    ],
)
def test_rows_that_cannot_be_fitted_are_refused(rows: int, latencies: list[float], message: str) -> None:
    with pytest.raises(PredictorError, match=message):
        Predictor.fit(rows_of(sampled(rows), latencies), CONFIG, "pi", SPACE0.id, 0)


def test_one_architecture_timed_often_is_held_out_as_one() -> None:
    matrix = cost_features(sampled(20) * 3)
    fold = fold_of_rows(matrix, 5, seed=0)
    assert fold[:20].tolist() == fold[20:40].tolist() == fold[40:].tolist()
    assert np.bincount(fold).tolist() == [12] * 5


def test_quality_on_a_case_done_by_hand() -> None:
    measured, predicted = np.array([100.0, 200.0, 400.0]), np.array([105.0, 150.0, 440.0])
    found = quality(measured, predicted)
    assert found.mape == pytest.approx((5 + 25 + 10) / 3)
    assert found.within_10 == pytest.approx(200 / 3)
    assert found.kendall_tau == 1.0
    assert quality(measured, np.ones(3)).kendall_tau == 0.0

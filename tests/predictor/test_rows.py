"""Rows for a predictor, read from a latency table; what single layers' shapes add; and the report of a predictor."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hat_ray.core.codec import from_json, to_json
from hat_ray.errors import PredictorError
from hat_ray.latency.table.exchange import import_csv
from hat_ray.latency.table.hat_csv import published
from hat_ray.latency.table.parts import partition_values, partitions
from hat_ray.latency.table.table import workloads_in
from hat_ray.predictor.assess import Assessment, assess
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.fit import assess_table
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.rows import read_rows, rows_of, rows_of_averages
from hat_ray.space.features import cost_features, hat_features
from hat_ray.space.presets import SPACE0, preset
from tests.predictor.hat_tables import hat_table
from tests.predictor.test_predictor import sampled

CONFIG = PredictorConfig()
TABLES = ("wmt14enfr_cpu_raspberrypi", "wmt14ende_cpu_raspberrypi")


@pytest.fixture(scope="module")
def lake(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lake")
    for name in TABLES:
        file = shared / "hat" / "latency_dataset" / f"{name}_all.csv"
        known = published(str(file))
        assert known is not None
        import_csv(str(root), file, space_id=preset("hat-latency").id, device=known[0], workload=known[1])
    return root


def test_an_imported_table_gives_its_lines_in_their_order(shared: Path, lake: Path) -> None:
    space_id, found = preset("hat-latency").id, {}
    for place in partitions(lake):
        _, device = partition_values(place)
        for workload in workloads_in(str(lake), space_id, device):
            rows = read_rows(str(lake), space_id, device, workload)
            for name in TABLES:
                lines = [place for place, line in enumerate(rows.names) if line.startswith(name)]
                found |= {name: rows[lines]} if lines else {}
    for name in TABLES:
        rows, expected = found[name], hat_table(shared, name)
        np.testing.assert_allclose(rows.total_ms, expected.total_ms)
        np.testing.assert_allclose(rows.costs, expected.costs)
        assert rows.encoder_ms is not None
        np.testing.assert_allclose(rows.encoder_ms, expected.encoder_ms)
        assert rows.layers is None


def test_a_law_of_single_layers_is_learned_from_whole_architectures_only() -> None:
    architectures, others = sampled(400), sampled(200, seed=1)

    def slowest_layer_ms(some: list) -> np.ndarray:  # a device whose cache holds small layers only
        return np.array([10 + one.decoder.depth + 8 * (max(one.decoder.ffn_dims) > 2048) for one in some])

    whole = Predictor.fit(rows_of(architectures, slowest_layer_ms(architectures)), CONFIG, "d", SPACE0.id, 0)
    averages = rows_of_averages(hat_features(architectures), slowest_layer_ms(architectures))
    blind = Predictor.fit(averages, CONFIG, "d", SPACE0.id, 0)
    assert whole.quality.mape < 0.75 * blind.quality.mape
    measured = slowest_layer_ms(others)
    assert (
        np.abs(whole.predict(others) / measured - 1).mean() < 0.75 * np.abs(blind.predict(others) / measured - 1).mean()
    )
    with pytest.raises(PredictorError, match="averages are not enough"):
        whole.predict_rows(averages)


def test_a_larger_architecture_is_never_predicted_to_be_faster_also_with_trees() -> None:
    architectures = sampled(400)
    costs = cost_features(architectures)
    noisy = (5 + costs[:, 6] * np.where(costs[:, 13] > np.median(costs[:, 13]), 1.5, 1)) * np.random.default_rng(
        0
    ).lognormal(0, 0.05, 400)
    predictor = Predictor.fit(rows_of(architectures, noisy), CONFIG, "d", SPACE0.id, 0)
    assert predictor.trees_share > 0
    for one in sampled(60, seed=2):
        wide = replace(one, decoder=replace(one.decoder, ffn_dims=tuple(3072 for _ in one.decoder.ffn_dims)))
        small, large = predictor.predict([one, wide])
        assert large >= small


def test_rows_that_were_timed_badly_weigh_less() -> None:
    architectures = sampled(120)
    law = cost_features(architectures).sum(axis=1)
    rng = np.random.default_rng(0)
    errors = np.where(np.arange(120) % 2, 0.3, 0.005)
    noisy = law * np.exp(rng.normal(0, errors))
    told = Predictor.fit(rows_of(architectures, noisy, None, errors), CONFIG, "d", SPACE0.id, 0)
    untold = Predictor.fit(rows_of(architectures, noisy), CONFIG, "d", SPACE0.id, 0)
    error = [np.abs(predictor.predict(architectures) / law - 1).mean() for predictor in (told, untold)]
    assert error[0] < 0.7 * error[1]


def test_an_assessment_tells_depths_outliers_and_the_curve_and_survives_json() -> None:
    architectures = sampled(150)
    law = cost_features(architectures).sum(axis=1) * np.random.default_rng(1).lognormal(0, 0.01, 150)
    law[[7, 90]] *= [1.6, 0.5]
    rows = rows_of(architectures, law, None, np.full(150, 0.008))
    predictor = Predictor.fit(rows, CONFIG, "d", SPACE0.id, 0)
    found = assess(predictor, rows, CONFIG)
    assert {one.name for one in found.outliers} == {architectures[7].id, architectures[90].id}
    assert [group.depth for group in found.by_depth] == [1, 2, 3, 4, 5, 6]
    assert sum(group.rows for group in found.by_depth) == 150
    assert [point.rows for point in found.curve] == [10, 20, 50, 100]
    assert found.curve[-1].mape < found.curve[0].mape
    assert found.timing_error_pct == pytest.approx(0.8)
    assert found.coverage_pct is not None
    assert 80 < found.coverage_pct < 98
    assert from_json(Assessment, to_json(found), "the assessment") == found


def test_a_table_is_judged_without_a_run(lake: Path, tmp_path: Path) -> None:
    found = assess_table(str(lake))
    assert len(found) == len(TABLES)
    assert min(one.quality.mape for one in found) < 0.6
    with pytest.raises(PredictorError, match="holds no latency rows"):
        assess_table(str(tmp_path / "nothing"))

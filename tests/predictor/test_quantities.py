"""Predictors of quantities beside the latency: values, ratios to the latency, what is computed, and their quality."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hat_ray.errors import LatencyError, PredictorError
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.detection import device_of
from hat_ray.latency.quantities import QUANTITIES, Computed
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import read_table, write_rows
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.latency.timing.session import TimingSession
from hat_ray.latency.timing.statistics import Spread
from hat_ray.model.config import ModelConfig
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.fit import fit_device, rows_of_device
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.quality import FOLDS_OF_COVERAGE, fold_of_rows, too_few_to_cover
from hat_ray.predictor.quantities import (
    assess_quantity,
    fit_quantities,
    load_quantities,
    quantity_predictions,
    quantity_rows,
    save_quantities,
    timed_quantities,
)
from hat_ray.predictor.store import load_predictor, save_predictor
from hat_ray.search.rivals.families import hand_scaled
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_params
from hat_ray.storage.folder import Folder
from tests.spaces import THREE_LAYERS

SPACE = THREE_LAYERS  # the laws below are learnt to so many per cent from 120 rows of it
CONFIG = PredictorConfig()
TIMING = LatencyConfig(
    source_length=3,
    target_length=2,
    min_repetitions=5,
    max_repetitions=5,
    calibration_s=0.1,
    budget_s=0.1,
    patience_s=0,
    accelerator="cpu",
)
NAMES = ("p90_ms", "model_mb", "peak_mb")


def milliseconds(one: Architecture) -> float:
    return 2 + one.decoder.depth + sum(one.decoder.ffn_dims) / 200


def ratio(one: Architecture) -> float:
    return 1.3 - 0.08 * one.decoder.depth  # short translations have the longer tail


def megabytes(one: Architecture) -> float:
    return 60 + 8 * count_params(one) / 1e6


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TimingJob:
    """A table of 120 architectures whose values follow laws, but for two in a thousand of noise."""
    made = TimingJob(SPACE, ModelConfig(), 64, TIMING, Folder.at(tmp_path_factory.mktemp("table")))
    row = TimingSession(made, device_of(TIMING)).time(SPACE.largest())
    draw = np.random.default_rng(0)
    write_rows(made.table_root, [as_timed(row, one, draw) for one in choose_architectures(SPACE, 120, seed=1)])
    return made


def as_timed(row: LatencyRow, one: Architecture, draw: np.random.Generator) -> LatencyRow:
    noise = np.exp(draw.normal(0, 0.002, 3))
    median = milliseconds(one) * noise[0]
    total = Spread(median, median, median * ratio(one) * noise[1], median, 0.0, 1.5 * median)
    peak = (("peak_mb", megabytes(one) * noise[2]),)
    return replace(row, architecture=one, total=total, canary=None, encoder=None, decoder=None, quantities=peak)


def test_models_of_another_query_key_value_width_teach_nothing(job: TimingJob, tmp_path: Path) -> None:
    own = replace(job, table_root=Folder.at(tmp_path), kept=None)
    before = read_table(job.table_root, SPACE.id, every_measurement=True)
    narrow = [one for one in hand_scaled(SPACE, "scaled-width") if one.qkv_dim != SPACE.qkv_dim]
    by_hand = [replace(row, architecture=one) for row, one in zip(before, narrow, strict=False)]
    write_rows(own.table_root, [*before, *by_hand])
    slug = before[0].device.slug
    assert len(rows_of_device(own, slug)) == len(rows_of_device(job, slug)) == len(before)
    assert len(read_table(own.table_root, SPACE.id)) == len(before) + len(by_hand) > len(before)
    kept, learnt = (quantity_rows(some, slug, ["peak_mb"])["peak_mb"].learnt for some in (job, own))
    assert learnt.names == kept.names


@pytest.fixture(scope="module")
def latency(job: TimingJob) -> Predictor:
    return fit_device(job, device_of(TIMING).slug, CONFIG, 1, ())


def unseen(job: TimingJob) -> list[Architecture]:
    return [one for one in choose_architectures(SPACE, 220, seed=2) if one not in choose_architectures(SPACE, 120, 1)]


def error(predicted: np.ndarray, law: Callable[[Architecture], float], some: Sequence[Architecture]) -> float:
    return float(np.abs(predicted / np.array([law(one) for one in some]) - 1).mean())


def test_unseen_architectures_are_predicted_with_an_interval(job: TimingJob, latency: Predictor) -> None:
    learnt = fit_quantities(job, latency, NAMES, CONFIG, seed=1)
    assert list(learnt) == ["p90_ms", "peak_mb"]
    found = quantity_predictions(NAMES, job.profile(device_of(TIMING)), learnt)
    some = unseen(job)
    assert error(found["p90_ms"].predict(some), lambda one: milliseconds(one) * ratio(one), some) < 0.02
    assert error(found["peak_mb"].predict(some), megabytes, some) < 0.002
    for name, law in (("p90_ms", lambda one: milliseconds(one) * ratio(one)), ("peak_mb", megabytes)):
        low, high = found[name].interval(some)
        values = np.array([law(one) for one in some])
        assert ((low <= values) & (values <= high)).mean() > 0.85, name
        assert (found[name].predict(some, 0.95) >= found[name].predict(some)).all()
    size = QUANTITIES.load("model_mb")
    assert isinstance(size, Computed)
    exact = size.compute(some, job.profile(device_of(TIMING)))
    np.testing.assert_array_equal(found["model_mb"].predict(some, 0.95), exact)
    np.testing.assert_array_equal(found["model_mb"].interval(some), [exact, exact])


def test_a_ratio_is_better_than_none_and_the_error_is_of_the_product(job: TimingJob, latency: Predictor) -> None:
    learnt = fit_quantities(job, latency, ["p90_ms"], CONFIG, seed=1)["p90_ms"]
    rows = quantity_rows(job, latency.device, ["p90_ms"])["p90_ms"]
    told = assess_quantity(learnt, rows, CONFIG)
    assert told.quality.rows == 120
    np.testing.assert_array_equal(learnt.own.held_out.measured_ms, rows.values)
    constant = np.median(rows.values / latency.predict(rows.architectures)) * latency.predict(rows.architectures)
    assert told.quality.mape < 0.7 * 100 * np.abs(constant / rows.values - 1).mean()
    assert told.median_error_pct <= told.quality.mape
    assert told.coverage_pct == pytest.approx(90, abs=8)


def test_a_saved_predictor_predicts_the_same(job: TimingJob, latency: Predictor, tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    learnt = fit_quantities(job, latency, NAMES, CONFIG, seed=1)
    save_predictor(latency, folder)
    save_quantities(learnt, folder)
    again = load_quantities(folder, load_predictor(folder, latency.device), NAMES)
    some = unseen(job)
    for name in ("p90_ms", "peak_mb"):
        np.testing.assert_array_equal(again[name].predict(some, 0.9), learnt[name].predict(some, 0.9))
        assert again[name].quality == learnt[name].quality


def test_what_was_timed_is_known_by_quantity(job: TimingJob) -> None:
    device = device_of(TIMING)
    timed, other = choose_architectures(SPACE, 120, seed=1)[3], unseen(job)[0]
    known = timed_quantities(job, device.slug, ("latency_ms", *NAMES), job.profile(device), [timed, other])
    assert set(known[timed]) == {"latency_ms", *NAMES}
    assert known[timed]["p90_ms"] == pytest.approx(milliseconds(timed) * ratio(timed), rel=0.02)
    assert known[timed]["peak_mb"] == pytest.approx(megabytes(timed), rel=0.02)
    assert set(known[other]) == {"model_mb"}


def test_rows_that_do_not_know_a_quantity_are_refused_in_one_line(job: TimingJob, latency: Predictor) -> None:
    with pytest.raises(LatencyError, match=r"^energy_j is not known of \S+: let the timing process read RAPL"):
        fit_quantities(job, latency, ["energy_j"], CONFIG, seed=1)
    many = CONFIG.model_copy(update={"min_rows": 500})
    with pytest.raises(PredictorError, match=r"^peak_mb: a predictor needs at least 500 .* got 120 on"):
        fit_quantities(job, latency, ["peak_mb"], many, seed=1)


def test_an_interval_that_cannot_be_judged_says_why_and_how_many_rows_would_do() -> None:
    for there in (10, 11, 12, 13, 14, 20):
        matrix = np.arange(float(there)).reshape(-1, 1)
        fold = fold_of_rows(matrix, FOLDS_OF_COVERAGE, seed=0)
        why = too_few_to_cover(matrix, fold, min_rows=10)
        assert (why is None) == (there >= 13), there
        if why is not None:
            assert why == f"{there} different architectures are too few to judge the interval, 13 are enough: time more"

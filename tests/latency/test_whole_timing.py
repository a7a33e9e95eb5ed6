"""A runtime with a beam search of its own is timed whole: its rows have a total and no parts."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hat_ray.errors import LatencyError
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.effects import rate_device
from hat_ray.latency.here import measure
from hat_ray.latency.sweep import plan_sweep
from hat_ray.latency.table.hat_csv import export_hat_csv
from hat_ray.latency.table.row import from_table, to_table, why_invalid
from hat_ray.latency.table.table import read_table
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.latency.timing.protocol import Protocol
from hat_ray.latency.timing.visits import repeat
from hat_ray.latency.timing.workload import TranslationTime, Workload, mean_time
from hat_ray.model.config import ModelConfig
from hat_ray.predictor.prior import fit_prior
from hat_ray.predictor.rows import read_rows, rows_of
from hat_ray.runtime.protocol import RuntimeSettings, why_unsupported
from hat_ray.runtime.space import RuntimeSpaceConfig
from hat_ray.storage.folder import Folder
from tests.latency.test_onnx_timing import QUICK

SPACE = RuntimeSpaceConfig(runtime="ctranslate2").build()
MISSING = why_unsupported("ctranslate2", RuntimeSettings())


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if MISSING:
        pytest.skip(MISSING)
    place = tmp_path_factory.mktemp("table")
    settings = {**QUICK, "accelerator": "cpu", "runtime": "ctranslate2", "dtype": "int8", "length_mix": 2}
    config = LatencyConfig.model_validate(settings)
    job = TimingJob(SPACE, ModelConfig(), 64, config, Folder.at(place), length_pairs=((3, 4), (6, 5)))
    assert measure(job, choose_architectures(SPACE, 8, seed=0)).timed == 8
    return place


def test_a_row_has_the_total_of_each_repetition(timed: Path) -> None:
    for row in read_table(timed):
        assert row.device.slug.endswith("-1t-ctranslate2-int8-pairs")
        assert (row.encoder, row.decoder, row.encoder_samples_ms, row.decoder_samples_ms) == (None, None, (), ())
        assert len(row.total_samples_ms) == row.repetitions >= 5
        assert row.total.p50_ms == pytest.approx(np.median(row.total_samples_ms))
        assert row.latency_ms == row.total.p50_ms > 0
        assert "ctranslate2" in dict(row.context.library_versions)


def test_a_predictor_learns_the_whole(timed: Path) -> None:
    [slug] = {row.device.slug for row in read_table(timed)}
    rows = read_rows(timed, SPACE.id, slug)
    assert rows.encoder_ms is None
    prior = fit_prior(rows)
    assert list(prior.parts) == ["whole"]
    assert (prior.predict(rows.costs) > 0).all()


def test_devices_that_split_their_time_help_one_that_does_not() -> None:
    """A device twice as slow as a known one is known from three rows, whatever its rows keep."""
    shapes = choose_architectures(SPACE, 60, seed=1)
    encoder = 0.2 + 0.01 * np.array([one.encoder.depth * one.encoder.embed_dim for one in shapes])
    decoder = 0.5 + 0.02 * np.array([one.decoder.depth * one.decoder.embed_dim for one in shapes])
    source = fit_prior(rows_of(shapes, encoder + decoder, encoder))
    few = rows_of(shapes[:3], 2 * (encoder + decoder)[:3])
    told = fit_prior(few, None, [source], ridge_penalty=1.0).predict(rows_of(shapes, encoder).costs)
    alone = fit_prior(few).predict(rows_of(shapes, encoder).costs)
    errors = [float(np.abs(one / (2 * (encoder + decoder)) - 1).mean()) for one in (told, alone)]
    assert errors[0] < 0.02 < errors[1]


def test_hats_csv_needs_the_parts(timed: Path) -> None:
    with pytest.raises(LatencyError, match=r"needs the encoder's and the decoder's time, got rows of .*ctranslate2"):
        export_hat_csv(read_table(timed))


def test_a_row_without_total_and_without_parts_is_invalid(timed: Path) -> None:
    table = to_table(read_table(timed))
    assert why_invalid(table) is None
    assert from_table(table) == read_table(timed)
    place = table.schema.get_field_index("total_mean_ms")
    empty = table.set_column(place, table.schema.field(place), pa.nulls(len(table), pa.float64()))
    assert why_invalid(empty) == "a row must have total_mean_ms, or encoder_mean_ms and decoder_mean_ms"


def test_the_mean_of_a_length_mix_has_parts_where_all_have_them() -> None:
    parts, whole = TranslationTime.of_parts(1.0, 3.0), TranslationTime(6.0)
    assert mean_time([parts, parts]) == TranslationTime(4.0, 1.0, 3.0)
    assert mean_time([parts, whole]) == TranslationTime(5.0)


def test_a_timing_without_parts_repeats_like_one_with_them() -> None:
    protocol = Protocol(Workload(), min_repetitions=7, max_repetitions=7)
    whole = repeat(lambda: TranslationTime(4.0), protocol, clock=lambda: 0.0)
    parts = repeat(lambda: TranslationTime.of_parts(1.0, 3.0), protocol, clock=lambda: 0.0)
    assert (whole.encoder, whole.decoder, whole.repetitions) == (None, None, 7)
    assert whole.total == parts.total
    assert whole.relative_error == parts.relative_error


def test_a_sweep_leaves_the_parts_out(timed: Path) -> None:
    plan, rows = plan_sweep(SPACE), read_table(timed)
    some = {one: rows[place % len(rows)] for place, one in enumerate(plan.architectures)}
    for sweep in rate_device(plan, some, "device", 5):
        assert sweep.effect.encoder_ms is None
        assert {point.decoder_ms for point in sweep.points} == {None}
        assert sweep.effect.ratio > 0

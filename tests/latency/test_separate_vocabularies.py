"""Timings of models whose sides have vocabularies of their own."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from hat_ray.latency.detection import device_of
from hat_ray.latency.here import measure
from hat_ray.latency.quantities import QUANTITIES, Computed, Measured
from hat_ray.latency.table.table import read_table
from hat_ray.latency.timing.job import TimingJob
from hat_ray.latency.timing.workload import Workload
from hat_ray.model.config import ModelConfig
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from tests.latency.test_measure import CONFIG, SPACE

MODEL = ModelConfig(max_positions=32, share_embeddings="decoder")
ONE = PRESETS["toy"].smallest()
RUNTIMES = ["eager", "packed", "onnx", *(["ctranslate2"] if find_spec("ctranslate2") else [])]


def job(root: Path, source: int | None, target: int, runtime: str = "eager") -> TimingJob:
    config = CONFIG.model_copy(update={"runtime": runtime})
    return TimingJob(SPACE, MODEL, target, config, Folder.at(root), source_vocab_size=source)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("source", "target"), [(12, 400), (400, 24)])
def test_a_timing_draws_each_sides_tokens_from_its_vocabulary(
    tmp_path: Path, runtime: str, source: int, target: int
) -> None:
    assert measure(job(tmp_path, source, target, runtime), [ONE]).timed == 1  # a token beyond its table would fail
    [row] = read_table(Folder.at(tmp_path), SPACE.id)
    assert row.workload.vocab_sizes == (source, target)


def test_rows_of_another_source_vocabulary_do_not_count(tmp_path: Path) -> None:
    assert measure(job(tmp_path, 30, 64), [ONE]).timed == 1
    assert measure(job(tmp_path, 30, 64), [ONE]).skipped == 1
    assert measure(job(tmp_path, None, 64), [ONE]).timed == 1
    assert measure(job(tmp_path, 64, 64), [ONE]).skipped == 1  # as many entries are the same workload
    assert {row.workload.source_vocab_size for row in read_table(Folder.at(tmp_path), SPACE.id)} == {30, None}


def test_the_size_of_a_model_has_both_tables(tmp_path: Path) -> None:
    size = QUANTITIES.load("model_mb")
    assert isinstance(size, Computed)
    made = [job(tmp_path, source, 64) for source in (64, 10_064)]
    small, large = (float(size.compute([ONE], one.profile(device_of(one.config)))[0]) for one in made)
    assert large - small == pytest.approx(10_000 * ONE.encoder.embed_dim * 4 / 1e6)


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name in ("onnx", "ctranslate2")])
def test_peak_memory_is_measured_with_both_vocabularies(tmp_path: Path, runtime: str) -> None:
    peak = QUANTITIES.load("peak_mb")
    assert isinstance(peak, Measured)
    made = job(tmp_path, 20, 600, runtime)
    value = peak.measure(ONE, made.profile(device_of(made.config)))
    assert value is not None  # None: a token beyond the source's table ended the process
    assert np.isfinite(value)


def test_a_workload_without_a_source_vocabulary_has_one_for_both() -> None:
    assert Workload(vocab_size=70).vocab_sizes == (70, 70)

"""A runtime is a device of its own in the latency table."""

from pathlib import Path

import onnxruntime
import pytest
from pydantic import ValidationError

from hat_ray.errors import LatencyError
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.detection import detect
from hat_ray.latency.here import measure
from hat_ray.latency.table.table import read_table
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.model.config import ModelConfig
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder

SPACE = PRESETS["toy"]
QUICK = {
    **{"source_length": 4, "target_length": 3, "warmup": 1, "min_repetitions": 5, "max_repetitions": 5},
    **{"canary_tolerance": 50.0, "calibration_s": 0.1},
}


def test_each_runtime_and_dtype_is_timed_into_its_own_device(tmp_path: Path) -> None:
    architectures = choose_architectures(SPACE, 2, seed=0)
    for settings in ({"runtime": "eager"}, {"runtime": "onnx"}, {"runtime": "onnx", "dtype": "int8"}):
        config = LatencyConfig.model_validate({**QUICK, "accelerator": "cpu", **settings})
        job = TimingJob(SPACE, ModelConfig(), 64, config, Folder.at(tmp_path))
        assert measure(job, architectures).timed == 2
        assert measure(job, architectures).skipped == 2
    rows = read_table(tmp_path)
    devices = {(row.device.runtime, row.device.dtype, row.device.quantisation) for row in rows}
    assert devices == {("eager", "fp32", "none"), ("onnx", "fp32", "none"), ("onnx", "int8", "pairs")}
    assert len({row.device.slug for row in rows}) == 3
    for row in rows:
        told = dict(row.context.library_versions).get("onnxruntime")
        assert told == (onnxruntime.__version__ if row.device.runtime == "onnx" else None)
        assert row.encoder.typical_ms > 0
        assert row.decoder.typical_ms > 0


def test_the_id_of_a_device_tells_runtime_dtype_and_how_it_is_quantised() -> None:
    assert detect(runtime="onnx", dtype="int8").slug.endswith("-1t-onnx-int8-pairs")
    assert detect(runtime="onnx").slug.endswith("-1t-onnx-fp32")
    assert detect(runtime="eager").slug.endswith("-1t-eager-fp32")


def test_onnx_is_timed_on_the_processor_even_where_there_is_a_gpu() -> None:
    assert detect(runtime="onnx", accelerator="auto").accelerator == ""
    with pytest.raises(LatencyError, match="runtime onnx runs on the CPU, not on cuda"):
        detect(runtime="onnx", accelerator="cuda")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"runtime": "eager", "dtype": "int8"},
            "runtime eager computes in fp32 or bf16, got dtype int8.*or runtime onnx",
        ),
        ({"runtime": "onnx", "dtype": "bf16"}, "runtime onnx computes in fp32 or int8, got dtype bf16"),
        ({"runtime": "onnx", "accelerator": "cuda"}, "runtime onnx runs on the CPU"),
        (
            {"dtype": "int8", "accelerator": "cuda"},
            "auto computes in bf16 or fp32 on a GPU, got dtype int8: take one of",
        ),
    ],
)
def test_settings_that_no_runtime_can_do_are_refused(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LatencyConfig.model_validate(settings)

"""`latency.runtime: auto`: each machine decides, and its device is named by the choice."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from hat_ray.errors import LatencyError
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.detection import detect, device_of
from hat_ray.latency.here import measure_here
from hat_ray.latency.table.table import read_table
from hat_ray.latency.timing.job import TimingJob
from hat_ray.model.config import ModelConfig
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder

QUICK = {
    **{"source_length": 4, "target_length": 3, "warmup": 1, "min_repetitions": 5, "max_repetitions": 5, "visits": 1},
    **{"canary_tolerance": 50.0, "calibration_s": 0.05, "budget_s": 1.0, "patience_s": 0.0, "accelerator": "cpu"},
}


@pytest.fixture
def no_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    there = "hat_ray.runtime.protocol.find_spec"
    monkeypatch.setattr(there, lambda name: None if name == "onnxruntime" else find_spec(name))


def test_rows_name_the_runtime_that_was_chosen(tmp_path: Path) -> None:
    config = LatencyConfig.model_validate({**QUICK, "runtime": "auto"})
    [device] = measure_here(TimingJob(TOY, ModelConfig(), 64, config, Folder.at(tmp_path)), [TOY.smallest()])
    assert device == detect(accelerator="cpu", runtime="onnx")
    [row] = read_table(tmp_path)
    assert (row.device.runtime, row.device.slug) == ("onnx", device.slug)


@pytest.mark.usefixtures("no_onnx_runtime")
def test_a_machine_without_onnx_runtime_is_another_device() -> None:
    config = LatencyConfig(runtime="auto", accelerator="cpu")
    assert device_of(config).runtime == "packed"
    with pytest.raises(LatencyError, match=r"runtime onnx needs onnxruntime"):
        device_of(LatencyConfig(runtime="auto", dtype="int8", accelerator="cpu"))
    with pytest.raises(LatencyError, match=r"runtime onnx needs onnxruntime"):
        device_of(LatencyConfig(runtime="onnx", accelerator="cpu"))


def test_a_dtype_that_no_runtime_computes_in_is_refused() -> None:
    with pytest.raises(ValueError, match="runtime auto computes in bf16 or fp32 or int8, got dtype fp64"):
        LatencyConfig(runtime="auto", dtype="fp64")

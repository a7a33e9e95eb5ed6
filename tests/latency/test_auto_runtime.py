"""The default of `latency.runtime`: each machine decides, and its device is named by the choice."""

import logging
from importlib.util import find_spec
from pathlib import Path

import pytest

from hat_ray.errors import LatencyError
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.detection import detect, device_of, runtime_of
from hat_ray.latency.fleet.plan import Node, placements
from hat_ray.latency.here import measure_here
from hat_ray.latency.table.table import read_table
from hat_ray.latency.timing.engines import random_model
from hat_ray.latency.timing.job import TimingJob
from hat_ray.model.config import ModelConfig
from hat_ray.space.presets import PRESETS, TOY
from hat_ray.storage.folder import Folder

QUICK = {
    **{"source_length": 4, "target_length": 3, "warmup": 1, "min_repetitions": 5, "max_repetitions": 5, "visits": 1},
    **{"canary_tolerance": 50.0, "calibration_s": 0.05, "budget_s": 1.0, "patience_s": 0.0, "accelerator": "cpu"},
}


@pytest.fixture
def no_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    there = "hat_ray.runtime.protocol.find_spec"
    monkeypatch.setattr(there, lambda name: None if name == "onnxruntime" else find_spec(name))


def test_rows_and_log_name_the_runtime_that_was_chosen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = LatencyConfig.model_validate(QUICK)
    with caplog.at_level(logging.INFO):
        [device] = measure_here(TimingJob(TOY, ModelConfig(), 64, config, Folder.at(tmp_path)), [TOY.smallest()])
    assert device == detect(accelerator="cpu", runtime="onnx")
    [row] = read_table(tmp_path)
    assert (row.device.runtime, row.device.slug) == ("onnx", device.slug)
    told = f"device {device.slug} is timed with runtime onnx: the fastest that executes this model here"
    assert told in [record.getMessage() for record in caplog.records]


def test_the_largest_architecture_of_the_space_decides() -> None:
    config = LatencyConfig(accelerator="cpu")
    jobs = [
        TimingJob(PRESETS["space0"], ModelConfig(), words, config, Folder.at("nowhere")) for words in (32_768, 10**6)
    ]
    small, large = (runtime_of(one.config, None, one.largest) for one in jobs)
    assert small.runtime == "onnx"
    assert jobs[1].largest.weight_bytes > 2**31
    assert large.runtime == "packed"
    assert "not onnx, because graphs of onnx hold at most 2 GB of weights" in large.reason
    assert device_of(config, None, jobs[1].largest).slug.endswith("-1t-packed-fp32")


def test_the_weights_of_the_largest_model_are_counted_as_they_are() -> None:
    config = ModelConfig(share_embeddings="none")
    job = TimingJob(TOY, config, 640, LatencyConfig(), Folder.at("nowhere"), source_vocab_size=320)
    model = random_model(TOY.largest(), config, job.protocol.workload)
    assert job.largest.weight_bytes == pytest.approx(sum(one.nbytes for one in model.parameters()), rel=0.02)


def test_int8_is_timed_on_the_processor_also_where_there_is_a_gpu() -> None:
    node = Node("1", "host", {}, {"CPU": 2.0, "GPU": 1.0})
    [floats], [ints] = (placements([node], LatencyConfig.model_validate({"dtype": name})) for name in ("fp32", "int8"))
    assert (floats.selector.num_gpus, ints.selector.num_gpus) == (1, 0)


@pytest.mark.usefixtures("no_onnx_runtime")
def test_a_machine_without_onnx_runtime_is_another_device() -> None:
    config = LatencyConfig(accelerator="cpu")
    assert device_of(config).runtime == "packed"
    with pytest.raises(LatencyError, match=r"runtime onnx needs onnxruntime"):
        device_of(LatencyConfig(dtype="int8", accelerator="cpu"))
    with pytest.raises(LatencyError, match=r"runtime onnx needs onnxruntime"):
        device_of(LatencyConfig(runtime="onnx", accelerator="cpu"))


def test_a_dtype_that_no_runtime_computes_in_is_refused() -> None:
    with pytest.raises(ValueError, match="runtime auto computes in bf16 or fp32 or int8, got dtype fp64"):
        LatencyConfig(dtype="fp64")

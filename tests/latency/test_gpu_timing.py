"""A translation is timed on a GPU by events: the CPU launches ahead of the device and waits for it at the end.

Before anything else the model asks once whether its sources have padding; then nothing may wait until the end.
"""

import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch

from hat_ray.latency.timing.engines import ready, translation
from hat_ray.latency.timing.workload import Workload
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.space.presets import PRESETS
from tests.waits import Waits

SPACE = PRESETS["toy"]
WORKLOAD = Workload(source_length=12, target_length=40, vocab_size=500)
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def a_model(device: str, dtype: torch.dtype = torch.float32) -> SubTransformer:
    return SubTransformer(SPACE.smallest(), WORKLOAD.vocab_size, ModelConfig()).to(device, dtype)


def count_waits(work: Callable[[], object]) -> int:
    """Let CUDA itself tell whenever the CPU waits for the device (waiting for an event, as at the end, is not told)."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def test_after_the_question_for_padding_no_operator_needs_a_value_from_the_device() -> None:
    model = a_model("cpu")
    translate = translation(model.eval(), WORKLOAD)
    with ready(model, 1), Waits() as waits:
        translate()
    assert waits.operators > 40 * 20  # it was watched
    assert [name for _, name in waits.seen] == ["is_nonzero"]
    assert waits.seen[0][0] <= 5
    with Waits() as proof:
        torch.tensor([1.0, 0.0])[torch.tensor([True, False])].sum().item()
    assert [name for _, name in proof.seen] == ["index", "_local_scalar_dense"]


@pytest.mark.gpu
@NEEDS_GPU
def test_on_a_gpu_the_cpu_launches_ahead_and_waits_once_at_the_end() -> None:
    model = a_model("cuda")
    with ready(model, 1):
        translate = translation(model, WORKLOAD)
        assert min(translate()) > 0
        assert count_waits(translate) <= 1
        assert count_waits(lambda: torch.ones(1, device="cuda").item()) == 1


@pytest.mark.gpu
@NEEDS_GPU
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu_events_tell_the_time_that_a_user_waits_also_for_a_small_model(dtype: torch.dtype) -> None:
    """A small model's kernels are shorter than their launches: the device waits for the CPU, and that counts."""
    model = a_model("cuda", dtype)
    with ready(model, 1):
        translate = translation(model, WORKLOAD)
        for _ in range(5):
            translate()
        events_ms, waited_ms = [], []
        for _ in range(30):
            torch.cuda.synchronize()
            started = time.perf_counter()
            sample = translate()
            torch.cuda.synchronize()
            waited_ms.append((time.perf_counter() - started) * 1e3)
            events_ms.append(sum(sample))
    assert np.median(events_ms) == pytest.approx(np.median(waited_ms), rel=0.05)


@pytest.mark.gpu
@NEEDS_GPU
def test_on_a_gpu_work_queued_before_a_translation_is_not_counted() -> None:
    model, block = a_model("cuda"), torch.randn(4096, 4096, device="cuda")
    with ready(model, 1):
        translate = translation(model, WORKLOAD)
        quiet_ms = min(sum(translate()) for _ in range(10))
        queued_ms = []
        for _ in range(10):
            for _ in range(20):
                torch.mm(block, block)
            queued_ms.append(sum(translate()))
    assert min(queued_ms) < 1.5 * quiet_ms

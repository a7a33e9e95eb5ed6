"""Model and runtime under one limit: limits that only some runtimes keep, and which runtime wins."""

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from search_stand_ins import macs_ms

from hat_ray.errors import SearchError
from hat_ray.latency.quantities import LATENCY
from hat_ray.search.config import SearchConfig
from hat_ray.search.limits import Limit
from hat_ray.search.reach import fastest, resolve_limits
from hat_ray.search.winners import LimitWinner, runtime_rankings
from hat_ray.space.architecture import Architecture
from hat_ray.space.presets import TOY

EAGER, ONNX, OTHER = (
    "pi4-cortex-a72-neon-1t-eager-fp32",
    "pi4-cortex-a72-neon-1t-onnx-int8-pairs",
    "xeon-avx2-1t-eager-fp32",
)


def half(architectures: Sequence[Architecture]) -> npt.NDArray[np.float64]:
    return macs_ms(architectures) / 2


def test_a_limit_that_one_runtime_cannot_keep_is_left_to_the_other(caplog: pytest.LogCaptureFixture) -> None:
    least = fastest(TOY, macs_ms)[1]
    config = SearchConfig(limits_ms={"pi4": (0.7 * least, 2 * least)})
    with caplog.at_level(logging.WARNING):
        limits = resolve_limits(TOY, {EAGER: {LATENCY: macs_ms}, ONNX: {LATENCY: half}}, config)
    assert limits == (
        Limit.of(EAGER, latency_ms=2 * least),
        Limit.of(ONNX, latency_ms=0.7 * least),
        Limit.of(ONNX, latency_ms=2 * least),
    )
    assert f"on {EAGER} cannot be kept" in caplog.text


def test_a_limit_that_no_runtime_of_its_hardware_keeps_is_refused() -> None:
    least = fastest(TOY, macs_ms)[1]
    config = SearchConfig(limits_ms=(0.7 * least,))
    with pytest.raises(SearchError, match=r"no architecture keeps .* on xeon"):
        resolve_limits(TOY, {ONNX: {LATENCY: half}, OTHER: {LATENCY: macs_ms}}, config)


def winner(device: str, limit_ms: float, loss: float, measured_ms: float | None = None) -> LimitWinner:
    times = (limit_ms - 1, None, None, measured_ms)
    return LimitWinner(Limit.of(device, latency_ms=limit_ms), loss, *times, f"{loss}", TOY.smallest(), "winners/1.yml")


def test_the_runtime_with_the_least_loss_wins_each_limit_of_its_hardware() -> None:
    winners = [
        winner(EAGER, 20.0, 3.0),
        winner(ONNX, 20.0, 2.5, 18.0),
        winner(OTHER, 20.0, 1.0),
        winner(EAGER, 40.0, 2.0, 35.0),
        winner(ONNX, 40.0, 2.0, 22.0),
        winner(ONNX, 5.0, 4.0),
    ]
    first, second = runtime_rankings(winners)
    assert (first.limit.ms, second.limit.ms) == (20.0, 40.0)
    assert first.hardware == second.hardware == "pi4-cortex-a72-neon"
    assert [entry.limit.device for entry in first.entries] == [ONNX, EAGER]
    assert second.limit.device == ONNX  # equal losses: the faster one
    assert first.line == (
        "best runtime under 20 ms on pi4-cortex-a72-neon: onnx int8, 1 thread with 2.5, loss 2.5000; "
        "eager fp32, 1 thread 3.0000"
    )
    assert first.to_json()["best"] == ONNX

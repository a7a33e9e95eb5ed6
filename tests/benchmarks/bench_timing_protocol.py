"""Timing between canaries against timing a fixed number of repetitions, on this machine as it is.

Every architecture is timed by both, one after the other, so both see the same disturbances. The judge is how well a
predictor fitted to each can be: what an architecture takes does not jump, so the held-out error is mostly noise.

    pytest -m benchmark -s tests/benchmarks/bench_timing_protocol.py
"""

import platform
import time

import numpy as np
import pytest
import torch

from hat_ray.latency.canary import CanaryWatch
from hat_ray.latency.measure import choose_architectures
from hat_ray.latency.protocol import Protocol, Timing, ready, time_architecture
from hat_ray.latency.translation import Workload, translation
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.model import Predictor
from hat_ray.space.presets import TOY

ARCHITECTURES = 50
WORKLOAD = Workload(source_length=20, target_length=20, vocab_size=1000)
HAT_REPETITIONS = Protocol(WORKLOAD, min_repetitions=20, max_repetitions=20)
BETWEEN_CANARIES = Protocol(WORKLOAD, min_repetitions=10, max_repetitions=40, budget_s=1.5, patience_s=4.0)


@pytest.mark.benchmark
def test_noise_of_two_timing_protocols() -> None:
    architectures = choose_architectures(TOY, ARCHITECTURES, seed=1)
    canary = SubTransformer(TOY.smallest(), WORKLOAD.vocab_size, ModelConfig())
    watch = CanaryWatch(translation(canary, WORKLOAD), tolerance=0.1)
    milliseconds: dict[str, list[float]] = {"20 repetitions, mean (HAT)": [], "between canaries": []}
    seconds = dict.fromkeys(milliseconds, 0.0)
    with ready(canary, 1):
        watch.calibrate(3.0)
        for architecture in architectures:
            model = SubTransformer(architecture, WORKLOAD.vocab_size, ModelConfig())
            for name, protocol, using in zip(
                milliseconds, (HAT_REPETITIONS, BETWEEN_CANARIES), (None, watch), strict=True
            ):
                started = time.perf_counter()
                milliseconds[name].append(_judged(time_architecture(model, protocol, using)))
                seconds[name] += time.perf_counter() - started
    print(f"\n{platform.processor() or platform.machine()}, torch {torch.__version__}, {ARCHITECTURES} architectures")
    for name, values in milliseconds.items():
        predictor = Predictor.fit(architectures, values, PredictorConfig(), "bench", TOY.id, 1)
        print(f"{name:28} {predictor.quality}; {seconds[name]:.0f} s")
        assert np.all(np.array(values) > 0)


def _judged(timing: Timing) -> float:
    """HAT keeps the mean; between canaries the corrected median counts."""
    if timing.canary is None:
        return timing.total.mean_ms
    return timing.total.typical_ms * timing.canary.drift_correction

"""The search on HAT's three published problems: `pytest -m benchmark -s tests/benchmarks/bench_search_replay.py`.

No model and no Ray: a stand-in for the loss, HAT's own latency predictors, and HAT's figures for comparison (mean of
five seeds; HAT counts parents that it scores again, so its evaluations hold fewer networks).
"""

import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hat_ray.search.config import SearchConfig
from hat_ray.search.evolution import Evolution
from hat_ray.search.limits import Limit
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray, hat_features
from hat_ray.space.hat_yaml import REACH_CODE
from hat_ray.space.presets import SPACE0

CHECKPOINTS = (125, 250, 500, 1000, 2000)
HAT = {
    "raspberrypi@6000ms": (3.6880, 3.6742, 3.6641, 3.6379, 3.6224, 3.6184),
    "xeon@200ms": (3.7824, 3.7681, 3.7575, 3.7417, 3.7353, 3.7345),
    "titanxp@200ms": (3.6082, 3.6019, 3.5693, 3.5415, 3.5280, 3.5278),
}
BEST_KNOWN = {"raspberrypi@6000ms": 3.6163, "xeon@200ms": 3.7324, "titanxp@200ms": 3.5262}


class Problem:
    """One published search problem: a loss, a device, a limit."""

    def __init__(self, shared: Path, name: str) -> None:
        spec = importlib.util.spec_from_file_location("replay_problems", shared / "hat/search/replay_problems.py")
        assert spec is not None
        assert spec.loader is not None
        self._replay = importlib.util.module_from_spec(spec)
        writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        spec.loader.exec_module(self._replay)
        sys.dont_write_bytecode = writes
        predictor, self.limit_ms = self._replay.PROBLEMS[name]
        self._network = self._replay.Predictor(predictor)

    def latency_ms(self, architectures: Sequence[Architecture]) -> FloatArray:
        x = (hat_features(architectures) / self._replay.FEATURE_NORM).astype(np.float32)
        for layer, (weight, bias) in enumerate(self._network.L):
            x = x @ weight.T + bias
            x = np.maximum(x, 0) if layer < 4 else x
        return x[:, 0].astype(np.float64) * self._network.n

    def loss(self, architecture: Architecture) -> float:
        return float(self._replay.fitness(hat_config(architecture)))

    def run(self, config: SearchConfig, seed: int, checkpoints: Sequence[int]) -> list[float]:
        """Return the best loss after so many evaluations; two are under way at a time, as with two workers."""
        search = Evolution(SPACE0, {"device": self.latency_ms}, [Limit("device", self.limit_ms)], config, seed)
        best: list[float] = []
        while not search.finished:
            for architecture in search.ask(2):
                loss = self.loss(architecture)
                search.tell(architecture, loss)
                best.append(min(loss, best[-1] if best else loss))
        return [best[checkpoint - 1] for checkpoint in checkpoints]


def hat_config(architecture: Architecture) -> dict[str, Any]:
    e, d = architecture.encoder, architecture.decoder
    encoder = {
        "encoder_embed_dim": e.embed_dim,
        "encoder_layer_num": e.depth,
        "encoder_ffn_embed_dim": e.ffn_dims,
        "encoder_self_attention_heads": e.heads,
    }
    decoder = {
        "decoder_embed_dim": d.embed_dim,
        "decoder_layer_num": d.depth,
        "decoder_ffn_embed_dim": d.ffn_dims,
        "decoder_self_attention_heads": d.self_heads,
        "decoder_ende_attention_heads": d.cross_heads,
        "decoder_arbitrary_ende_attn": [REACH_CODE[reach] for reach in d.cross_layers],
    }
    return {"encoder": encoder, "decoder": decoder}


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
def test_print_the_best_loss_by_number_of_evaluations(shared: Path) -> None:
    seeds = range(5)
    print(f"\n{'problem':20}{'method':26}" + "".join(f"{n:>9}" for n in (*CHECKPOINTS, 3750)) + "   ms/candidate")
    for name, published in HAT.items():
        print(f"{name:20}{'HAT (published figures)':26}" + "".join(f"{loss:9.4f}" for loss in published))
        for method, config in {
            "HAT's rules, no duplicates": SearchConfig(
                evaluations=2000, generation_barrier=True, population=125, parents=25, mutation_probability=0.3
            ),
            "hat-ray, default": SearchConfig(evaluations=2000),
        }.items():
            problem, start = Problem(shared, name), time.perf_counter()
            curves = [problem.run(config, seed, CHECKPOINTS) for seed in seeds]
            each_ms = 1000 * (time.perf_counter() - start) / (len(seeds) * config.evaluations)
            row = "".join(f"{loss:9.4f}" for loss in np.mean(curves, axis=0))
            print(f"{name:20}{method:26}{row}{'':9}{each_ms:12.1f}", flush=True)
        print(f"{name:20}{'best known':26}{'':45}{BEST_KNOWN[name]:9.4f}")

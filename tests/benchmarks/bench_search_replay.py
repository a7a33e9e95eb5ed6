"""The search on HAT's three published problems: `pytest -m benchmark -s tests/benchmarks/bench_search_replay.py`.

No model and no Ray: a stand-in for the loss and HAT's own latency predictors. Each method's evaluations are counted as
it counts them: HAT's include parents that it evaluates again.
"""

import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from hat_ray.latency.quantities import LATENCY
from hat_ray.search.config import SearchConfig
from hat_ray.search.engine.ask_tell import Evolution
from hat_ray.search.limits import Limit
from hat_ray.space.architecture import Architecture
from hat_ray.space.dimensions import HAT_CROSS_LAYERS
from hat_ray.space.features import FloatArray, hat_features
from hat_ray.space.presets import SPACE0

CHECKPOINTS = (125, 250, 500, 1000, 3750)
NAMES = ("raspberrypi@6000ms", "xeon@200ms", "titanxp@200ms")
METHODS = {
    "random": SearchConfig(algorithm="random", evaluations=3750),
    "HAT's evolution": SearchConfig(algorithm="hat", evaluations=3750),
    "aging evolution": SearchConfig(algorithm="aging", evaluations=3750),
    "surrogate (default)": SearchConfig(evaluations=500),
}
SEEDS = range(10)
AN_EIGHTH = 470


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

    def curve(self, config: SearchConfig, seed: int, noise: float = 0.0) -> list[float]:
        """Return the best loss after each evaluation; two are under way at a time, as with two workers.

        With `noise`, what is told has a normal error; the curve is the true loss of what was told to be best.
        """
        search = Evolution(
            SPACE0, {"device": {LATENCY: self.latency_ms}}, [Limit.of("device", latency_ms=self.limit_ms)], config, seed
        )
        rng = np.random.default_rng(seed)
        best: list[float] = []
        least, true = np.inf, np.inf
        while not search.finished:
            for architecture in search.ask(2):
                loss = self.loss(architecture)
                said = loss + noise * rng.standard_normal()
                search.tell(architecture, said)
                if said < least:
                    least, true = said, loss
            best += [true] * (search.spent - len(best))
        return best

    def run(self, config: SearchConfig, seed: int, checkpoints: Sequence[int]) -> list[float]:
        """Return the best loss after so many evaluations."""
        curve = self.curve(config, seed)
        return [curve[checkpoint - 1] for checkpoint in checkpoints]


def hat_config(architecture: Architecture) -> dict[str, Any]:
    e, d = architecture.encoder, architecture.decoder
    encoder = {
        "encoder_embed_dim": e.embed_dim,
        "encoder_layer_num": e.depth,
        "encoder_ffn_embed_dim": e.ffn_dims,
        "encoder_self_attention_heads": e.heads,
    }
    codes = {layers: code for code, layers in HAT_CROSS_LAYERS.items()}
    decoder = {
        "decoder_embed_dim": d.embed_dim,
        "decoder_layer_num": d.depth,
        "decoder_ffn_embed_dim": d.ffn_dims,
        "decoder_self_attention_heads": d.self_heads,
        "decoder_ende_attention_heads": d.cross_heads,
        "decoder_arbitrary_ende_attn": [codes[layers] for layers in d.cross_layers],
    }
    return {"encoder": encoder, "decoder": decoder}


def evaluations_to(target: float, curve: Sequence[float]) -> float:
    """Return after how many evaluations a curve reaches a loss; infinite where it never does."""
    return next((place + 1 for place, loss in enumerate(curve) if loss <= target), float("inf"))


def _row(curves: Sequence[Sequence[float]]) -> str:
    """Return the median over the seeds at each checkpoint that was reached."""
    medians = (f"{median(c[n - 1] for c in curves):9.4f}" if n <= len(curves[0]) else f"{'':9}" for n in CHECKPOINTS)
    return "".join(medians)


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_print_the_best_loss_by_number_of_evaluations(shared: Path, name: str) -> None:
    problem = Problem(shared, name)
    curves: dict[str, list[list[float]]] = {}
    print(f"\n{name}: median of {len(SEEDS)} seeds{'':6}" + "".join(f"{n:>9}" for n in CHECKPOINTS))
    for method, config in METHODS.items():
        start = time.process_time()
        curves[method] = [problem.curve(config, seed) for seed in SEEDS]
        each_ms = 1000 * (time.process_time() - start) / (len(SEEDS) * config.evaluations)
        print(f"{name:20}{method:22}{_row(curves[method])}  {each_ms:5.1f} ms of processor each", flush=True)
    target = median(curve[-1] for curve in curves["HAT's evolution"])
    print(f"{name:20}evaluations to {target:.4f}, HAT's median after 3750: median (best - worst seed)")
    needed = {method: [evaluations_to(target, curve) for curve in some] for method, some in curves.items()}
    for method, counts in needed.items():
        print(f"{name:20}{method:22}{median(counts):9g} ({min(counts):g} - {max(counts):g})", flush=True)
    assert median(needed["surrogate (default)"]) <= AN_EIGHTH

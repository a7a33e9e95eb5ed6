"""What shapes of the space `toy` cost: milliseconds of models that differ in one respect from a model scaled by hand.

It explains how much there is to search: where widths are nearly free, full width at the depth that a limit allows is
the best shape, and an engineer finds it too. Each figure is the least of many turns of the thread's own time, and the
models take turns, so that other work on the machine matters little. Run with
    pytest -m benchmark -s tests/benchmarks/bench_shapes.py
`HAT_RAY_BENCH_BATCHES` (1,8) names the sentences of a batch, `HAT_RAY_BENCH_TURNS` (60) how often each model is timed.
"""

import os
import random

import pytest
import torch

from hat_ray.latency.timing.engines import random_model, translation
from hat_ray.latency.timing.workload import Workload
from hat_ray.model.config import ModelConfig
from hat_ray.runtime.choice import fastest_engine
from hat_ray.runtime.protocol import RuntimeSettings
from hat_ray.space.architecture import Architecture, build
from hat_ray.space.presets import PRESETS

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

BATCHES = [int(size) for size in os.environ.get("HAT_RAY_BENCH_BATCHES", "1,8").split(",")]
TURNS = int(os.environ.get("HAT_RAY_BENCH_TURNS", "60"))
SPACE = PRESETS["toy"]
SHAPES = {  # (width, layers, hidden width) of the encoder, and of the decoder
    "six layers, two layers, all 128 wide": ((128, 6, 256), (128, 2, 256)),
    "one decoder layer": ((128, 6, 256), (128, 1, 256)),
    "three decoder layers": ((128, 6, 256), (128, 3, 256)),
    "four decoder layers: the largest": ((128, 6, 256), (128, 4, 256)),
    "three encoder layers": ((128, 3, 256), (128, 2, 256)),
    "one encoder layer": ((128, 1, 256), (128, 2, 256)),
    "all 96 wide": ((96, 6, 256), (96, 2, 256)),
    "all 64 wide": ((64, 6, 256), (64, 2, 256)),
    "all 48 wide": ((48, 6, 256), (48, 2, 256)),
    "decoder 64 wide": ((128, 6, 256), (64, 2, 256)),
    "hidden 64 in the encoder": ((128, 6, 64), (128, 2, 256)),
    "hidden 64 in the decoder": ((128, 6, 256), (128, 2, 64)),
}


def architecture(encoder: tuple[int, int, int], decoder: tuple[int, int, int]) -> Architecture:
    (e_width, e_depth, e_hidden), (d_width, d_depth, d_hidden) = encoder, decoder
    values = {
        **{"encoder_embed_dims": (e_width,), "encoder_depths": (e_depth,), "encoder_ffn_dims": (e_hidden,) * e_depth},
        **{"decoder_embed_dims": (d_width,), "decoder_depths": (d_depth,), "decoder_ffn_dims": (d_hidden,) * d_depth},
        **{"encoder_heads": (4,) * e_depth, "decoder_self_heads": (4,) * d_depth},
        **{"decoder_cross_heads": (4,) * d_depth, "decoder_cross_layers": (1,) * d_depth},
    }
    return build(values, SPACE.qkv_dim)


@pytest.mark.parametrize("batch", BATCHES)
def test_what_shapes_cost(batch: int) -> None:
    torch.set_num_threads(1)
    work = Workload(batch=batch, beam=5, source_length=20, target_length=20, vocab_size=1000)
    translations, least = {}, dict.fromkeys(SHAPES, float("inf"))
    for name, (encoder, decoder) in SHAPES.items():
        model = random_model(architecture(encoder, decoder), ModelConfig(normalize_before=True), work).eval()
        runtime, engine = fastest_engine(model, RuntimeSettings(threads=1))
        translations[name] = translation(engine, work)
        translations[name]()
    names = list(SHAPES)
    for _ in range(TURNS):
        random.shuffle(names)
        for name in names:
            time = translations[name]()
            least[name] = min(least[name], time.cpu_ms or time.total_ms)
    print(f"\n{batch} sentences of 20 tokens, beam 5, {runtime} fp32, one thread, milliseconds:")
    for name, ms in least.items():
        print(f"  {name:40} {ms:6.2f}")

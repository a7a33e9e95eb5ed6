"""Whether torch.compile pays for decoding on this CPU: a static decoder step, compiled whole, beside the runtimes.

One thread, 30 source and target tokens, batch 1. Compilation needs a C++ compiler; the cache of earlier compilations
is not used, so that the seconds are those of a new machine. Runtimes take turns; ratios to the eager runtime.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hat_ray.latency.timing.engines import timing_state, translation
from hat_ray.latency.timing.workload import Workload
from hat_ray.model.config import ModelConfig
from hat_ray.model.protocol import StepwiseEngine
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.onnx.engine import OnnxEngine
from hat_ray.runtime.packed import PackedEngine
from hat_ray.space.architecture import Architecture
from hat_ray.space.presets import TOY
from tests.benchmarks.bench_runtime import BASE, TOY_VOCAB, VOCAB, Contestant, require_alike, rounds
from tests.benchmarks.compiled_step import StaticModel

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("g++") is None, reason="compilation needs g++"),
]


@pytest.mark.parametrize("beam", [1, 5])
@pytest.mark.parametrize(
    ("architecture", "vocab_size"), [(TOY.largest(), TOY_VOCAB), (BASE, VOCAB)], ids=["toy", "base"]
)
def test_a_compiled_step_beside_the_runtimes(
    architecture: Architecture, vocab_size: int, beam: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    model = SubTransformer(architecture, vocab_size, ModelConfig()).eval()
    workload = Workload(beam=beam, vocab_size=vocab_size)
    with timing_state(1), torch.inference_mode():
        compiled = StaticModel(model, beam).compile(torch.full((1, workload.source_length), 4), beam)
        runtimes: dict[str, StepwiseEngine] = {
            "eager": model,
            "static, not compiled": StaticModel(model, beam),
            "static, compiled": compiled,
            "packed fp32": PackedEngine(model),
            "onnx fp32": OnnxEngine.of(model, "fp32"),
        }
        require_alike({name: each for name, each in runtimes.items() if each is not compiled}, workload)
        contestants = [
            Contestant(name, translation(each, workload), translation(each, workload), 0.0)
            for name, each in runtimes.items()
        ]
        decoders = rounds(contestants, 30, 60.0)[:, :, 1]
        _require_the_same(model, compiled, workload)
    print(f"\n{architecture.id}, vocabulary {vocab_size}, beam {beam}: compiled in {compiled.compile_s:.0f} s,")
    print(f"  {len(decoders)} rounds in turns, load {os.getloadavg()[0]:.1f}")
    for index, name in enumerate(runtimes):
        low, middle, high = np.percentile(decoders[:, 0] / decoders[:, index], (10, 50, 90))
        print(
            f"  {name:22} {np.median(decoders[:, index]):8.1f} ms a decoding, "
            f"{middle:.2f} ({low:.2f}-{high:.2f}) of eager's speed"
        )


def _require_the_same(model: SubTransformer, compiled: StaticModel, workload: Workload) -> None:
    source = torch.arange(4, 4 + workload.source_length)[None] % workload.vocab_size
    state, other_state = model.start(source, workload.beam), compiled.start(source, workload.beam)
    for word in (2, 7, 9):
        tokens = torch.full((workload.beam,), word)
        own, other = model.step(tokens, state), compiled.step(tokens, other_state)
        assert float((own - other).abs().max() / own.abs().max()) < 1e-4

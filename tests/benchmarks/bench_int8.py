"""int8 of onnx before and after: the same sentences by fp32 and by three ways to quantise large weights, side by side.

"rows" is what hat-ray did before: the largest number of a channel becomes 127, and two neighbours' products may not fit
into 16 bits. "7 bits" is the usual remedy, "pairs" what is done now. The model is a trained one (`trained.py`);
`HAT_RAY_SENTENCES` limits the test sentences (default 1,000). The first 32 are also timed: one after the other, in
turns, the best of five; ratios are medians over the sentences, with their 10th and 90th percentiles.
`older_processor.py` lets ONNX Runtime be one without VNNI or AVX-512, which `ONEDNN_MAX_CPU_ISA` does not.
"""

import os
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from hat_ray.corpus.batches import pad_sources
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.evaluate import scored_text
from hat_ray.evaluate.scoring import score_text
from hat_ray.evaluate.translate import translate_tokens
from hat_ray.export.parity import agreement
from hat_ray.latency.timing.engines import timing_state
from hat_ray.model.beam import beam_search
from hat_ray.model.protocol import StepwiseEngine
from hat_ray.runtime.difference import logit_error
from hat_ray.runtime.onnx import graph
from hat_ray.runtime.onnx.engine import OnnxEngine
from hat_ray.runtime.processor import arithmetic
from tests.benchmarks.trained import trained_model

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
ROUNDS, TIMED = 5, 32

Quantise = Callable[[Tensor], tuple[NDArray[np.int8], NDArray[np.float32]]]


def _by_largest(largest: float) -> Quantise:
    def quantise(weight: Tensor) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        values = weight.detach().float().numpy()
        scales = np.abs(values).max(1) / largest
        safe = np.where(scales == 0, 1.0, scales)[:, None]
        return np.rint(values / safe).astype(np.int8), scales.astype(np.float32)

    return quantise


WAYS: dict[str, Quantise] = {"rows": _by_largest(127), "7 bits": _by_largest(63), "pairs": graph.quantise_channels}


def test_ways_to_quantise_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    model, corpus = trained_model()
    config = EvaluateConfig(sentences=int(os.environ.get("HAT_RAY_SENTENCES", "1000")))
    sources, references = scored_text(corpus, config)
    encoded = corpus.vocabularies.source.encode_lines(list(sources))
    runtimes: dict[str, StepwiseEngine] = {"fp32": OnnxEngine.of(model, "fp32")}
    for name, quantise in WAYS.items():
        monkeypatch.setattr(graph, "quantise_channels", quantise)
        runtimes[name] = OnnxEngine.of(model, "int8")
    with timing_state(1):
        found = {name: translate_tokens(each, corpus.vocabularies, sources, config) for name, each in runtimes.items()}
        times = _times(runtimes, [pad_sources([tokens]) for tokens in encoded[:TIMED]])
    as_if = os.environ.get("HAT_RAY_OLDER_X86")
    told = f"ONNX Runtime as on a processor with {as_if} and no VNNI" if as_if else arithmetic("int8")
    print(f"\n{len(sources)} sentences, beam {config.beam}, one thread, {told}, load {os.getloadavg()[0]:.1f}")
    first = found["fp32"]
    for name, each in found.items():
        texts = [corpus.vocabularies.target.decode(tokens) for tokens in each]
        bleu = score_text(texts, [references], tokenizer=config.tokenizer, chrf=False).bleu
        same = sum(a == b for a, b in zip(first, each, strict=True))
        error = max(
            logit_error(model, runtimes[name], tokens, target)
            for tokens, target in zip(encoded[:TIMED], first, strict=False)
        )
        speeds = {other: np.percentile(times[other] / times[name], (10, 50, 90)) for other in ("fp32", "rows")}
        told = "; ".join(
            f"{middle:.2f} ({low:.2f}-{high:.2f}) of {other}'s speed" for other, (low, middle, high) in speeds.items()
        )
        print(
            f"  {name:7} {same:5} identical, {100 * agreement(first, each):6.2f} % of tokens, BLEU {bleu:.2f}, "
            f"largest logit error {error:.2f}; {times[name].mean():.2f} ms a sentence, {told}"
        )


@torch.inference_mode()
def _times(runtimes: dict[str, StepwiseEngine], sources: list[Tensor]) -> dict[str, NDArray[np.float64]]:
    """Return milliseconds of each runtime for each sentence: the best of the rounds, runtimes taking turns."""
    times = {name: np.full(len(sources), np.inf) for name in runtimes}
    for _ in range(ROUNDS):
        for row, source in enumerate(sources):
            for name, each in runtimes.items():
                began = time.perf_counter()
                beam_search(each, source, beam=5, length_penalty=1.0, max_length=40)
                times[name][row] = min(times[name][row], 1e3 * (time.perf_counter() - began))
    return times

"""Decode speed of each runtime, side by side in one run: one thread, 30 source and target tokens, 32,768 words.

Shapes: Transformer-base, three models that HAT published (where its table is at hand), and the largest of the toy space
(1,000 words). A case is chosen with `-k`, such as `-k "base-batch1 or titanxp"`; each takes two to four minutes.

A translation is what `latency/translation.py` times: encoder, 30 steps, choice of the best, re-ordering. The runtimes
take turns, and each round gives one ratio to the plain PyTorch decoder with a cache: their median and 10-90 %.
The limit: the bytes that 30 steps must read over the memory bandwidth measured in the same run. HAT's decoder is a
stand-in (`hat_decoder.py` says what it does); figures of HAT's own code are printed beside it where they are known.
"""

import copy
import importlib.util
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from hat_ray.latency.timing.engines import timing_state, translation
from hat_ray.latency.timing.workload import TranslationTime, Workload
from hat_ray.model.config import ModelConfig
from hat_ray.model.protocol import Engine, WholeEngine
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.processor import arithmetic
from hat_ray.runtime.protocol import RuntimeSettings, load_engine, why_unsupported
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.presets import SPACE0, TOY
from tests.benchmarks.hat_decoder import HatDecoder
from tests.benchmarks.plain_decoder import PlainDecoder
from tests.space.test_hat_compatibility import published

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
VOCAB, TOY_VOCAB, WIDTH, HIDDEN, HEADS, DEPTH = 32768, 1000, 512, 2048, 8, 6
BASE = Architecture(
    EncoderShape(WIDTH, (HIDDEN,) * DEPTH, (HEADS,) * DEPTH),
    DecoderShape(WIDTH, (HIDDEN,) * DEPTH, (HEADS,) * DEPTH, (HEADS,) * DEPTH, (1,) * DEPTH),
    qkv_dim=WIDTH,
)
PUBLISHED = {
    "raspberrypi-3.5s": "HAT_wmt14ende_raspberrypi@3.5s",
    "titanxp-146.7ms": "HAT_wmt14ende_titanxp@146.7ms",
    "xeon-450.9ms": "HAT_wmt14ende_xeon@450.9ms",
}
ROUNDS, BUDGET_S = 12, 150.0
TIMED = (
    *(("packed", "fp32", 4.0), ("packed", "bf16", 2.0), ("onnx", "fp32", 4.0), ("onnx", "int8", 1.0)),
    *(("ctranslate2", "fp32", 4.0), ("ctranslate2", "int8", 1.0)),
)
"""Runtime, dtype, and the bytes of a weight."""
CASES = [("base", 1, 1), *((shape, batch, 5) for shape in ("base", *PUBLISHED, "toy") for batch in (1, 32))]


@dataclass(frozen=True)
class Shape:
    """An architecture, and the SuperTransformer that HAT would cut it from."""

    name: str
    architecture: Architecture
    largest: Architecture
    vocab_size: int = VOCAB

    @property
    def weights(self) -> int:
        """Numbers that a step must read at least: the decoder's weights, the encoder's keys and values known."""
        shape, qkv = self.architecture.decoder, self.architecture.qkv_dim
        layers = sum(6 * shape.embed_dim * qkv + 2 * shape.embed_dim * hidden for hidden in shape.ffn_dims)
        return layers + self.vocab_size * shape.embed_dim


@dataclass(frozen=True)
class Contestant:
    name: str
    translate: Callable[[], TranslationTime]
    warm_up: Callable[[], TranslationTime]
    bytes_read: float
    """What the steps of one translation must read at least: the decoder's weights, once a step."""


@pytest.mark.parametrize(
    ("name", "batch", "beam"), CASES, ids=[f"{name}-batch{batch}-beam{beam}" for name, batch, beam in CASES]
)
def test_runtimes_side_by_side(name: str, batch: int, beam: int, request: pytest.FixtureRequest) -> None:
    shape = _shape(name, request)
    model = SubTransformer(shape.architecture, shape.vocab_size, ModelConfig()).eval()
    workload = Workload(batch=batch, beam=beam, vocab_size=shape.vocab_size)
    with timing_state(1), torch.inference_mode():
        contestants = list(_contestants(model, shape, workload))
        times = rounds(contestants)
        print(f"\n{shape.name}, vocabulary {shape.vocab_size}, random weights, 30 source and target tokens, one thread")
        _tell(workload, contestants, times, bandwidth())
    _tell_hat(shape.name, request)


@pytest.mark.skipif(not importlib.util.find_spec("ctranslate2"), reason="needs hat-ray[ctranslate2]")
@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize(("runtime", "dtype"), [("onnx", "fp32"), ("onnx", "int8"), ("packed", "fp32")])
def test_beside_ctranslate2(runtime: str, dtype: str, batch: int) -> None:
    """Without the slow ones a round is short enough that both of a pair see the same machine."""
    shape, workload = Shape("Transformer-base", BASE, BASE), Workload(batch=batch, vocab_size=VOCAB)
    model = SubTransformer(BASE, VOCAB, ModelConfig()).eval()
    with timing_state(1), torch.inference_mode():
        pair = []
        for name in ("ctranslate2", runtime):
            each = load_engine(copy.deepcopy(model), name, RuntimeSettings(dtype))
            pair.append(Contestant(name, translation(each, workload), translation(each, _short(workload)), 0.0))
        times = rounds(pair, 24 if batch == 1 else 8, BUDGET_S / 2)[:, :, 0]
    low, middle, high = np.percentile(times[:, 1] / times[:, 0], (10, 50, 90))
    print(
        f"\n{shape.name}, batch {batch}, beam 5, 30 tokens, one thread: {runtime} {dtype} takes {middle:.2f} "
        f"({low:.2f}-{high:.2f}) of the time of ctranslate2 {dtype} ({np.median(times[:, 0]):.0f} ms), "
        f"{len(times)} rounds in turns, load {os.getloadavg()[0]:.1f}"
    )


def _shape(name: str, request: pytest.FixtureRequest) -> Shape:
    if name == "base":
        return Shape("Transformer-base", BASE, BASE)
    if name == "toy":
        return Shape("toy", TOY.largest(), TOY.largest(), TOY_VOCAB)
    models = published(request.getfixturevalue("shared"))
    [found] = [each for row, each in models if row["model_name"].startswith(PUBLISHED[name])]
    return Shape(PUBLISHED[name], found, SPACE0.largest())


def _contestants(model: SubTransformer, shape: Shape, workload: Workload) -> Iterator[Contestant]:
    runtimes: dict[str, tuple[Engine, float]] = {
        "plain PyTorch": (PlainDecoder(model), 4.0),
        "HAT's steps": (HatDecoder(model, shape.largest), 4.0),
        "eager": (model, 4.0),
    }
    for runtime, dtype, size in TIMED:
        settings = RuntimeSettings(dtype)
        if reason := why_unsupported(runtime, settings, shape.architecture):
            print(f"\n(no {runtime} {dtype}: {reason})")
        else:
            runtimes[f"{runtime} {dtype}"] = load_engine(copy.deepcopy(model), runtime, settings), size
    require_alike({name: each for name, (each, size) in runtimes.items() if size == 4}, workload)
    for name, (each, size) in runtimes.items():
        read = workload.target_length * size * shape.weights
        yield Contestant(name, translation(each, workload), translation(each, _short(workload)), read)


def _short(workload: Workload) -> Workload:
    return replace(workload, target_length=2)


def require_alike(engines: dict[str, Engine], workload: Workload) -> None:
    """All must compute the same, or their times do not compare: three steps, with beams reordered between."""
    runtimes = {name: each for name, each in engines.items() if not isinstance(each, WholeEngine)}
    draw = torch.Generator().manual_seed(1)
    source = torch.randint(4, workload.vocab_size, (2, 9), generator=draw)
    states = {name: each.start(source, workload.beam) for name, each in runtimes.items()}
    rows = 2 * workload.beam
    for _ in range(3):
        tokens = torch.randint(4, workload.vocab_size, (rows,), generator=draw)
        logits = {name: each.step(tokens, states[name]).clone() for name, each in runtimes.items()}
        first = logits["eager"]
        for name, each in logits.items():
            assert float((each - first).abs().max() / first.abs().max()) < 1e-4, name
        for state in states.values():
            state.reorder(torch.arange(rows).view(2, -1).flip(1).flatten())


def rounds(contestants: list[Contestant], most: int = ROUNDS, budget_s: float = BUDGET_S) -> np.ndarray:
    """Return milliseconds (rounds, contestants, 3): total, encoder, decoder; NaN where an engine does not split."""
    for each in contestants:
        each.warm_up()
    began, times = time.perf_counter(), []
    while len(times) < most:
        times.append([each.translate() for each in contestants])
        spent = time.perf_counter() - began
        if spent * (1 + 1 / len(times)) > budget_s:  # the next round would not be over in time
            break
    return np.array(times, dtype=np.float64)


def bandwidth() -> float:
    """Return bytes a second that one thread reads, as a matrix times a vector: the best of ten."""
    matrix, vector = torch.ones(16384, 4096), torch.ones(4096)  # 256 MiB
    best = 0.0
    for _ in range(10):
        started = time.perf_counter()
        matrix.mv(vector)
        best = max(best, matrix.nbytes / (time.perf_counter() - started))
    return best


def _tell(workload: Workload, contestants: list[Contestant], times: np.ndarray, speed: float) -> None:
    print(
        f"batch {workload.batch}, beam {workload.beam}: {len(times)} rounds in turns, memory {speed / 1e9:.1f} GB/s, "
        f"load {os.getloadavg()[0]:.1f}; int8: {arithmetic('int8')}"
    )
    print(f"  {'':16} encoder ms  decoder ms  total ratio to plain (10-90 %)   decoder ratio   share of the limit")
    totals, decoders = times[:, :, 0], times[:, :, 2]
    for index, each in enumerate(contestants):
        ratios, steps = totals[:, 0] / totals[:, index], decoders[:, 0] / decoders[:, index]
        low, middle, high = np.percentile(ratios, (10, 50, 90))
        _, encoder, decoder = np.median(times[:, index], axis=0)
        share = each.bytes_read / speed / (decoder / 1e3)  # NaN: the engine does not split its time
        print(
            f"  {each.name:16} {encoder:10.1f}  {decoder:10.1f}  {middle:8.2f} ({low:.2f}-{high:.2f})"
            f"{np.median(steps):22.2f}{100 * share:18.0f} %"
        )


def _tell_hat(name: str, request: pytest.FixtureRequest) -> None:
    """Print what HAT's own code took elsewhere, where that is known."""
    try:
        text = (request.getfixturevalue("shared") / "hat" / "README.md").read_text(encoding="utf-8")
    except (pytest.skip.Exception, OSError):
        return
    row = re.search(rf"^\| {re.escape(name)}\b[^|]*((?:\| \d+ ){{4}})\|$", text, re.MULTILINE)
    if row is not None:
        trained, evaluated, straight, _ = (int(each) for each in row[1].split("|")[1:])
        print(
            f"  HAT's own code on another machine of this kind, batch 1, beam 5, 30 steps without reordering: "
            f"{trained} ms as published, {evaluated} in evaluation mode, straight PyTorch {straight}: "
            f"{straight / trained:.2f} and {straight / evaluated:.2f} of that speed"
        )

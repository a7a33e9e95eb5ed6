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
from pathlib import Path

import numpy as np
import pytest
import torch

from hat_ray.latency.timing.process import timing_state
from hat_ray.latency.timing.workload import Sample, Workload, translation
from hat_ray.model.config import ModelConfig
from hat_ray.model.protocol import Translator
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.build import on_runtime
from hat_ray.runtime.capability import arithmetic, unsupported
from hat_ray.runtime.ctranslate2 import why_not_expressible, write_ct2
from hat_ray.runtime.onnx.graph import GraphDtype
from hat_ray.runtime.onnx.runtime import OnnxModel
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
RUNTIMES = (("packed", "fp32", 4.0), ("packed", "bf16", 2.0), ("onnx", "fp32", 4.0), ("onnx", "int8", 1.0))
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
    translate: Callable[[], Sample]
    warm_up: Callable[[], Sample]
    bytes_read: float
    """What the steps of one translation must read at least: the decoder's weights, once a step."""


@pytest.mark.parametrize(
    ("name", "batch", "beam"), CASES, ids=[f"{name}-batch{batch}-beam{beam}" for name, batch, beam in CASES]
)
def test_runtimes_side_by_side(
    name: str, batch: int, beam: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    shape = _shape(name, request)
    model = SubTransformer(shape.architecture, shape.vocab_size, ModelConfig()).eval()
    workload = Workload(batch=batch, beam=beam, vocab_size=shape.vocab_size)
    with timing_state(1), torch.inference_mode():
        contestants = [*_ours(model, shape, workload), *_ct2(model, shape, workload, tmp_path)]
        times = rounds(contestants)
        print(f"\n{shape.name}, vocabulary {shape.vocab_size}, random weights, 30 source and target tokens, one thread")
        _tell(workload, contestants, times, bandwidth())
    _tell_hat(shape.name, request)


@pytest.mark.skipif(not importlib.util.find_spec("ctranslate2"), reason="needs hat-ray[ctranslate2]")
def test_many_rows_beside_ctranslate2(tmp_path: Path) -> None:
    """Without the slow ones a round is short enough that both of a pair see the same machine."""
    shape, workload = Shape("Transformer-base", BASE, BASE), Workload(batch=32, vocab_size=VOCAB)
    model = SubTransformer(BASE, VOCAB, ModelConfig()).eval()
    with timing_state(1), torch.inference_mode():
        theirs = _ct2(model, shape, workload, tmp_path)
        runtimes: tuple[GraphDtype, ...] = ("fp32", "int8")
        for dtype, rival in zip(runtimes, theirs, strict=True):
            ours = OnnxModel.of(model, dtype)
            own, short = translation(ours, workload), translation(ours, _short(workload))
            times = rounds([rival, Contestant(f"onnx {dtype}", own, short, 0.0)], 8, BUDGET_S / 2).sum(2)
            ratios = np.sort(times[:, 1] / times[:, 0])
            print(
                f"\nTransformer-base, batch 32, beam 5, 30 tokens: onnx {dtype} takes {np.median(ratios):.2f} "
                f"({ratios[0]:.2f}-{ratios[-1]:.2f}) of the time of {rival.name} "
                f"({np.median(times[:, 0]) / 1e3:.1f} s), {len(times)} rounds in turns, load {os.getloadavg()[0]:.1f}"
            )


def _shape(name: str, request: pytest.FixtureRequest) -> Shape:
    if name == "base":
        return Shape("Transformer-base", BASE, BASE)
    if name == "toy":
        return Shape("toy", TOY.largest(), TOY.largest(), TOY_VOCAB)
    models = published(request.getfixturevalue("shared"))
    [found] = [each for row, each in models if row["model_name"].startswith(PUBLISHED[name])]
    return Shape(PUBLISHED[name], found, SPACE0.largest())


def _ours(model: SubTransformer, shape: Shape, workload: Workload) -> Iterator[Contestant]:
    runtimes: dict[str, tuple[Translator, float]] = {
        "plain PyTorch": (PlainDecoder(model), 4.0),
        "HAT's steps": (HatDecoder(model, shape.largest), 4.0),
        "eager": (model, 4.0),
    }
    for runtime, dtype, size in RUNTIMES:
        if reason := unsupported(runtime, dtype):
            print(f"\n(no {runtime} {dtype}: {reason})")
        else:
            runtimes[f"{runtime} {dtype}"] = on_runtime(copy.deepcopy(model), runtime, dtype), size
    require_alike({name: each for name, (each, size) in runtimes.items() if size == 4}, workload)
    for name, (each, size) in runtimes.items():
        read = workload.target_length * size * shape.weights
        yield Contestant(name, translation(each, workload), translation(each, _short(workload)), read)


def _ct2(model: SubTransformer, shape: Shape, workload: Workload, place: Path) -> Iterator[Contestant]:
    if reason := why_not_expressible(shape.architecture):
        print(f"\n(no CTranslate2: {reason})")
        return
    if not importlib.util.find_spec("ctranslate2"):
        return
    write_ct2(model, [str(word) for word in range(shape.vocab_size)], place, "fp32")
    for name, kind, size in (("fp32", "float32", 4.0), ("int8", "int8", 1.0)):
        whole, short = (ct2_translation(place, kind, each) for each in (workload, _short(workload)))
        yield Contestant(f"CTranslate2 {name}", whole, short, workload.target_length * size * shape.weights)


def _short(workload: Workload) -> Workload:
    return replace(workload, target_length=2)


def require_alike(runtimes: dict[str, Translator], workload: Workload) -> None:
    """All must compute the same, or their times do not compare: three steps, with beams reordered between."""
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


def ct2_translation(place: Path, kind: str, workload: Workload) -> Callable[[], Sample]:
    """CTranslate2 tells no time of its encoder: all counts as the decoder's."""
    translator = importlib.import_module("ctranslate2").Translator(
        str(place), device="cpu", compute_type=kind, intra_threads=1, inter_threads=1
    )
    draw = torch.Generator().manual_seed(0)
    source = torch.randint(4, workload.vocab_size, (workload.batch, workload.source_length), generator=draw)
    lines = [[*map(str, line[:-1]), "2"] for line in source.tolist()]
    length = workload.target_length

    def translate() -> Sample:
        started = time.perf_counter()
        translator.translate_batch(
            lines, beam_size=workload.beam, min_decoding_length=length, max_decoding_length=length
        )
        return Sample(0.0, 1e3 * (time.perf_counter() - started))

    return translate


def rounds(contestants: list[Contestant], most: int = ROUNDS, budget_s: float = BUDGET_S) -> np.ndarray:
    """Return milliseconds (rounds, contestants, 2), encoder and decoder: as many rounds as there is time for."""
    for each in contestants:
        each.warm_up()
    began, times = time.perf_counter(), []
    while len(times) < most:
        times.append([each.translate() for each in contestants])
        spent = time.perf_counter() - began
        if spent * (1 + 1 / len(times)) > budget_s:  # the next round would not be over in time
            break
    return np.array(times)


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
        f"load {os.getloadavg()[0]:.1f}; int8: {arithmetic('onnx', 'int8')}"
    )
    print(f"  {'':16} encoder ms  decoder ms  total ratio to plain (10-90 %)   decoder ratio   share of the limit")
    totals, decoders = times.sum(2), times[:, :, 1]
    for index, each in enumerate(contestants):
        ratios, steps = totals[:, 0] / totals[:, index], decoders[:, 0] / decoders[:, index]
        low, middle, high = np.percentile(ratios, (10, 50, 90))
        encoder, decoder = np.median(times[:, index], axis=0)
        share = each.bytes_read / speed / (decoder / 1e3)
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

"""Decode speed of each runtime, side by side in one run: the shape of Transformer-base, one thread, batch 1, 30 tokens.

A translation is what `latency/translation.py` times: encoder, 30 steps, choice of the best, re-ordering. The runtimes
take turns, and each round gives one ratio to the plain PyTorch decoder with a cache: their median and 10-90 %.
The limit: the bytes that 30 steps must read over the memory bandwidth measured in the same run.
"""

import copy
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hat_ray.latency.process import timing_state
from hat_ray.latency.translation import Sample, Workload, translation
from hat_ray.model.config import ModelConfig
from hat_ray.model.protocol import Best, Translator, best_of
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.ct2 import write_ct2
from hat_ray.runtime.onnx_model import OnnxModel
from hat_ray.runtime.packed import PackedModel
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
VOCAB, WIDTH, HIDDEN, HEADS, DEPTH = 32768, 512, 2048, 8, 6
BASE = Architecture(
    EncoderShape(WIDTH, (HIDDEN,) * DEPTH, (HEADS,) * DEPTH),
    DecoderShape(WIDTH, (HIDDEN,) * DEPTH, (HEADS,) * DEPTH, (HEADS,) * DEPTH, (1,) * DEPTH),
    qkv_dim=WIDTH,
)


class PlainLayer(nn.Module):
    """A decoder layer as one writes it first: own projections for q, k, v, and caches that grow by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.cross = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))

    def forward(self, x: Tensor, cache: dict[str, Tensor]) -> Tensor:
        """(R, 1, D) -> (R, 1, D)."""
        q, k, v = (_heads(project(x)) for project in self.attention[:3])
        cache["k"] = torch.cat([cache["k"], k], 2) if "k" in cache else k
        cache["v"] = torch.cat([cache["v"], v], 2) if "v" in cache else v
        x = self.norms[0](x + self.attention[3](_attend(q, cache["k"], cache["v"])))
        x = self.norms[1](x + self.cross[3](_attend(_heads(self.cross[0](x)), cache["memory_k"], cache["memory_v"])))
        return self.norms[2](x + self.down(F.relu(self.up(x))))


def _heads(x: Tensor) -> Tensor:
    return x.view(x.shape[0], -1, HEADS, WIDTH // HEADS).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class PlainState:
    def __init__(self, caches: list[dict[str, Tensor]]) -> None:
        self.caches, self.position = caches, 0

    def reorder(self, rows: Tensor) -> None:
        self.caches = [{name: value.index_select(0, rows) for name, value in cache.items()} for cache in self.caches]


class Plain(nn.Module):
    """A plain PyTorch decoder with a cache behind our encoder: keys and values of the encoder computed once."""

    def __init__(self, encoder: SubTransformer) -> None:
        super().__init__()
        self.model, self.target_vocab_size, self.max_positions = [encoder], VOCAB, 1024
        self.embed, self.out = nn.Embedding(VOCAB, WIDTH), nn.Linear(WIDTH, VOCAB, bias=False)
        self.out.weight = self.embed.weight
        self.layers = nn.ModuleList(PlainLayer() for _ in range(DEPTH))
        self.positions = torch.randn(1024, WIDTH)
        self.device = torch.device("cpu")

    def start(self, source: Tensor, beam: int) -> PlainState:
        model = self.model[0]
        memory = model.encoder(source, model.architecture).outputs[-1].repeat_interleave(beam, 0)
        return PlainState(
            [
                {"memory_k": _heads(layer.cross[1](memory)), "memory_v": _heads(layer.cross[2](memory))}
                for layer in self.layers
            ]
        )

    def step(self, tokens: Tensor, state: PlainState) -> Tensor:
        x = self.embed(tokens[:, None]) * WIDTH**0.5 + self.positions[state.position]
        for layer, cache in zip(self.layers, state.caches, strict=True):
            x = layer(x, cache)
        state.position += 1
        return self.out(x)[:, 0]

    def best(self, tokens: Tensor, state: PlainState, count: int) -> Best:
        return best_of(self.step(tokens, state), count)


@dataclass
class Contestant:
    name: str
    translate: Callable[[], Sample]
    bytes_read: float
    """What the steps of one translation must read at least: the decoder's weights, once a step."""


@pytest.mark.parametrize(("batch", "beam", "rounds"), [(1, 1, 12), (1, 5, 12), (32, 5, 3)])
def test_runtimes_side_by_side(batch: int, beam: int, rounds: int, tmp_path: Path) -> None:
    model = SubTransformer(BASE, VOCAB, ModelConfig()).eval()
    weights = DEPTH * (4 * WIDTH**2 + 2 * WIDTH**2 + 2 * WIDTH * HIDDEN) + VOCAB * WIDTH
    workload = Workload(batch=batch, beam=beam, vocab_size=VOCAB)
    fp32, int8 = (workload.target_length * size * weights for size in (4.0, 1.0))
    runtimes: dict[str, tuple[Translator, float]] = {
        "plain PyTorch": (Plain(model).eval(), fp32),
        "eager": (model, fp32),
        "packed fp32": (PackedModel(model), fp32),
        "packed bf16": (PackedModel(copy.deepcopy(model), torch.bfloat16), fp32 / 2),
        "onnx fp32": (OnnxModel.of(model, "fp32"), fp32),
        "onnx int8": (OnnxModel.of(model, "int8"), int8),
    }
    with timing_state(1), torch.inference_mode():
        contestants = [Contestant(name, translation(each, workload), size) for name, (each, size) in runtimes.items()]
        if importlib.util.find_spec("ctranslate2"):
            write_ct2(model, [str(word) for word in range(VOCAB)], tmp_path, "fp32")
            contestants += [
                Contestant(f"CTranslate2 {name}", ct2_translation(tmp_path, kind, workload), size)
                for name, kind, size in (("fp32", "float32", fp32), ("int8", "int8", int8))
            ]
        print(f"\none thread, 30 source and target tokens, vocabulary {VOCAB}, base shape, random weights")
        _tell(workload, contestants, _rounds(contestants, rounds), bandwidth())


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


def _rounds(contestants: list[Contestant], rounds: int) -> np.ndarray:
    """Return milliseconds (rounds, contestants, 2): encoder and decoder."""
    for each in contestants:
        each.translate()
    return np.array([[each.translate() for each in contestants] for _ in range(rounds)])


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
    print(f"\nbatch {workload.batch}, beam {workload.beam}: memory {speed / 1e9:.1f} GB/s")
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

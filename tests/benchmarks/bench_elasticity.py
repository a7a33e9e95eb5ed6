"""What elasticity costs: one update of the SuperTransformer against rigid models of the same sampled shape.

Each turn times one update (forward, backward, Adam) on one batch: the SuperTransformer at a sampled architecture;
PyTorch's own Transformer layers with that shape; our SubTransformer with that shape, in the very same loop, as it is
and compiled by torch.compile. The table shows target tokens a second, the elastic one's overhead (median of paired
ratios, with quartiles) and the share of the matrix-product peak that is measured between the turns. Run with
    pytest -m benchmark -s --timeout 3600 tests/benchmarks/bench_elasticity.py
"""

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hat_ray.corpus.batches import Batch
from hat_ray.corpus.tokens import TokenTable
from hat_ray.model.config import ModelConfig
from hat_ray.model.embedding import Positions
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.architecture import Architecture
from hat_ray.space.presets import SMALL, SPACE0
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from hat_ray.train.checkpoints import CheckpointStore
from hat_ray.train.config import TrainConfig
from hat_ray.train.data import Position, ValidationLoss
from hat_ray.train.job import sub_task, super_task
from hat_ray.train.loop import Training
from hat_ray.train.workers import OneWorker

pytestmark = pytest.mark.benchmark

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MODEL = ModelConfig(dropout=0.1)


@dataclass(frozen=True)
class Case:
    """A space, a vocabulary, and batches of `rows` sentence pairs with `length` tokens a side."""

    name: str
    space: SearchSpace
    vocabulary: int
    rows: int
    length: int
    turns: int
    precision: str = "fp32"

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    def batch(self) -> Batch:
        source, target = (torch.randint(4, self.vocabulary, (self.rows, self.length)) for _ in range(2))
        return Batch(source, target.roll(1, 1), target, self.tokens)


class RigidTransformer(nn.Module):
    """PyTorch's own layers, one object a layer because their hidden widths differ; one embedding for all."""

    def __init__(self, architecture: Architecture, vocabulary: int) -> None:
        super().__init__()
        e, d = architecture.encoder, architecture.decoder
        self.reach, dropout = d.cross_layers, MODEL.dropout
        self.embedding = nn.Embedding(vocabulary, d.embed_dim)
        nn.init.normal_(self.embedding.weight, std=d.embed_dim**-0.5)
        self.positions = Positions(d.embed_dim, 1024, d.embed_dim)
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(e.embed_dim, heads, ffn, dropout, batch_first=True)
            for ffn, heads in zip(e.ffn_dims, e.heads, strict=True)
        )
        self.decoder = nn.ModuleList(
            nn.TransformerDecoderLayer(d.embed_dim, heads, ffn, dropout, batch_first=True)
            for ffn, heads in zip(d.ffn_dims, d.self_heads, strict=True)
        )

    def forward(self, source: Tensor, target_in: Tensor) -> Tensor:
        x, outputs = self.embed(source), []
        for layer in self.encoder:
            x = layer(x)
            outputs.append(x)
        y, length = self.embed(target_in), target_in.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=y.device)
        for reach, layer in zip(self.reach, self.decoder, strict=True):
            memory = outputs[-1] if reach == 1 else torch.cat(outputs[-reach:], dim=1)
            y = layer(y, memory, tgt_mask=mask, tgt_is_causal=True)
        return F.linear(y, self.embedding.weight)

    def embed(self, tokens: Tensor) -> Tensor:
        dim = self.embedding.embedding_dim
        return F.dropout(self.embedding(tokens) * dim**0.5 + self.positions(tokens, dim), MODEL.dropout, self.training)


class Repeated:
    """The same batch for every update."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def update(self, position: Position) -> tuple[list[tuple[int, Batch]], Position]:
        return [(0, self.batch)], position


def ours(case: Case, batch: Batch, task, folder: Path) -> Callable[[], None]:
    config = TrainConfig(updates=10**6, precision=case.precision, warmup_updates=0, lr=1e-5, schedule="inverse_sqrt")
    store = CheckpointStore(Folder.at(folder), "benchmark", 1)
    validation = ValidationLoss(TokenTable.of([]), 100)
    training = Training(task, Repeated(batch), validation, config, store, OneWorker(DEVICE), seed=1)
    task.model.train()
    return training._update


def pytorchs(case: Case, batch: Batch, architecture: Architecture) -> Callable[[], None]:
    model = RigidTransformer(architecture, case.vocabulary).to(DEVICE).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    batch = batch.to(DEVICE)
    dtype = {"fp32": None, "bf16": torch.bfloat16}[case.precision]

    def update() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE, dtype, enabled=dtype is not None):
            logits = model(batch.source, batch.target_in).flatten(0, 1)
        loss = F.cross_entropy(logits.float(), batch.target_out.flatten(), label_smoothing=0.1)
        loss.backward()
        optimiser.step()

    return update


def seconds(work: Callable[[], object]) -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def peak_flops(precision: str) -> float:
    """Operations a second of one large square product, the best of three."""
    size = 8192 if DEVICE == "cuda" else 1536
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    a, b = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(seconds(lambda: a @ b) for _ in range(3))


def training_flops(architecture: Architecture, case: Case) -> float:
    """Operations of all matrix products of one update: forward once, backward twice (two a multiply-add)."""
    e, d, qkv, length = architecture.encoder, architecture.decoder, architecture.qkv_dim, case.length
    encoder = sum(4 * e.embed_dim * qkv + 2 * e.embed_dim * ffn + 2 * length * qkv for ffn in e.ffn_dims)
    decoder = sum(
        6 * d.embed_dim * qkv + 2 * e.embed_dim * qkv * reach + 2 * d.embed_dim * ffn + 2 * length * qkv * (1 + reach)
        for ffn, reach in zip(d.ffn_dims, d.cross_layers, strict=True)
    )
    return 3 * 2 * case.tokens * (encoder + decoder + d.embed_dim * case.vocabulary)


def sampled(space: SearchSpace, count: int) -> list[Architecture]:
    """Draw architectures that PyTorch's layers can express: one width, which is the query-key-value width."""
    rng, found = random.Random(1), []
    width = space.qkv_dim
    while len(found) < count:
        drawn = space.sample(rng)
        same_heads = drawn.decoder.self_heads == drawn.decoder.cross_heads
        if drawn.encoder.embed_dim == drawn.decoder.embed_dim == width and same_heads:
            found.append(drawn)
    return found


WIDER_SMALL = SearchSpace(
    **{
        **SMALL.to_dict(),
        "name": "small-320",  # the sampled width 256 is a slice of it
        "encoder_embed_dims": (320, 256),
        "decoder_embed_dims": (320, 256),
        "decoder_self_heads": (4,),
        "decoder_cross_heads": (4,),
    }
)
WMT = SearchSpace(**{**SPACE0.to_dict(), "decoder_self_heads": (8,), "decoder_cross_heads": (8,)})
CASES = (
    [
        Case("Multi30k-sized", WIDER_SMALL, 4_000, 128, 16, turns=6),
        Case("WMT-sized", WMT, 32_000, 24, 30, turns=2),
    ]
    if DEVICE == "cpu"
    else [Case(f"WMT-sized {p}", WMT, 32_000, 136, 30, turns=20, precision=p) for p in ("fp32", "bf16")]
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_update_of_the_supertransformer(case: Case, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    batch, chosen = case.batch(), sampled(case.space, 3)
    supernet = SuperTransformer(case.space, case.vocabulary, MODEL)
    times: dict[str, list[float]] = {"elastic": [], "PyTorch": [], "ours, rigid": [], "ours, compiled": []}
    shares, compile_s = [], []
    for index, architecture in enumerate(chosen):
        sub = SubTransformer(architecture, case.vocabulary, MODEL, super_dims=supernet.super_dims)
        elastic = super_task(supernet, lambda _update, it=architecture: (it,))
        contenders = {
            "elastic": ours(case, batch, elastic, tmp_path / f"super{index}"),
            "PyTorch": pytorchs(case, batch, architecture),
            "ours, rigid": ours(case, batch, sub_task(sub), tmp_path / f"sub{index}"),
            "ours, compiled": ours(case, batch, sub_task(sub, compiled=True), tmp_path / f"compiled{index}"),
        }
        for update in contenders.values():
            warm_up_s = seconds(update)
        compile_s.append(warm_up_s)  # the compiled one comes last
        for turn in range(case.turns):
            peak = peak_flops(case.precision)
            order = list(contenders)
            for name in order[turn % 4 :] + order[: turn % 4]:
                times[name].append(seconds(contenders[name]))
            shares.append(training_flops(architecture, case) / times["elastic"][-1] / peak)
    print(f"\n{case.name}, {DEVICE} {case.precision}, {case.tokens} tokens a batch, {len(shares)} turns")
    for name, spent in times.items():
        ratios = sorted(a / b for a, b in zip(times["elastic"], spent, strict=True))
        low, median, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
        overhead = "" if name == "elastic" else f"elastic takes {median:.3f} of its time ({low:.3f} to {high:.3f})"
        print(f"  {name:12} {case.tokens / statistics.median(spent):9.0f} tokens/s  {overhead}")
    print(f"  share of the matrix-product peak: {100 * statistics.median(shares):.0f} %")
    print(f"  compiling one shape takes {statistics.median(compile_s):.0f} s")

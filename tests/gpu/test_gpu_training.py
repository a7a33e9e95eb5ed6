"""Training on a GPU: speed, share of the matrix-product peak, and updates that never make the host wait."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hat_ray.corpus.batches import Batch
from hat_ray.corpus.tokens import TokenTable
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.presets import SPACE0, TOY
from hat_ray.storage.folder import Folder
from hat_ray.train.checkpoints import CheckpointStore
from hat_ray.train.config import TrainConfig
from hat_ray.train.data import Position, TrainingTask, ValidationLoss
from hat_ray.train.job import sub_task, super_task
from hat_ray.train.loop import Training
from hat_ray.train.sampling import policy_for
from hat_ray.train.workers import OneWorker
from tests.gpu.place import Place, Table

pytestmark = pytest.mark.gpu
MODEL = ModelConfig(dropout=0.1)


class Repeated:
    """The same batch for every update, on the host: its way to the device counts."""

    def __init__(self, rows: int, length: int, vocabulary: int) -> None:
        source, target = (torch.randint(4, vocabulary, (rows, length)) for _ in range(2))
        self.batch = Batch(source, target.roll(1, 1), target, rows * length, padded=False)

    def update(self, position: Position) -> tuple[list[tuple[int, Batch]], Position]:
        return [(0, self.batch)], position


def updates_of(place: Place, precision: str, kind: str, folder: Path) -> tuple[Callable[[], None], int]:
    """Return what makes one update of the real loop, and the target tokens of each."""
    space, vocabulary, rows, length = (SPACE0, 32_000, 400, 30) if place.full else (TOY, 200, 4, 5)
    config = TrainConfig(updates=10**6, precision=precision, warmup_updates=0, lr=1e-5, schedule="inverse_sqrt")
    task: TrainingTask
    if kind == "largest":
        task = sub_task(SubTransformer(space.largest(), vocabulary, MODEL))
    else:
        task = super_task(SuperTransformer(space, vocabulary, MODEL), policy_for(space, config, seed=1))
    batches, worker = Repeated(rows, length, vocabulary), OneWorker(place.device)
    store, validation = CheckpointStore(Folder.at(folder), "check", 1), ValidationLoss(TokenTable.of([]), 100)
    training = Training(task, batches, validation, config, store, worker, seed=1)
    task.model.train()
    return training._update, rows * length


def seconds(place: Place, work: Callable[[], object], times: int) -> float:
    """Return the seconds of one of several calls in a row, the device's work included."""
    place.wait()
    began = time.perf_counter()
    for _ in range(times):
        work()
    place.wait()
    return (time.perf_counter() - began) / times


def peak_flops(place: Place, dtype: torch.dtype) -> float:
    """Return the operations a second of one large square product, the best of several."""
    size = 8192 if place.full else 128
    a, b = (torch.randn(size, size, device=place.device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(seconds(place, lambda: a @ b, 5) for _ in range(4))


@pytest.mark.parametrize("kind", ["largest", "sampled"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_speed_and_share_of_the_peak(place: Place, table: Table, tmp_path: Path, precision: str, kind: str) -> None:
    update, tokens = updates_of(place, precision, kind, tmp_path)
    for _ in range(10 if place.full else 1):
        update()
    times = [seconds(place, update, 10 if place.full else 1) for _ in range(5)]
    what = f"training {precision}"
    table.add(what, f"{kind}, {tokens} tokens an update", f"{tokens / statistics.median(times):,.0f} tokens/s")
    if kind == "largest":  # sampled updates differ in their work
        with FlopCounterMode(display=False) as counter:
            update()
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        share = counter.get_total_flops() / statistics.median(times) / peak_flops(place, dtype)
        table.add(what, "share of one large product's speed", f"{share:.1%}")
        assert counter.get_total_flops() > 6 * tokens  # the products were counted


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_update_makes_the_host_wait(place: Place, table: Table, tmp_path: Path, precision: str) -> None:
    update, _ = updates_of(place, precision, "sampled", tmp_path)
    for _ in range(3):
        update()
    if not place.full:
        update()
        return
    place.wait()
    torch.cuda.set_sync_debug_mode("error")  # what would wait raises
    try:
        for _ in range(5):
            update()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    table.add(f"training {precision}", "updates that made the host wait", "0 of 5")

"""The loss against PyTorch's: milliseconds of forward and backward together, best of seven, one thread."""

import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hat_ray.train.objective import label_smoothed_loss

pytestmark = pytest.mark.benchmark


def pytorch(logits: Tensor, target: Tensor) -> Tensor:
    rows = logits.flatten(0, 1)
    return F.cross_entropy(rows, target.flatten(), ignore_index=1, reduction="sum", label_smoothing=0.1)


def ours(logits: Tensor, target: Tensor) -> Tensor:
    return label_smoothed_loss(logits, target, 0.1, 1).loss_sum


def best_ms(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> float:
    times = []
    for _ in range(7):
        x = logits.clone().requires_grad_()
        began = time.perf_counter()
        loss(x, target).backward()
        times.append(1e3 * (time.perf_counter() - began))
    return min(times)


@pytest.mark.parametrize(("rows", "vocabulary"), [(1024, 1500), (4096, 4000), (1024, 32768)])
def test_loss_time(rows: int, vocabulary: int) -> None:
    torch.set_num_threads(1)
    logits, target = torch.randn(32, rows // 32, vocabulary), torch.randint(2, vocabulary, (32, rows // 32))
    figures = {loss.__name__: best_ms(loss, logits, target) for loss in (pytorch, ours)}
    print(f"{rows} tokens x {vocabulary}: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in figures.items()))

"""Output projection and loss against PyTorch: ms forward and backward, median of paired turns, one thread."""

import statistics
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hat_ray.model.transformer import Output
from hat_ray.train.objective import smoothed_loss

pytestmark = pytest.mark.benchmark

TURNS = 9


def pytorch(output: Output, target: Tensor) -> Tensor:
    rows = output.logits().flatten(0, 1)
    return F.cross_entropy(rows, target.flatten(), ignore_index=1, reduction="sum", label_smoothing=0.1)


def ours(output: Output, target: Tensor) -> Tensor:
    return smoothed_loss(output, target, 0.1, 1).loss_sum


def turn_ms(loss: Callable[[Output, Tensor], Tensor], hidden: Tensor, weight: Tensor, target: Tensor) -> float:
    output = Output(hidden.clone().requires_grad_(), weight.clone().requires_grad_())
    began = time.perf_counter()
    loss(output, target).backward()
    return 1e3 * (time.perf_counter() - began)


@pytest.mark.parametrize(
    ("tokens", "dim", "vocabulary"), [(512, 128, 1000), (1536, 192, 4000), (1536, 256, 8000), (2048, 512, 32000)]
)
def test_projection_and_loss(tokens: int, dim: int, vocabulary: int) -> None:
    """A quarter of the positions is padding, as in batches of real sentences that are not sorted well."""
    torch.set_num_threads(1)
    hidden, weight = torch.randn(32, tokens // 32, dim), torch.randn(vocabulary, dim) * dim**-0.5
    target = torch.randint(2, vocabulary, (32, tokens // 32))
    for padded in (False, True):
        if padded:
            target[:, -(tokens // 128) :] = 1
        times: dict[str, list[float]] = {"pytorch": [], "ours": []}
        for _ in range(TURNS):
            for loss in (pytorch, ours):
                times[loss.__name__].append(turn_ms(loss, hidden, weight, target))
        ratios = [a / b for a, b in zip(times["ours"], times["pytorch"], strict=True)]
        figures = ", ".join(f"{name} {statistics.median(ms):.1f} ms" for name, ms in times.items())
        print(f"{tokens} x {dim} x {vocabulary}{' padded' * padded}: {figures}, ratio {statistics.median(ratios):.2f}")

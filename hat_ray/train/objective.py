"""Label-smoothed cross entropy, summed over target tokens, as HAT and fairseq define it.

Shapes: `B` batch, `T` target length, `N` = B*T rows, `V` vocabulary.

Decisions
- Written as `logsumexp(x) - (1 - eps) * x[target] - eps * mean(x)`: no log-probability of the whole vocabulary is kept.
- The gradient is closed form, `softmax(x) - (1 - eps) * onehot - eps / V`, filled into one buffer.
- Rows are walked in blocks that fit a CPU's cache, so the exponentials never exist as a second (N, V) matrix. On an
  accelerator one block takes all rows: there the copies are cheap and the launches are not.
- Padding rows cost nothing but their zero gradient.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_BLOCK_ELEMENTS = 1 << 18  # 1 MiB of float32: stays in a core's cache between the passes over one block


@dataclass(frozen=True, slots=True)
class LossSums:
    """Sums over the target tokens of one or more batches, as scalar tensors; `loss_sum` carries the gradient."""

    loss_sum: Tensor
    nll_sum: Tensor
    tokens: Tensor

    @property
    def loss_bits(self) -> float:
        """Label-smoothed loss in bits a token: what HAT logs and what its search minimises."""
        return float(self.loss_sum.detach()) / max(1, int(self.tokens)) / math.log(2)

    @property
    def nll_bits(self) -> float:
        """Negative log-likelihood in bits a token; perplexity is 2 to its power."""
        return float(self.nll_sum) / max(1, int(self.tokens)) / math.log(2)

    def __add__(self, other: "LossSums") -> "LossSums":
        return LossSums(self.loss_sum + other.loss_sum, self.nll_sum + other.nll_sum, self.tokens + other.tokens)


def label_smoothed_loss(logits: Tensor, target: Tensor, smoothing: float, pad: int) -> LossSums:
    """(B, T, V) logits and (B, T) targets to sums over the tokens that are not `pad`.

    HAT: (1 - eps) * nll + eps / V * sum over the vocabulary of -log p. `nll_sum` carries no gradient.
    """
    rows = logits.reshape(-1, logits.shape[-1])
    target = target.reshape(-1)
    keep = target != pad
    loss_sum, nll_sum = _LabelSmoothedSum.apply(rows, target, keep, smoothing)  # type: ignore[no-untyped-call]
    return LossSums(loss_sum, nll_sum, keep.sum())


class _LabelSmoothedSum(torch.autograd.Function):
    """Scalar loss and nll of (N, V) rows, with the closed-form gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, target: Tensor, keep: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        log_norm = torch.empty(len(rows), device=rows.device, dtype=torch.float32)  # (N,)
        mean = torch.empty_like(log_norm)
        for block in _blocks(rows):
            x = rows[block].float()
            torch.logsumexp(x, dim=1, out=log_norm[block])
            torch.mean(x, dim=1, out=mean[block])
        chosen = rows.gather(1, target[:, None]).squeeze(1).float()
        nll = (log_norm - chosen).masked_fill(~keep, 0)
        smooth = (log_norm - mean).masked_fill(~keep, 0)
        ctx.save_for_backward(rows, target, keep, log_norm)
        ctx.smoothing = smoothing
        nll_sum = nll.sum()
        ctx.mark_non_differentiable(nll_sum)
        return (1 - smoothing) * nll_sum + smoothing * smooth.sum(), nll_sum

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        rows, target, keep, log_norm = ctx.saved_tensors
        scale = grad_outputs[0] * keep  # (N,): zero where padding
        grad = torch.empty_like(rows)
        for block in _blocks(rows):
            part = grad[block]  # a view: filled in place while the block is in cache
            exact = part if part.dtype == torch.float32 else torch.empty_like(part, dtype=torch.float32)
            torch.sub(rows[block], log_norm[block, None], out=exact)
            exact.exp_().sub_(ctx.smoothing / rows.shape[1]).mul_(scale[block, None])
            if exact is not part:
                part.copy_(exact)
        grad.scatter_add_(1, target[:, None], (scale * (ctx.smoothing - 1))[:, None].to(grad.dtype))
        return grad, None, None, None


def _blocks(rows: Tensor) -> Iterator[slice]:
    step = len(rows) if rows.device.type != "cpu" else max(1, _BLOCK_ELEMENTS // rows.shape[1])
    return (slice(start, start + step) for start in range(0, len(rows), max(1, step)))

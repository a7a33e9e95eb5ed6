"""Label-smoothed cross entropy, summed over target tokens, as HAT and fairseq define it, and distillation beside it.

Shapes: `B` batch, `T` target length, `D` width, `N` target tokens that are not padding, `V` vocabulary.

Decisions
- Output projection and loss are one function: rows are walked in blocks, each block's logits become its gradient in
  place, and no (N, V) matrix ever stands in memory. Vocabularies of 8,000 and more also train faster.
- Padding is cut away before the projection: it costs nothing.
- The gradient is closed form, `softmax(x) - q` for the target distribution q, and is made in the forward pass.
- Distillation (in place, from the largest architecture; Yu & Huang, ICCV 2019) mixes the teacher's distribution into q.
  The teacher's logits are computed again block by block, which is cheaper than keeping them.
- The softmax is done in float32, whatever the projection's precision under autocast.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hat_ray.model.transformer import Output

_ROWS = 256  # measured: from 128 to 512 rows a block the speed is the same
_ACCELERATOR_ELEMENTS = 1 << 26  # there launches cost more than copies: blocks of 256 MiB of float32


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


def smoothed_loss(
    output: Output,
    target: Tensor,
    smoothing: float,
    pad: int,
    teacher: Output | None = None,
    share: float = 0.0,
    *,
    tokens: int | None = None,
    scale: float = 1.0,
) -> LossSums:
    """Return the loss of a decoder's output against (B, T) targets, summed over the tokens that are not `pad`.

    HAT: (1 - eps) * nll + eps / V * sum over the vocabulary of -log p. With a teacher, `share` of the loss is the
    cross entropy with its distribution instead. `nll_sum` carries no gradient, and the teacher gets none. `tokens` is
    the number of targets that are not `pad`; without it the host waits for a GPU to count them. `scale` is what the
    loss will be multiplied by before its gradients are taken: they are scaled before they are rounded to fp16.
    """
    keep = target.ne(pad)
    rows = torch.nonzero_static(keep.reshape(-1), size=int(keep.sum()) if tokens is None else tokens)[:, 0]  # (N,)
    hidden, labels = _at(output.hidden, rows), target.reshape(-1)[rows]
    guide = None if teacher is None else replace(teacher.detach(), hidden=_at(teacher.hidden.detach(), rows))
    loss_sum, nll_sum = _Loss.apply(hidden, output.weight, output.bias, labels, smoothing, guide, share, scale)  # type: ignore[no-untyped-call]
    return LossSums(loss_sum, nll_sum, keep.sum())


def _at(hidden: Tensor, rows: Tensor) -> Tensor:
    """(B, T, D), (N,) numbers of rows -> (N, D)."""
    return hidden.flatten(0, 1).index_select(0, rows)


class _Loss(torch.autograd.Function):
    """Scalar loss and nll of (N, D) hidden states through a (V, D) weight and, where there is one, a (V,) bias."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        smoothing: float,
        guide: Output | None,
        share: float,
        scale: float,
    ) -> tuple[Tensor, Tensor]:
        ctx.scale = scale
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        with torch.autocast(device, enabled=False):
            return _walk(ctx, Output(hidden, weight, bias), labels, smoothing, guide, share, dtype, scale)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the gradients of one loss can be taken once")
        found, ctx.gradients = ctx.gradients, None
        factor = grad_outputs[0] / ctx.scale
        hidden, weight, bias = (None if one is None else one.mul_(factor) for one in found)
        return hidden, weight, bias, None, None, None, None, None


def _walk(
    ctx: Any,
    output: Output,
    labels: Tensor,
    smoothing: float,
    guide: Output | None,
    share: float,
    dtype: torch.dtype,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Go through the rows block by block: sums of loss and nll, and the gradients where they are needed, scaled."""
    hidden, weight = output.hidden, output.weight
    cast, cast_guide = output.to(dtype), None if guide is None else guide.to(dtype)
    learn = any(ctx.needs_input_grad[:3])
    grad_hidden = torch.empty_like(hidden) if learn else hidden
    grad_weight = (
        torch.zeros_like(weight, dtype=torch.float32, memory_format=torch.contiguous_format) if learn else weight
    )
    grad_bias = None if output.bias is None else torch.zeros_like(output.bias, dtype=torch.float32)
    loss_sum = torch.zeros((), device=hidden.device)
    nll_sum = torch.zeros((), device=hidden.device)
    step = _rows_of_a_block(hidden, len(weight))
    for start in range(0, len(hidden), step):
        block = slice(start, start + step)
        x = _logits(cast, block)  # (n, V)
        soft = None if cast_guide is None else torch.softmax(_logits(cast_guide, block), dim=1)
        loss, nll = _loss_and_gradient(x, labels[block, None], smoothing, soft, share, learn)
        loss_sum += loss
        nll_sum += nll
        if learn:
            gradient = (x if scale == 1.0 else x.mul_(scale)).to(dtype)
            grad_hidden[block] = gradient @ cast.weight
            if dtype == torch.float32:
                grad_weight.addmm_(gradient.t(), cast.hidden[block])
            else:
                grad_weight += gradient.t() @ cast.hidden[block]
            if grad_bias is not None:
                grad_bias += x.sum(0)
    ctx.mark_non_differentiable(nll_sum)
    ctx.gradients = (grad_hidden, grad_weight.to(weight.dtype), grad_bias) if learn else None
    return loss_sum, nll_sum


def _logits(output: Output, block: slice) -> Tensor:
    """Return the logits (n, V) of some rows in float32."""
    x = (output.hidden[block] @ output.weight.t()).float()
    return x if output.bias is None else x.add_(output.bias)


def _loss_and_gradient(
    x: Tensor, labels: Tensor, smoothing: float, soft: Tensor | None, share: float, learn: bool
) -> tuple[Tensor, Tensor]:
    """(n, V) logits, (n, 1) labels -> sums of loss and nll; turns the logits into their gradient in place."""
    share = 0.0 if soft is None else share
    log_norm = torch.logsumexp(x, dim=1, keepdim=True)  # (n, 1)
    nll = (log_norm - x.gather(1, labels)).sum()
    loss = (1 - smoothing) * nll + smoothing * (log_norm - x.mean(dim=1, keepdim=True)).sum()
    if soft is not None:
        loss = (1 - share) * loss + share * (log_norm.sum() - torch.dot(soft.view(-1), x.view(-1)))
    if learn:
        x.sub_(log_norm).exp_().sub_((1 - share) * smoothing / x.shape[1])
        x.scatter_add_(1, labels, x.new_full(labels.shape, (1 - share) * (smoothing - 1)))
        if soft is not None:
            x.sub_(soft, alpha=share)
    return loss, nll


def _rows_of_a_block(hidden: Tensor, vocabulary: int) -> int:
    return _ROWS if hidden.device.type == "cpu" else max(_ROWS, _ACCELERATOR_ELEMENTS // vocabulary)

"""Largest difference of two executions of one model, on given translations."""

from collections.abc import Callable, Sequence

import torch

from hat_ray.corpus.batches import pad_sources
from hat_ray.model.protocol import EOS, StepwiseEngine

_LISTED = -1e8  # words on no short-list have less


@torch.inference_mode()
def logit_error(model: StepwiseEngine, other: StepwiseEngine, source: Sequence[int], target: Sequence[int]) -> float:
    """Feed both a translation token by token; return the largest absolute difference of two logits."""
    states = [each.start(pad_sources([source]), 1) for each in (model, other)]
    worst = 0.0
    for token in (EOS, *target):
        fed = torch.tensor([token])
        ours, theirs = (each.step(fed, state) for each, state in zip((model, other), states, strict=True))
        known = theirs > _LISTED  # on a short-list, or there is none
        worst = max(worst, float((ours - theirs)[known].abs().max()))
    return worst


@torch.inference_mode()
def word_error(
    model: StepwiseEngine,
    log_probabilities: Callable[[Sequence[int], Sequence[int]], Sequence[float]],
    source: Sequence[int],
    target: Sequence[int],
) -> float:
    """Let both score a translation; return the largest difference of its words' log-probabilities.

    `log_probabilities` scores a source and a target, the end of sentence included.
    """
    state = model.start(pad_sources([source]), 1)
    own = [
        float(model.step(torch.tensor([fed]), state).log_softmax(1)[0, token])
        for fed, token in zip((EOS, *target), (*target, EOS), strict=True)
    ]
    return max(abs(a - b) for a, b in zip(own, log_probabilities(source, target), strict=True))

"""Beam search with HAT's (fairseq's) semantics, batched, over cached decoding.

N sentences, R = N * beam rows, V vocabulary.

A hypothesis' score is its log-probability / (length with eos) ** length_penalty. A sentence ends when `beam` hypotheses
are finished. Of the 2 * beam best continuations of a sentence an eos counts only among the first `beam`, and the best
`beam` without eos continue.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hat_ray.errors import HatRayError
from hat_ray.model.embedding import PAD
from hat_ray.model.protocol import EOS, StepwiseEngine, TopTokens

__all__ = ["EOS", "Hypothesis", "beam_search", "best_continuations"]

_WORTH_DROPPING = 0.7
"""Finished sentences are dropped once no more than this share is unfinished: dropping copies the whole cache."""

_RULED_OUT = 2
"""Words that a row's best may hold in vain: padding, and an end that comes too early."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One translation: its tokens with the final eos, and its length-normalised log-probability (nats)."""

    tokens: tuple[int, ...]
    score: float


@torch.inference_mode()
def beam_search(
    model: StepwiseEngine,
    source: Tensor,
    *,
    beam: int = 5,
    length_penalty: float = 1.0,
    max_length: int | Sequence[int],
    min_length: int = 1,
) -> list[list[Hypothesis]]:
    """Translate (N, S) source tokens; return each sentence's `beam` hypotheses, best first.

    A hypothesis has at most `max_length` tokens before its eos and at least `min_length`. `max_length` is one number
    for all sentences, or one for each. The model should be in evaluation mode.
    """
    limits = [max_length] * source.shape[0] if isinstance(max_length, int) else list(max_length)
    _check(model, beam, limits)
    device = source.device
    state = model.start(source, beam)
    finished: list[list[Hypothesis]] = [[] for _ in range(source.shape[0])]
    open_sentences = list(range(source.shape[0]))
    history = torch.empty(len(open_sentences) * beam, 0, dtype=torch.long, device=device)  # (R, t)
    scores = torch.full((len(open_sentences), beam), -torch.inf, device=device)
    scores[:, 0] = 0.0  # at first all beams are alike: only one may speak
    tokens = torch.full((len(open_sentences) * beam,), EOS, dtype=torch.long, device=device)
    for position in range(max(limits, default=0) + 1):
        best = model.best(tokens, state, 2 * beam + _RULED_OUT)
        _rule_out(best, position < min_length, [limits[sentence] == position for sentence in open_sentences], beam)
        totals, words, beams = best_continuations(best, scores)
        _finish(finished, open_sentences, history, (totals, words, beams), beam, length_penalty)
        still = [
            i
            for i, sentence in enumerate(open_sentences)
            if len(finished[sentence]) < beam and position < limits[sentence]
        ]
        if not still:
            break
        if len(still) <= _WORTH_DROPPING * len(open_sentences):
            open_sentences = [open_sentences[i] for i in still]
            kept = torch.tensor(still, device=device)
            state.keep(kept)
            totals, words, beams = totals[kept], words[kept], beams[kept]
            history = history.view(-1, beam, history.shape[1])[kept].flatten(0, 1)
        scores, tokens, rows = _continue(totals, words, beams, beam)
        state.reorder(rows)
        history = torch.cat([history[rows], tokens[:, None]], dim=1)
    return [sorted(hypotheses, key=lambda h: h.score, reverse=True)[:beam] for hypotheses in finished]


def best_continuations(best: TopTokens, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the 2 * beam best continuations of each sentence.

    Rows' best (R, C), (N, beam) -> total log-probability, token and beam, each (N, 2 * beam), best first.
    """
    sentences, beam = scores.shape
    totals = best.values.view(sentences, beam, -1) + scores[:, :, None]
    totals, flat = totals.flatten(1).topk(2 * beam, dim=1)  # (N, 2 * beam)
    return totals, best.words.view(sentences, -1).gather(1, flat), flat // best.words.shape[1]


def _rule_out(best: TopTokens, too_early: bool, too_late: Sequence[bool], beam: int) -> None:
    """Padding never follows; the end does not come too early, and in sentences at their limit nothing else comes.

    As in fairseq probabilities stay as they are: they are not shared out anew among the remaining ones.
    """
    if any(too_late):
        late = torch.tensor(too_late, device=best.values.device).repeat_interleave(beam)
        best.values[late] = -torch.inf
        best.values[late, :1], best.words[late, 0] = best.ending[late], EOS
    best.values[best.words == PAD] = -torch.inf
    if too_early:
        best.values[best.words == EOS] = -torch.inf


def _continue(totals: Tensor, words: Tensor, beams: Tensor, beam: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pick the best `beam` continuations without eos: scores (N, beam), tokens (R,), rows they come from (R,)."""
    order = words.eq(EOS).int().argsort(dim=1, stable=True)[:, :beam]
    sentences = torch.arange(totals.shape[0], device=totals.device)[:, None]
    rows = (sentences * beam + beams.gather(1, order)).flatten()
    return totals.gather(1, order), words.gather(1, order).flatten(), rows


def _finish(
    finished: list[list[Hypothesis]],
    open_sentences: list[int],
    history: Tensor,
    candidates: tuple[Tensor, Tensor, Tensor],
    beam: int,
    length_penalty: float,
) -> None:
    """Move continuations that end in eos, among the first `beam`, to the finished hypotheses."""
    totals, words, beams = (tensor[:, :beam] for tensor in candidates)
    ended = (words.eq(EOS) & totals.isfinite()).nonzero().tolist()
    length = history.shape[1] + 1
    for index, rank in ended:
        hypotheses = finished[open_sentences[index]]
        if len(hypotheses) < beam:
            row = history[index * beam + int(beams[index, rank])].tolist()
            hypotheses.append(Hypothesis((*row, EOS), float(totals[index, rank]) / length**length_penalty))


def _check(model: StepwiseEngine, beam: int, limits: Sequence[int]) -> None:
    if not 1 <= beam <= model.target_vocab_size // 2 - 1:
        raise HatRayError(f"beam must be from 1 to half of the vocabulary, got {beam}")
    for limit in {min(limits, default=1), max(limits, default=1)}:
        if not 1 <= limit < model.max_positions:
            raise HatRayError(f"max_length must be from 1 to {model.max_positions - 1} tokens, got {limit}")

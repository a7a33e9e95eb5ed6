"""What one timing times: one translation of given length by a SubTransformer.

Decisions
- One repetition is one translation: `start` (the encoder, and the cross-attention keys and values of every decoder
  layer) and then `target_length` decoder steps of `batch * beam` rows. Each step includes what the real beam search
  does: log-normaliser, the 2 * beam best continuations by its own function, the choice of those without eos, and the
  re-ordering of the cache. Tokens are given, so that no architecture ends early. Not included: the bookkeeping of
  finished hypotheses, and text to tokens and back.
- On a GPU the CPU launches ahead and waits once, at the end: between its two events passes what a user waits for, the
  launches of a small model included. Only the model's question whether its sources have padding waits before that.
- With a mix of lengths one repetition is one translation of each pair, and its time their mean: the mean translation of
  the corpus that the mix stands for.
- HAT counts the cross-attention keys and values to the decoder's first step; here they count to the encoder's side,
  where they are computed. Totals are comparable.

A few pairs of sentence lengths that stand for a corpus: what `latency.length_mix` times instead of one pair.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hat_ray.errors import LatencyError
from hat_ray.model.beam import EOS, best_continuations
from hat_ray.model.protocol import Best, Translator

_ROUNDS = 5
_TYPICAL = 0.1  # how much a pair's distance from its part's mean weighs beside the distance of all pairs' sum


def draw_pairs(source_lengths: ArrayLike, target_lengths: ArrayLike, count: int) -> tuple[tuple[int, int], ...]:
    """Choose `count` of a corpus's sentence pairs, by length in tokens; deterministic, ascending by total length.

    The sentences, shortest first, are cut into `count` equal parts, and each part gives one pair: one near its mean,
    such that all pairs' mean is the corpus's. A corpus of fewer sentences gives all of them. Raises LatencyError when
    it has none.
    """
    lengths = np.stack([np.asarray(source_lengths), np.asarray(target_lengths)], axis=1).astype(np.int64)  # (N, 2)
    if not len(lengths):
        raise LatencyError("latency.length_mix needs validation sentences, got a corpus without: set it to 0")
    lengths = lengths[np.lexsort((lengths[:, 0], lengths[:, 1], lengths.sum(axis=1)))]
    parts = [np.unique(part, axis=0) for part in np.array_split(lengths, min(count, len(lengths)))]
    means = np.stack([part.mean(axis=0) for part in np.array_split(lengths, len(parts))])
    chosen = means.copy()
    for _ in range(_ROUNDS):  # each part in turn makes good what the others miss
        for i, part in enumerate(parts):
            missed = len(parts) * lengths.mean(axis=0) - (chosen.sum(axis=0) - chosen[i])
            cost = np.abs(part - missed).sum(axis=1) + _TYPICAL * np.abs(part - means[i]).sum(axis=1)
            chosen[i] = part[cost.argmin()]
    return tuple((int(source), int(target)) for source, target in chosen)


_FIRST_WORD = 4  # ids below are bos, pad, eos, unk


@dataclass(frozen=True, slots=True)
class Workload:
    """What one timed translation is: two timings compare only where it is equal."""

    batch: int = 1
    beam: int = 5
    source_length: int = 30
    target_length: int = 30
    vocab_size: int = 8000
    length_mix: str | None = None
    """Several pairs of source and target length, such as "12x14,20x23"; source_length and target_length then hold
    their rounded means. None: the one pair."""

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The (source, target) lengths that one repetition translates, each once."""
        if self.length_mix is None:
            return ((self.source_length, self.target_length),)
        sides = [pair.partition("x") for pair in self.length_mix.split(",")]
        return tuple((int(source), int(target)) for source, _, target in sides)

    def with_mix(self, pairs: Sequence[tuple[int, int]]) -> "Workload":
        """Return this workload over several pairs of lengths; their order does not matter."""
        means = [round(sum(side) / len(pairs)) for side in zip(*pairs, strict=True)]
        text = ",".join(f"{source}x{target}" for source, target in sorted(pairs))
        return replace(self, source_length=means[0], target_length=means[1], length_mix=text)


class Sample(NamedTuple):
    """One translation's times."""

    encoder_ms: float
    decoder_ms: float


def translation(model: Translator, workload: Workload) -> Callable[[], Sample]:
    """Return the function that does one repetition and tells its times. Its tokens are the same every time."""
    _check(model, workload)
    parts = [
        _one_pair(model, replace(workload, source_length=source, target_length=target))
        for source, target in workload.pairs
    ]
    if len(parts) == 1:
        return parts[0]

    def translate() -> Sample:
        encoder_ms, decoder_ms = zip(*(part() for part in parts), strict=True)
        return Sample(sum(encoder_ms) / len(parts), sum(decoder_ms) / len(parts))

    return translate


def _one_pair(model: Translator, workload: Workload) -> Callable[[], Sample]:
    """Return the function that does one translation of `source_length` to `target_length`."""
    device = model.device
    rows, beam = workload.batch * workload.beam, workload.beam
    draw = torch.Generator().manual_seed(0)
    source = torch.randint(_FIRST_WORD, workload.vocab_size, (workload.batch, workload.source_length), generator=draw)
    source[:, -1] = EOS
    forced = torch.randint(_FIRST_WORD, workload.vocab_size, (workload.target_length, rows), generator=draw)
    source, forced = source.to(device), forced.to(device)
    first_rows = torch.arange(0, rows, beam, device=device)[:, None]  # (B, 1): each sentence's first row
    mark, elapsed_ms = _gpu_clock() if device.type == "cuda" else _cpu_clock()

    def translate() -> Sample:
        begin = mark()
        state = model.start(source, beam)
        encoded = mark()
        scores = torch.zeros(workload.batch, beam, device=device)
        for tokens in forced:
            scores, parents = _beam_choice(model.best(tokens, state, 2 * beam), scores, first_rows)
            state.reorder(parents)
        end = mark()
        return Sample(elapsed_ms(begin, encoded), elapsed_ms(encoded, end))

    return translate


def _beam_choice(best: Best, scores: Tensor, first_rows: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the survivors: (B*beam, C), (B, beam), (B, 1) -> scores (B, beam), the parents' rows (B*beam,)."""
    totals, words, beams = best_continuations(best, scores)
    order = words.eq(EOS).int().argsort(dim=1, stable=True)[:, : scores.shape[1]]
    return totals.gather(1, order), (first_rows + beams.gather(1, order)).flatten()


def _check(model: Translator, workload: Workload) -> None:
    longest, most = max(map(max, workload.pairs)), model.max_positions
    if longest > most:
        what = "the lengths of latency.length_mix" if workload.length_mix else "latency.source_length and target_length"
        raise LatencyError(f"{what} must be at most model.max_positions {most}, got {longest}")
    if workload.vocab_size < max(_FIRST_WORD + 1, 2 * workload.beam):
        raise LatencyError(
            f"timing needs a vocabulary of at least {max(_FIRST_WORD + 1, 2 * workload.beam)} at beam {workload.beam}, "
            f"got {workload.vocab_size}"
        )


def _cpu_clock() -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    return time.perf_counter, lambda begin, end: (end - begin) * 1e3


def _gpu_clock() -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    """Time on the device: events in its own stream, read once the later one has passed."""

    def mark() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def elapsed_ms(begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        end.synchronize()
        return float(begin.elapsed_time(end))

    return mark, elapsed_ms

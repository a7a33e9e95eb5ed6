"""The workload of a timing: one translation of given length by a SubTransformer.

Decisions
- One repetition is one translation: `start` (the encoder, and the cross-attention keys and values of every decoder
  layer) and then `target_length` decoder steps of `batch * beam` rows. Each step includes what the real beam search
  does: log-normaliser, the 2 * beam best continuations by its own function, the choice of those without eos, and the
  re-ordering of the cache. Tokens are given, so that no architecture ends early. Not included: the bookkeeping of
  finished hypotheses, and text to tokens and back.
- An engine on arrays (`ArrayEngine`) is timed with numpy alone, as an export runs it: a board times it with this very
  code. `engines.py` times those on tensors.
- On a GPU the CPU launches ahead and waits once, at the end: between its two events passes what a user waits for, the
  launches of a small model included. Only the model's question whether its sources have padding waits before that.
- With a mix of lengths one repetition is one translation of each pair, and its time their mean: the mean translation of
  the corpus that the mix stands for.
- An engine with a beam search of its own (`WholeEngine`) translates to exactly `target_length` steps, whatever its
  weights choose. Its time has a total and no parts, and includes its bookkeeping of hypotheses.
- HAT counts the cross-attention keys and values to the decoder's first step; here they count to the encoder's side,
  where they are computed. Totals are comparable.

A few pairs of sentence lengths that stand for a corpus: what `latency.length_mix` times instead of one pair.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hat_ray.core.columns.marks import Int32
from hat_ray.errors import LatencyError
from hat_ray.runtime.standalone.beams import (
    ArrayEngine,
    Floats,
    Ints,
    best_continuations,
    going_on,
)

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


EOS, FIRST_WORD = 2, 4  # ids below the first word are bos, pad, eos, unk


@dataclass(frozen=True, slots=True)
class Workload:
    """The shape of one timed translation: two timings compare only where it is equal."""

    batch: Int32 = 1
    beam: Int32 = 5
    source_length: Int32 = 30
    target_length: Int32 = 30
    vocab_size: Int32 = 8000
    length_mix: str | None = None
    """Several pairs of source and target length, such as "12x14,20x23"; source_length and target_length then hold
    their rounded means. None: the one pair."""
    source_vocab_size: Int32 | None = None
    """Words of the source's own vocabulary, `vocab_size` are then the target's; None: both sides share one."""

    @property
    def vocab_sizes(self) -> tuple[int, int]:
        """Words of the source's and the target's vocabulary."""
        return self.source_vocab_size or self.vocab_size, self.vocab_size

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


class TranslationTime(NamedTuple):
    """One translation's milliseconds."""

    total_ms: float
    encoder_ms: float | None = None
    """None: the engine does not split its time; likewise `decoder_ms`."""
    decoder_ms: float | None = None
    cpu_ms: float | None = None
    """Milliseconds for which the processor computed, without other processes' turns. None: several threads did."""

    @classmethod
    def of_parts(cls, encoder_ms: float, decoder_ms: float, cpu_ms: float | None = None) -> "TranslationTime":
        return cls(encoder_ms + decoder_ms, encoder_ms, decoder_ms, cpu_ms)


def mean_time(times: Sequence[TranslationTime]) -> TranslationTime:
    """Return the mean of each part; a part that one time lacks is None."""
    encoder = [one.encoder_ms for one in times if one.encoder_ms is not None]
    decoder = [one.decoder_ms for one in times if one.decoder_ms is not None]
    known = [one.cpu_ms for one in times if one.cpu_ms is not None]
    cpu_ms = sum(known) / len(times) if len(known) == len(times) else None
    if len(encoder) == len(decoder) == len(times):
        return TranslationTime.of_parts(sum(encoder) / len(times), sum(decoder) / len(times), cpu_ms)
    return TranslationTime(sum(one.total_ms for one in times) / len(times), cpu_ms=cpu_ms)


def array_translation(engine: ArrayEngine, workload: Workload) -> Callable[[], TranslationTime]:
    """Return the function that does one repetition on an engine on arrays. Its tokens are the same every time."""
    return over_pairs(workload, lambda one: _array_pair(engine, one))


def over_pairs(
    workload: Workload, one_pair: Callable[[Workload], Callable[[], TranslationTime]]
) -> Callable[[], TranslationTime]:
    """Return the function that translates each pair of lengths once, and returns the mean."""
    parts = [
        one_pair(replace(workload, source_length=source, target_length=target)) for source, target in workload.pairs
    ]
    return parts[0] if len(parts) == 1 else lambda: mean_time([part() for part in parts])


def drawn(workload: Workload) -> tuple[Ints, Ints]:
    """Draw sources (B, S) and the tokens of each step (T, R): the same for every engine."""
    draw, rows = np.random.default_rng(0), workload.batch * workload.beam
    source = draw.integers(FIRST_WORD, workload.vocab_sizes[0], (workload.batch, workload.source_length))
    source[:, -1] = EOS
    return source, draw.integers(FIRST_WORD, workload.vocab_size, (workload.target_length, rows))


def _array_pair(engine: ArrayEngine, workload: Workload) -> Callable[[], TranslationTime]:
    """Return the function that does one translation of `source_length` to `target_length`."""
    beam = workload.beam
    source, forced = drawn(workload)
    first_rows = np.arange(0, workload.batch * beam, beam)[:, None]  # (B, 1): each sentence's first row

    def translate() -> TranslationTime:
        cpu, begin = time.thread_time(), time.perf_counter()
        state = engine.start(source, beam)
        encoded = time.perf_counter()
        scores: Floats = np.zeros((workload.batch, beam), np.float32)
        for tokens in forced:
            values, words, _ = state.best(tokens, 2 * beam)
            scores, parents = _beam_choice(values, words, scores, first_rows)
            state.reorder(parents)
        end = time.perf_counter()
        cpu_ms = (time.thread_time() - cpu) * 1e3 if engine.threads == 1 else None
        return TranslationTime.of_parts((encoded - begin) * 1e3, (end - encoded) * 1e3, cpu_ms)

    return translate


def _beam_choice(values: Floats, words: Ints, scores: Floats, first_rows: NDArray[Any]) -> tuple[Floats, Ints]:
    """Choose the survivors: (R, C), (R, C), (B, beam), (B, 1) -> scores (B, beam), the parents' rows (R,)."""
    found, beam = best_continuations(values, words, scores), scores.shape[1]
    scores, _, beams = going_on(found, beam, found[1] == EOS)
    return scores, (first_rows + beams).ravel()


def require_room(workload: Workload, most: int) -> None:
    """Raise LatencyError where a model of `most` positions cannot do a workload, or its vocabulary is too small."""
    longest = max(map(max, workload.pairs))
    if longest > most:
        what = "the lengths of latency.length_mix" if workload.length_mix else "latency.source_length and target_length"
        raise LatencyError(f"{what} must be at most model.max_positions {most}, got {longest}")
    if workload.vocab_size < max(FIRST_WORD + 1, 2 * workload.beam):
        raise LatencyError(
            f"timing needs a vocabulary of at least {max(FIRST_WORD + 1, 2 * workload.beam)} at beam {workload.beam}, "
            f"got {workload.vocab_size}"
        )

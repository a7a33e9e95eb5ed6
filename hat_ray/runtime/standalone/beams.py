"""Beam search on arrays, with HAT's (fairseq's) rules. Needs numpy alone, so that an export carries it.

N sentences, R = N * beam rows (a sentence's rows stand together), C words of each row.

A score is log-probability / (length with the end) ** length_penalty. A sentence ends when `beam` hypotheses are
finished. Of the 2 * beam best continuations an end counts only among the first `beam`, and the best `beam` without an
end continue.

Decisions
- A step of a small model takes a fifth of a millisecond, as long as some 40 calls of numpy: nothing is computed that a
  step does not need. Words are looked at for ends once; hypotheses are chains of parents, put together when they end.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_WORTH_DROPPING = 0.7
"""Finished sentences are dropped once no more than this share is unfinished: dropping copies the whole cache."""
_RULED_OUT = 2
"""Words that a row's best may hold in vain: padding, and an end that comes too early."""


class ArrayState(Protocol):
    """What an engine on arrays remembers between two steps."""

    def best(self, tokens: Ints, count: int) -> tuple[Floats, Ints, Floats]:
        """Feed the next token of each row, (R,); return the best words to follow, which the caller may change.

        Logarithms of probability (R, C), best first; the words; and the end of sentence's own logarithm (R, 1).
        """

    def reorder(self, rows: Ints) -> None:
        """Continue row i from the state of row `rows[i]`; `rows` (R,) must stay within each sentence."""

    def keep(self, sentences: Ints) -> None:
        """Drop all sentences but those at the given indices (their rows stay together)."""


class ArrayEngine(Protocol):
    """An engine that reads and writes arrays on the CPU, such as ONNX Runtime's graphs."""

    @property
    def threads(self) -> int: ...

    def start(self, source: Ints, beam: int) -> ArrayState:
        """Encode (N, S) for decoding with N * beam rows."""


def best_continuations(values: Floats, words: Ints, scores: Floats) -> tuple[Floats, Ints, Ints]:
    """(R, C), (R, C), (N, beam) -> total log-probability, token and beam, each (N, 2 * beam), best first."""
    sentences, beam = scores.shape
    totals = (values.reshape(sentences, beam, -1) + scores[:, :, None]).reshape(sentences, -1)
    order = np.argsort(-totals, axis=1, kind="stable")[:, : 2 * beam]
    beams = order // words.shape[1]
    if sentences > 1:
        order += np.arange(0, totals.size, totals.shape[1])[:, None]
    return totals.take(order), words.take(order), beams


def going_on(found: tuple[Floats, Ints, Ints], beam: int, ends: NDArray[np.bool_]) -> tuple[Floats, Ints, Ints]:
    """Return the best `beam` continuations that are no `ends`, (N, 2 * beam): totals, tokens, beams, each (N, beam)."""
    totals, words, beams = found
    if not ends[:, :beam].any():
        return totals[:, :beam], words[:, :beam], beams[:, :beam]
    order = np.argsort(ends, axis=1, kind="stable")[:, :beam]
    order += np.arange(0, words.size, words.shape[1])[:, None]
    return totals.take(order), words.take(order), beams.take(order)


def beam_search(
    graphs: ArrayEngine,
    source: Ints,
    *,
    beam: int,
    length_penalty: float,
    max_length: int | Sequence[int],
    pad: int,
    eos: int,
) -> list[list[int]]:
    """Translate (N, S) source tokens; return the best hypothesis of each sentence, without its end of sentence.

    `max_length` is the most tokens of each sentence's translation, or of all.
    """
    if not len(source):
        return []
    state, sentences = graphs.start(source, beam), len(source)
    limits = [int(most) for most in np.broadcast_to(np.asarray(max_length, np.int64), sentences)]
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in limits]
    still, first_rows = list(range(sentences)), np.arange(0, sentences * beam, beam)[:, None]
    scores: Floats = np.full((sentences, beam), -np.inf, "f4")
    scores[:, 0] = 0.0  # at first all beams are alike: only one may speak
    tokens: Ints = np.full(sentences * beam, eos)
    steps: list[tuple[list[int], list[int]]] = []
    soonest = min(limits)
    for position in range(max(limits) + 1):
        values, words, ending = state.best(tokens, 2 * beam + _RULED_OUT)
        if position >= soonest:
            _only_ends(values, words, ending, np.repeat([limits[one] == position for one in still], beam), eos)
        ruled_out = (words == pad) | (words == eos) if position == 0 else words == pad
        np.putmask(values, ruled_out, -np.inf)
        found = best_continuations(values, words, scores)
        ends = found[1] == eos
        kept = None
        if ends[:, :beam].any() or position >= soonest:
            for index, rank in np.argwhere(ends[:, :beam] & np.isfinite(found[0][:, :beam])).tolist():
                hypotheses = finished[still[index]]
                if len(hypotheses) < beam:
                    score = float(found[0][index, rank]) / (position + 1) ** length_penalty
                    hypotheses.append((score, _chain(steps, index * beam + int(found[2][index, rank]))))
            going = [len(finished[one]) < beam and position < limits[one] for one in still]
            if not any(going):
                break
            if sum(going) <= _WORTH_DROPPING * len(still):
                kept = np.flatnonzero(going)
        scores, tokens, beams = going_on(found, beam, ends)
        if kept is not None:
            scores, tokens, beams = scores[kept], tokens[kept], beams[kept]
            still = [still[index] for index in kept.tolist()]
            parents = first_rows[kept] + beams
            state.keep(kept)
            first_rows = first_rows[: len(still)]
            rows = first_rows + beams
        else:
            parents = rows = first_rows + beams
        tokens = tokens.ravel()
        if beam > 1:
            state.reorder(rows.ravel())
        steps.append((tokens.tolist(), parents.ravel().tolist()))
    return [max(hypotheses, key=lambda each: each[0])[1] for hypotheses in finished]


def _only_ends(values: Floats, words: Ints, ending: Floats, late: NDArray[np.bool_], eos: int) -> None:
    """Let nothing but the end follow the `late` rows (R,); probabilities stay as they are, as in fairseq."""
    values[late] = -np.inf
    values[late, :1], words[late, 0] = ending[late], eos


def _chain(steps: list[tuple[list[int], list[int]]], row: int) -> list[int]:
    """Return the tokens of a row after some steps, each the tokens and the rows that they follow."""
    chain = []
    for tokens, parents in reversed(steps):
        chain.append(tokens[row])
        row = parents[row]
    return chain[::-1]

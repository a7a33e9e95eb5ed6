"""Beam search with all rules, and sampling, over any engine that finds the best words to follow. Needs numpy.

B sentences, R = B * beam rows (a sentence's rows stand together), C words that may follow a row, T tokens so far,
S source tokens.

The semantics are those of `model/beam.py`: a hypothesis ends its sentence's search when `beam` are finished, an end
counts among the first `beam` of 2 * beam continuations, and a word that is ruled out leaves the others' probabilities
as they are. Every sentence has bounds of its own, so that its translation does not depend on what stands beside it.

Decisions
- An engine is asked for as many best words as rules can touch, and not for all: that is exact, and as fast.
- Draws come from a generator of the sentence's own, seeded by its tokens: its neighbours do not change them.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hat_ray.model.hypotheses.found import Found, Task, coverage
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.model.hypotheses.rules import Rules, best_of_rows, drawn_words

WORTH_DROPPING = 0.7
"""Finished sentences are dropped once no more than this share is unfinished: dropping copies the whole cache."""

_Floats = NDArray[np.float32]
_Ints = NDArray[np.int64]


class Steps(Protocol):
    """A batch of sources that an engine has encoded, with `beam` rows for each."""

    def best(self, tokens: _Ints, count: int) -> tuple[_Floats, _Ints, _Floats]:
        """Feed one token a row, (R,); return the best words to follow, as many as there are, `count` at most.

        Log-probabilities (R, C), best first, the caller's to change; the words; that of the end of sentence (R, 1).
        """

    def reorder(self, rows: _Ints) -> None:
        """Continue row i from the state of row `rows[i]`; `rows` (R,) must stay within each sentence."""

    def keep(self, sentences: _Ints) -> None:
        """Drop all sentences but those at the given indices."""

    def attention(self) -> _Floats:
        """Return the shares (R, S) of the source's tokens in the last step's attention; called where it is wanted."""


class _Rows:
    """What is known of each row: its tokens, their scores, what each attended to, and what all did in sum."""

    def __init__(self, rows: int, task: Task, wanted: Decoding) -> None:
        self.task, self.coverage_penalty = task, wanted.coverage_penalty
        longest = max(map(len, task.sources))
        self.tokens: _Ints = np.zeros((rows, 0), np.int64)
        self.scores: _Floats = np.zeros((rows, 0), np.float32)
        self.attended: _Floats = np.zeros((rows, 0, longest if wanted.alignments else 0), np.float32)
        self.covered: _Floats = np.zeros((rows, longest if wanted.coverage_penalty else 0), np.float32)

    def select(self, rows: _Ints) -> None:
        self.tokens, self.scores = self.tokens[rows], self.scores[rows]
        self.attended, self.covered = self.attended[rows], self.covered[rows]

    def append(self, tokens: _Ints, scores: _Floats, attended: _Floats | None) -> None:
        """Append a token to each row; `attended` (R, S) is what the step that found it attended to, where known."""
        self.tokens = np.concatenate([self.tokens, tokens[:, None]], axis=1)
        self.scores = np.concatenate([self.scores, scores[:, None]], axis=1)
        if attended is not None and self.attended.shape[2]:
            self.attended = np.concatenate([self.attended, attended[:, None]], axis=1)
        if attended is not None and self.coverage_penalty:
            self.covered = self.covered + attended

    def found(self, row: int, ending: float, total: float, sentence: int, attended: _Floats | None) -> Found:
        """Return a row as a hypothesis of a sentence that ends here, with `total` as its log-probability.

        `ending` is that of the end of sentence alone; `attended` (R, S) is what the step that found it attended to.
        """
        scores = (*map(float, self.scores[row]), ending)
        score = total / len(scores) ** self.task.length_penalty
        length = len(self.task.sources[sentence])  # sources are padded in front
        if attended is not None and self.coverage_penalty:
            score += self.coverage_penalty * coverage((self.covered[row] + attended[row])[-length:].tolist())
        places = self.attended[row][:, self.attended.shape[2] - length :]
        pairs = tuple((int(place), index) for index, place in enumerate(places.argmax(1))) if places.size else ()
        return Found(tuple(self.tokens[row].tolist()), score, scores, pairs)


def find(steps: Steps, task: Task, wanted: Decoding, pad: int, eos: int) -> list[list[Found]]:
    """Decode a batch that was started with `rows_of` rows a source; return its hypotheses, best first."""
    found = _draw(steps, task, wanted, pad, eos) if wanted.sampling else _search(steps, task, wanted, pad, eos)
    return [sorted(each, key=lambda one: one.score, reverse=True)[: wanted.n_best] for each in found]


def rows_of(task: Task, wanted: Decoding) -> int:
    """Return the rows that each source needs."""
    return wanted.n_best if wanted.sampling else task.beam


def padded(sources: Sequence[Sequence[int]], pad: int) -> _Ints:
    """Return sources as one array (B, S), padded in front."""
    longest = max(map(len, sources))
    return np.array([[pad] * (longest - len(one)) + list(one) for one in sources], np.int64)


def _search(steps: Steps, task: Task, wanted: Decoding, pad: int, eos: int) -> list[list[Found]]:
    beam, size = task.beam, len(task.sources)
    finished: list[list[Found]] = [[] for _ in range(size)]
    still = np.arange(size)
    rules = Rules(task, wanted, beam, pad, eos)
    rows = _Rows(size * beam, task, wanted)
    scores: _Floats = np.full((size, beam), -np.inf, np.float32)
    scores[:, 0] = 0.0  # at first all beams are alike: only one may speak
    tokens: _Ints = np.full(size * beam, eos)
    for position in range(max(task.most) + 1):
        best = steps.best(tokens, rules.count(position))
        attended = steps.attention() if wanted.needs_attention else None
        values, words, raw = rules.apply(best, rows.tokens, still)
        totals, places = best_of_rows(values, scores, 2 * beam)  # (B, 2 * beam); places within a sentence
        beams = places // values.shape[1]
        words, raw = (np.take_along_axis(each.reshape(len(still), -1), places, 1) for each in (words, raw))
        ends = words == eos
        for index, rank in np.argwhere(ends[:, :beam] & np.isfinite(totals[:, :beam])):
            of_sentence, row = finished[still[index]], int(index * beam + beams[index, rank])
            if len(of_sentence) < beam:
                total, sentence = float(totals[index, rank]), int(still[index])
                of_sentence.append(rows.found(row, float(raw[index, rank]), total, sentence, attended))
        kept = np.array(
            [
                index
                for index, sentence in enumerate(still)
                if len(finished[sentence]) < beam and position < task.most[int(sentence)]
            ],
            np.int64,
        )
        if not len(kept):
            break
        if len(kept) <= WORTH_DROPPING * len(still):
            own = (kept[:, None] * beam + np.arange(beam)).ravel()
            still, totals, words, raw, beams, ends = (each[kept] for each in (still, totals, words, raw, beams, ends))
            rows.select(own)
            attended = None if attended is None else attended[own]
            steps.keep(kept)
        order = np.argsort(ends, axis=1, kind="stable")[:, :beam]
        scores, tokens = np.take_along_axis(totals, order, 1), np.take_along_axis(words, order, 1).ravel()
        origin = (np.arange(len(still))[:, None] * beam + np.take_along_axis(beams, order, 1)).ravel()
        steps.reorder(origin)
        rows.select(origin)
        of_words = np.take_along_axis(raw, order, 1).ravel()
        rows.append(tokens, of_words, None if attended is None else attended[origin])
    return finished


def _draw(steps: Steps, task: Task, wanted: Decoding, pad: int, eos: int) -> list[list[Found]]:
    """Draw `n_best` translations of each source, each by itself."""
    draws, size = wanted.n_best, len(task.sources)
    finished: list[list[Found]] = [[] for _ in range(size)]
    still = np.arange(size)
    generators = [_generator(wanted.seed, source) for source in task.sources]
    rules = Rules(task, wanted, draws, pad, eos)
    rows = _Rows(size * draws, task, wanted)
    running = np.ones((size, draws), bool)
    totals = np.zeros((size, draws))
    tokens: _Ints = np.full(size * draws, eos)
    for position in range(max(task.most) + 1):
        best = steps.best(tokens, rules.count(position))
        attended = steps.attention() if wanted.needs_attention else None
        values, words, raw = rules.apply(best, rows.tokens, still)
        chances = np.concatenate([generators[sentence].random(draws) for sentence in still])
        places = drawn_words(values, chances, wanted.temperature, wanted.top_k)
        own = np.arange(len(values))
        tokens, raw = words[own, places], raw[own, places]
        totals += values[own, places].reshape(totals.shape)
        for index, draw in np.argwhere(running & (tokens.reshape(running.shape) == eos)):
            row, sentence = index * draws + draw, still[index]
            total = float(totals[index, draw])
            finished[sentence].append(rows.found(row, float(raw[row]), total, int(sentence), attended))
            running[index, draw] = False
        kept = np.flatnonzero(running.any(1))
        if not len(kept):
            break
        rows.append(tokens, raw, attended)
        if len(kept) <= WORTH_DROPPING * len(still):
            of_kept = (kept[:, None] * draws + np.arange(draws)).ravel()
            still, running, totals, tokens = still[kept], running[kept], totals[kept], tokens[of_kept]
            rows.select(of_kept)
            steps.keep(kept)
    return finished


def _generator(seed: int | None, source: Sequence[int]) -> Any:
    return np.random.default_rng(None if seed is None else [seed, *source])

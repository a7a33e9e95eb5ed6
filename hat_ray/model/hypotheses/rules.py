"""Which words may follow a row, and at which price. Needs numpy.

B sentences, R rows, C words that may follow a row, T tokens so far.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hat_ray.model.hypotheses.found import Task
from hat_ray.model.hypotheses.knobs import Decoding

_EVERY_WORD = 2**31 - 1


class Rules:
    """The rules of a batch: bounds of lengths, prefixes, repetition."""

    def __init__(self, task: Task, wanted: Decoding, rows: int, pad: int, eos: int) -> None:
        """`rows` are those of one sentence."""
        self.rows, self.pad, self.eos = rows, pad, eos
        self.least, self.most = np.array(task.least), np.array(task.most)
        self.size, self.penalty = wanted.no_repeat_ngram_size, wanted.repetition_penalty
        self.needed = (wanted.top_k or _EVERY_WORD) if wanted.sampling else 2 * rows
        longest = max(map(len, task.prefixes))
        self.prefixes = np.array([[*one, *[-1] * (longest - len(one))] for one in task.prefixes], np.int64)

    def count(self, position: int) -> int:
        """Return how many best words of a row are needed, so that the rules leave enough of them."""
        if position < self.prefixes.shape[1] or self.penalty < 1 or self.needed == _EVERY_WORD:
            return _EVERY_WORD
        lost = 2 + (position if self.size else 0) + (position if self.penalty > 1 else 0)  # 2: padding, an early end
        return self.needed + lost

    def apply(self, best: tuple[Any, Any, Any], history: NDArray[np.int64], still: NDArray[np.int64]) -> Any:
        """Return the values (R, C), the words (R, C), and the model's own values, of the words that may follow.

        `history` (R, T) are the rows' tokens; `still` (B,) are the sentences that they are of.
        """
        values, words, ending = best
        position, sentences = history.shape[1], np.repeat(still, self.rows)
        values, words, raw = np.array(values), np.array(words), np.array(values)
        if self.penalty != 1:
            own = np.repeat(np.arange(len(history)), position)
            values[_marked(words, own, history.ravel())] *= np.float32(self.penalty)
        early, late = position < self.least[sentences], position >= self.most[sentences]
        values[(words == self.pad) | (words == self.eos) & early[:, None]] = -np.inf
        if self.size and position >= self.size:
            values[_repeats_a_run(words, history, self.size)] = -np.inf
        if position < self.prefixes.shape[1]:
            self._force(values, words, raw, self.prefixes[sentences, position])
        ended = late | ~np.isfinite(values).any(1)  # a row that nothing may follow ends
        values[ended] = -np.inf
        values[ended, 0], raw[ended, 0], words[ended, 0] = ending[ended, 0], ending[ended, 0], self.eos
        return values, words, raw

    def _force(self, values: Any, words: Any, raw: Any, forced: NDArray[np.int64]) -> None:
        """Let nothing follow but the prefix; a word that no short-list holds has the price of the last one."""
        own = np.flatnonzero(forced >= 0)
        there = words[own] == forced[own, None]
        places = np.where(there.any(1), there.argmax(1), words.shape[1] - 1)
        prices = raw[own, places]
        prices[~np.isfinite(prices)] = np.float32(-100)
        values[own] = -np.inf
        values[own, places], raw[own, places], words[own, places] = prices, prices, forced[own]


def _repeats_a_run(words: NDArray[np.int64], history: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Report (R, C) which words would end a run of `size` tokens that stands in the history already."""
    runs = np.lib.stride_tricks.sliding_window_view(history, size, axis=1)  # (R, T - size + 1, size)
    last = history[:, history.shape[1] - size + 1 :]
    begun = (runs[:, :, :-1] == last[:, None, :]).all(2)
    rows, places = np.nonzero(begun)
    return _marked(words, rows, runs[rows, places, -1])


def _marked(words: NDArray[np.int64], rows: NDArray[np.intp], marked: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Report (R, C) which words are among those that are marked in their rows, by pairs of row and word."""
    size = int(max(words.max(initial=0), marked.max(initial=0))) + 1
    flags = np.zeros((len(words), size), bool)
    flags[rows, marked] = True
    found: NDArray[np.bool_] = np.take_along_axis(flags, words, 1)
    return found


def best_of_rows(values: Any, scores: Any, count: int) -> tuple[Any, Any]:
    """(R, C), (B, beam) -> the best totals of each sentence and their places, each (B, count), best first."""
    sentences, beam = scores.shape
    totals = (values.reshape(sentences, beam, -1) + scores[:, :, None]).reshape(sentences, -1)
    order = np.argsort(-totals, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(totals, order, 1), order


def drawn_words(values: Any, chances: Any, temperature: float, top_k: int) -> Any:
    """(R, C), (R,) from 0 to 1 -> the places of the words that are drawn."""
    if top_k and top_k < values.shape[1]:
        worst = -np.sort(-values, axis=1, kind="stable")[:, top_k - 1 : top_k]
        values = np.where(values >= worst, values, -np.inf)
    shares = np.exp((values - values.max(1, keepdims=True)).astype(np.float64) / temperature)
    sums = np.cumsum(shares, axis=1)
    places = (sums <= chances[:, None] * sums[:, -1:]).sum(1)
    return np.minimum(places, values.shape[1] - 1)

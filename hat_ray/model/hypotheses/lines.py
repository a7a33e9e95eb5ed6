"""Lines of text to their hypotheses: in batches of like length inside, in the given order outside. Needs no library."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from hat_ray.model.hypotheses.found import Found, Hypothesis, Task
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.model.hypotheses.loops import RETRY_SIZES, is_loop

log = logging.getLogger(__name__)

TokenT = TypeVar("TokenT")


Numbers = int | Sequence[int]
"""The numbers by which messages name lines: the first one's, the others follow; or each one's."""


class TooLongError(ValueError):
    """A prefix is longer than a translation can be."""


class Side(Protocol):
    """The vocabulary of a side."""

    def encode(self, line: str) -> list[int]:
        """Return the tokens of a line with the end of sentence."""

    def decode(self, tokens: Sequence[int]) -> str: ...

    def pieces(self) -> list[str]: ...


Find = Callable[[Task, Decoding], list[list[Found]]]
"""What decodes a batch: the hypotheses of each source, best first."""


@dataclass(frozen=True)
class LineSearch:
    """A model's way from lines to hypotheses, as a request wants it."""

    source: Side
    target: Side
    search: Mapping[str, float]
    """Settings of the model's beam search, those of the request among them, by the names of `EvaluateConfig`."""
    max_positions: int
    """Longest sentence in tokens that the model takes."""
    find: Find
    wanted: Decoding
    first: Numbers = 1

    @property
    def longest(self) -> int:
        """The most tokens of a source, its end of sentence among them."""
        return min(int(self.search["max_source_length"]), self.max_positions)

    def lines(
        self, lines: Sequence[str], is_blank: Callable[[str], bool], done: Callable[[int], None] = lambda _: None
    ) -> list[list[Hypothesis]]:
        """Return the hypotheses of every line, in order; an empty line has one, which is empty.

        A source that is too long is cut, and a warning names it. Raises TooLongError for such a prefix.
        """
        sources = {row: self.source.encode(line) for row, line in enumerate(lines) if not is_blank(line)}
        found = self.tokens(cut_overlong(sources, self.longest, self.first), done)
        pieces = self.target.pieces()
        nothing = [Hypothesis("", 0.0)]
        return [
            [self._hypothesis(one, pieces) for one in found[row]] if row in found else nothing
            for row in range(len(lines))
        ]

    def tokens(
        self, sources: Mapping[int, list[int]], done: Callable[[int], None] = lambda _: None
    ) -> dict[int, list[Found]]:
        """Return the hypotheses of sources, which end with the end of sentence, by their rows."""
        found = self._rows(sources, self.wanted, done)
        return self.without_loops(sources, found) if self.wanted.retry_loops else found

    def without_loops(self, sources: Mapping[int, list[int]], found: dict[int, list[Found]]) -> dict[int, list[Found]]:
        """Decode rows anew whose best hypothesis ends in a loop, until it does not or all trials were made."""
        for size in RETRY_SIZES:
            looped = {
                row: sources[row] for row, each in found.items() if each and is_loop(each[0].tokens, sources[row])
            }
            if not looped:
                break
            found = {**found, **self._rows(looped, replace(self.wanted, no_repeat_ngram_size=size))}
        return found

    def _rows(
        self, sources: Mapping[int, list[int]], wanted: Decoding, done: Callable[[int], None] = lambda _: None
    ) -> dict[int, list[Found]]:
        found: dict[int, list[Found]] = {}
        prefixes = {row: self._prefix(wanted, row) for row in sources}
        for rows in plan_batches({row: len(one) for row, one in sources.items()}, int(self.search["batch_tokens"])):
            task = self._task([sources[row] for row in rows], [prefixes[row] for row in rows])
            found.update(zip(rows, self.find(task, wanted), strict=True))
            done(len(found))
        return found

    def _prefix(self, wanted: Decoding, row: int) -> list[int]:
        text, most = wanted.prefix_of(row), self.max_positions - 1
        tokens = self.target.encode(text)[:-1] if text.strip() else []
        if len(tokens) > most:
            raise TooLongError(
                f"the prefix of line {number_of(self.first, row)} has {len(tokens)} tokens, but the model's "
                f"translations have at most {most}: shorten it"
            )
        return tokens

    def _task(self, sources: list[list[int]], begun: list[list[int]]) -> Task:
        factor, extra = self.search["max_length_factor"], self.search["max_length_extra"]
        last = self.max_positions - 1
        most = [
            min(int(factor * len(source) + extra) + len(prefix), last)
            for source, prefix in zip(sources, begun, strict=True)
        ]
        least = [
            max(1, min(int(self.wanted.min_length_factor * len(source)), limit))
            for source, limit in zip(sources, most, strict=True)
        ]
        return Task(sources, begun, least, most, int(self.search["beam"]), float(self.search["length_penalty"]))

    def tokens_of(self, line: str) -> list[int]:
        """Return the tokens of a line, `longest` at most."""
        return _cut(self.source.encode(line), self.longest)

    def _hypothesis(self, found: Found, pieces: Sequence[str]) -> Hypothesis:
        text = " ".join(self.target.decode(found.tokens).split("\n")).strip()
        words = tuple(pieces[token] for token in found.tokens)
        return Hypothesis(text, found.score, words, found.token_scores, found.alignment)


def number_of(first: Numbers, row: int) -> int:
    """Return the number by which messages name the line in a row."""
    return first + row if isinstance(first, int) else first[row]


def cut_overlong(sources: Mapping[int, list[TokenT]], longest: int, first: Numbers = 1) -> dict[int, list[TokenT]]:
    """Cut sources to `longest` tokens; the end of sentence stays, and one warning names what was cut.

    Sources stand by their rows.
    """
    overlong = [row for row, tokens in sources.items() if len(tokens) > longest]
    if overlong:
        log.warning(
            "%d of %d lines are longer than %d tokens and were cut (first: line %d of %d tokens); "
            "split them, or raise evaluate.max_source_length",
            *(len(overlong), len(sources), longest, number_of(first, overlong[0]), len(sources[overlong[0]])),
        )
    return {row: _cut(tokens, longest) for row, tokens in sources.items()}


def _cut(tokens: list[TokenT], longest: int) -> list[TokenT]:
    return tokens if len(tokens) <= longest else [*tokens[: longest - 1], tokens[-1]]


def plan_batches(lengths: Mapping[int, int], batch_tokens: int) -> Iterator[list[int]]:
    """Group rows of like length, longest first, so that rows * longest stays within `batch_tokens` (one row at least).

    Longest first: a batch that does not fit into memory fails at once and not at the end.
    """
    batch: list[int] = []
    for row in sorted(lengths, key=lambda row: (-lengths[row], row)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch

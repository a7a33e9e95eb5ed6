"""The training text as numbered chunks, read again and again and never held: what every pass over it sees alike.

A chunk is `CHUNK_PAIRS` consecutive pairs of one pair of files (its last may be shorter). Chunks are numbered over all
files, and pairs are numbered over all files; both numbers are the same in every pass and on every machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hat_ray.corpus.config import TextPart
from hat_ray.corpus.text.files import ParallelText, read_pairs

CHUNK_PAIRS = 10_000
"""Pairs that are read and encoded at once."""
_GOLDEN = (5**0.5 - 1) / 2


class PairSource(Protocol):
    """Parallel text in one or several parts; pickles, so that another process may read it."""

    @property
    def num_parts(self) -> int:
        """Number of parts, which may be read side by side."""

    @property
    def uses(self) -> tuple["PartUse", ...]:
        """How each part is trained on; empty: as it is."""

    def names(self, part: int) -> tuple[str, str]:
        """Return the paths of a part's two files; empty of text in memory."""

    def chunks(self, part: int) -> Iterator[ParallelText]:
        """Yield a part in chunks of `CHUNK_PAIRS` pairs, from its beginning."""


@dataclass(frozen=True)
class PartUse:
    """How the pairs of a part are trained on."""

    weight: float = 1.0
    """Times in an epoch."""
    tag: str = ""
    """Word before each source sentence."""

    def times(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how often the pair of each row is there; multiples of the golden ratio spread a fraction evenly."""
        whole = int(self.weight)
        return whole + ((rows + 1) * _GOLDEN % 1 < self.weight - whole).astype(np.int64)

    def applied(self, text: ParallelText, rows: NDArray[np.int64]) -> ParallelText:
        """Return pairs, whose numbers are given, as they are trained on."""
        if self.weight != 1:
            chosen = np.repeat(np.arange(len(text)), self.times(rows)).tolist()
            text = ParallelText([text.source[row] for row in chosen], [text.target[row] for row in chosen])
        return ParallelText([f"{self.tag} {line}" for line in text.source], text.target) if self.tag else text


@dataclass(frozen=True)
class PairedFiles:
    """Pairs of text files."""

    source: tuple[TextPart, ...]
    target: tuple[TextPart, ...]
    nfc: bool = False
    chunk_pairs: int = CHUNK_PAIRS

    @property
    def num_parts(self) -> int:
        return len(self.source)

    @property
    def uses(self) -> tuple[PartUse, ...]:
        return tuple(PartUse(part.weight, part.tag) for part in self.source)

    def names(self, part: int) -> tuple[str, str]:
        return self.source[part].path, self.target[part].path

    def chunks(self, part: int) -> Iterator[ParallelText]:
        return read_pairs(self.source[part], self.target[part], self.chunk_pairs, nfc=self.nfc)


@dataclass(frozen=True)
class PairedLines:
    """Pairs in memory."""

    text: ParallelText
    chunk_pairs: int = CHUNK_PAIRS
    num_parts = 1
    uses: tuple[PartUse, ...] = ()

    def names(self, part: int) -> tuple[str, str]:
        return "", ""

    def chunks(self, part: int) -> Iterator[ParallelText]:
        for first in range(0, len(self.text), self.chunk_pairs):
            rows = slice(first, first + self.chunk_pairs)
            yield ParallelText(self.text.source[rows], self.text.target[rows])


@dataclass(frozen=True)
class Chunk:
    """Consecutive pairs with their place in the corpus."""

    number: int
    first_row: int
    text: ParallelText


@dataclass(frozen=True)
class Start:
    """The beginning of a part: numbers of its first chunk and of its first pair."""

    chunk: int
    row: int


@dataclass(frozen=True, eq=False)
class TrainingText:
    """The pairs to train on: a source without the rows that a survey left out. Pickles."""

    source: PairSource
    starts: tuple[Start, ...]
    """Of each part, and the end of the last."""
    left_out: NDArray[np.uint8]
    """One bit a row, set where the pair is not for training."""

    @property
    def num_chunks(self) -> int:
        return self.starts[-1].chunk

    @property
    def num_rows(self) -> int:
        """Pairs of the source, those left out included."""
        return self.starts[-1].row

    def chunks(self, part: int, first_chunk: int = 0) -> Iterator[Chunk]:
        """Yield a part's chunks from number `first_chunk` on, each without the pairs that are left out."""
        if self.starts[part + 1].chunk <= first_chunk:
            return
        for chunk in number_chunks(self.source, part, self.starts[part]):
            if chunk.number >= first_chunk:
                yield Chunk(chunk.number, chunk.first_row, self._kept(chunk, self._use(part)))

    def all_chunks(self, first_chunk: int = 0) -> Iterator[Chunk]:
        """Yield the chunks of all parts in order."""
        for part in range(self.source.num_parts):
            yield from self.chunks(part, first_chunk)

    @property
    def pairs(self) -> int:
        """Pairs to train on, each as often as it is there."""
        ends = pairwise(self.starts)
        return sum(int(self._use(part).times(self._rows(a.row, b.row)).sum()) for part, (a, b) in enumerate(ends))

    @property
    def kept_rows(self) -> int:
        """Pairs to train on, each once."""
        return len(self._rows(0, self.num_rows))

    def _use(self, part: int) -> PartUse:
        return self.source.uses[part] if self.source.uses else PartUse()

    def _rows(self, first: int, end: int) -> NDArray[np.int64]:
        """Return the numbers of the rows from `first` to `end` that are not left out."""
        bits = np.unpackbits(self.left_out[first // 8 : (end + 7) // 8])[first % 8 :][: end - first]
        return first + np.flatnonzero(bits == 0)

    def _kept(self, chunk: Chunk, use: PartUse) -> ParallelText:
        text, first = chunk.text, chunk.first_row
        rows = self._rows(first, first + len(text))
        if len(rows) < len(text):
            places = (rows - first).tolist()
            text = ParallelText([text.source[place] for place in places], [text.target[place] for place in places])
        return use.applied(text, rows)


def number_chunks(source: PairSource, part: int, start: Start) -> Iterator[Chunk]:
    """Yield all pairs of a part that begins at `start`."""
    row = start.row
    for number, text in enumerate(source.chunks(part), start.chunk):
        yield Chunk(number, row, text)
        row += len(text)

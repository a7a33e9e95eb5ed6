"""Token tables: parallel sentences as token ids, flat in memory, Arrow on disk.

Columns: `source` and `target` are list<int32>, each row ends in EOS; validation and test also hold the raw lines as
`source_text` and `target_text`.

Decision: a training table lies over memory-mapped shards (`ShardedSentences`). A worker then owns nothing that grows
with the corpus but the plan of an epoch (4 bytes a pair), and the workers of one node share the system's page cache.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hat_ray.errors import CorpusError

_ROWS_PER_CHUNK = 1_000_000  # keeps the int32 offsets of Arrow lists far from their limit

Integers = NDArray[np.signedinteger[Any]]


class SentenceStore(Protocol):
    """Sentences of unlike length, by number."""

    def __len__(self) -> int:
        """Return the number of sentences."""

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        """Return one sentence's tokens."""

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of every sentence, EOS included; a new array at each call."""

    def lengths_of(self, indices: Integers) -> NDArray[np.int32]:
        """Return the tokens of the chosen sentences, EOS included."""

    def gather(self, indices: Integers) -> NDArray[np.int32]:
        """Return the tokens of the chosen sentences, one after another."""


@dataclass(frozen=True, eq=False)
class Sentences:
    """Sentences in one flat array: sentence `i` is `values[offsets[i]:offsets[i + 1]]`."""

    values: NDArray[np.int32]
    offsets: Integers

    @classmethod
    def of(cls, sentences: Iterable[Sequence[int]]) -> "Sentences":
        kept = list(sentences)
        lengths = np.fromiter(map(len, kept), dtype=np.int64, count=len(kept))
        values = np.fromiter(chain.from_iterable(kept), dtype=np.int32, count=int(lengths.sum()))
        return cls.of_lengths(values, lengths)

    @classmethod
    def of_lengths(cls, values: NDArray[np.int32], lengths: Integers) -> "Sentences":
        """Cut a flat array into sentences of the given lengths."""
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(values, offsets)

    @classmethod
    def joined(cls, parts: Sequence["Sentences"]) -> "Sentences":
        """Put the parts one after another."""
        if not parts:
            return cls.of([])
        values = np.concatenate([part.values[part.offsets[0] : part.offsets[-1]] for part in parts])
        return cls.of_lengths(values, np.concatenate([part.lengths for part in parts]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> NDArray[np.int32]:
        return np.diff(self.offsets).astype(np.int32)

    def lengths_of(self, indices: Integers) -> NDArray[np.int32]:
        lengths: NDArray[np.int32] = (self.offsets[indices + 1] - self.offsets[indices]).astype(np.int32)
        return lengths

    def gather(self, indices: Integers) -> NDArray[np.int32]:
        lengths = self.lengths_of(indices)
        starts_within = np.cumsum(lengths) - lengths
        positions = np.arange(int(lengths.sum())) + np.repeat(self.offsets[indices] - starts_within, lengths)
        tokens: NDArray[np.int32] = self.values[positions]
        return tokens


class ShardedSentences:
    """Sentences in several flat arrays, which may lie in memory-mapped files; holds nothing else that grows."""

    def __init__(self, shards: Sequence[Sentences]) -> None:
        self._shards = list(shards)
        self._firsts = np.cumsum([0, *(len(shard) for shard in shards)])  # number of each shard's first sentence

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        if not 0 <= index < len(self):
            raise IndexError(f"sentence {index} of {len(self)}")
        shard = int(np.searchsorted(self._firsts, index, side="right")) - 1
        return self._shards[shard][index - int(self._firsts[shard])]

    @property
    def lengths(self) -> NDArray[np.int32]:
        return np.concatenate([np.empty(0, np.int32), *(shard.lengths for shard in self._shards)])

    def lengths_of(self, indices: Integers) -> NDArray[np.int32]:
        return np.fromiter(map(len, self._pick(indices)), dtype=np.int32, count=len(indices))

    def gather(self, indices: Integers) -> NDArray[np.int32]:
        return np.concatenate([np.empty(0, np.int32), *self._pick(indices)])

    def _pick(self, indices: Integers) -> list[NDArray[np.int32]]:
        shards = np.searchsorted(self._firsts, indices, side="right") - 1
        rows = indices - self._firsts[shards]
        return [self._shards[shard][row] for shard, row in zip(shards.tolist(), rows.tolist(), strict=True)]


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Pairs of sentences as tokens; validation and test also keep the lines that they came from."""

    source: SentenceStore
    target: SentenceStore
    source_text: tuple[str, ...] | None = None
    target_text: tuple[str, ...] | None = None

    @classmethod
    def of(cls, pairs: Iterable[tuple[Sequence[int], Sequence[int]]]) -> "TokenTable":
        """Make a table of pairs in memory, each sentence ending in EOS."""
        kept = list(pairs)
        return cls(Sentences.of([source for source, _ in kept]), Sentences.of([target for _, target in kept]))

    def __len__(self) -> int:
        return len(self.source)

    def sentence(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return one pair's source and target tokens, both ending in EOS."""
        return self.source[index], self.target[index]

    @property
    def longest_sides(self) -> NDArray[np.int32]:
        """Tokens of each pair's longer side; a new array at each call."""
        return np.maximum(self.source.lengths, self.target.lengths)

    def select(self, indices: Integers) -> "TokenTable":
        """Return the chosen pairs in the order given, in memory."""
        texts = [None if text is None else tuple(text[i] for i in indices) for text in self._texts()]
        return TokenTable(_select(self.source, indices), _select(self.target, indices), *texts)

    def to_arrow(self) -> pa.Table:
        columns = {"source": _to_arrow(self.source), "target": _to_arrow(self.target)}
        for name, text in zip(("source_text", "target_text"), self._texts(), strict=True):
            if text is not None:
                columns[name] = pa.array(text, type=pa.string())
        return pa.table(columns)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> "TokenTable":
        """Read a table into memory."""
        if not {"source", "target"} <= set(table.column_names):
            raise CorpusError(
                f"a token table needs the columns source and target, got {table.column_names}: prepare again"
            )
        names = [name for name in ("source_text", "target_text") if name in table.column_names]
        texts = {name: tuple(table.column(name).to_pylist()) for name in names}
        source, target = (Sentences.joined(arrow_sentences(table.column(name))) for name in ("source", "target"))
        return cls(source, target, **texts)

    def _texts(self) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
        return self.source_text, self.target_text


def arrow_sentences(column: pa.ChunkedArray) -> list[Sentences]:
    """Return a list<int32> column's chunks as sentences over the column's own memory."""
    return [
        Sentences(chunk.values.to_numpy(zero_copy_only=True), chunk.offsets.to_numpy(zero_copy_only=True))
        for chunk in column.chunks
    ]


def _select(sentences: SentenceStore, indices: Integers) -> Sentences:
    return Sentences.of_lengths(sentences.gather(indices), sentences.lengths_of(indices))


def _to_arrow(sentences: SentenceStore) -> pa.ChunkedArray:
    chunks = []
    for first in range(0, len(sentences), _ROWS_PER_CHUNK):
        values, offsets = _rows(sentences, first, min(first + _ROWS_PER_CHUNK, len(sentences)))
        if offsets[-1] > np.iinfo(np.int32).max:
            raise CorpusError("a shard holds more than two thousand million tokens: lower corpus.max_length")
        chunks.append(pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values)))
    return pa.chunked_array(chunks, type=pa.list_(pa.int32()))


def _rows(sentences: SentenceStore, first: int, last: int) -> tuple[NDArray[np.int32], Integers]:
    """Return consecutive sentences' tokens and where each begins among them; a flat table's without copying tokens."""
    if isinstance(sentences, Sentences):
        offsets = sentences.offsets[first : last + 1]
        return sentences.values[offsets[0] : offsets[-1]], offsets - offsets[0]
    part = _select(sentences, np.arange(first, last))
    return part.values, part.offsets

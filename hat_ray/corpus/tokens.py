"""Token tables: parallel sentences as token ids, flat in memory and Parquet on disk.

Columns: `source` and `target` are list<int32>, each row ends in EOS; validation and test also hold the raw lines as
`source_text` and `target_text`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hat_ray.errors import CorpusError

_ROWS_PER_CHUNK = 1_000_000  # keeps the int32 offsets of Arrow lists far from their limit


@dataclass(frozen=True, eq=False)
class Sentences:
    """Sentences of unlike length in one flat array: sentence `i` is `values[offsets[i]:offsets[i + 1]]`."""

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, sentences: Iterable[Sequence[int]]) -> "Sentences":
        arrays = [np.asarray(sentence, dtype=np.int32) for sentence in sentences]
        offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
        np.cumsum([len(array) for array in arrays], out=offsets[1:])
        return cls(np.concatenate(arrays) if arrays else np.empty(0, np.int32), offsets)

    @classmethod
    def joined(cls, parts: Sequence["Sentences"]) -> "Sentences":
        """Put the parts one after another."""
        if not parts:
            return cls.of([])
        lengths = np.concatenate([part.lengths for part in parts])
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(np.concatenate([part.values for part in parts]), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sentence, EOS included."""
        lengths: NDArray[np.int64] = np.diff(self.offsets)
        return lengths

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the tokens of the chosen sentences, one after another."""
        lengths = self.lengths[indices]
        starts_within = np.cumsum(lengths) - lengths
        positions = np.arange(int(lengths.sum())) + np.repeat(self.offsets[indices] - starts_within, lengths)
        tokens: NDArray[np.int32] = self.values[positions]
        return tokens

    def select(self, indices: NDArray[np.int64]) -> "Sentences":
        """Return the chosen sentences in the order given."""
        offsets = np.zeros(len(indices) + 1, dtype=np.int64)
        np.cumsum(self.lengths[indices], out=offsets[1:])
        return Sentences(self.gather(indices), offsets)

    def to_arrow(self) -> pa.ChunkedArray:
        chunks = []
        for first in range(0, len(self), _ROWS_PER_CHUNK):
            offsets = self.offsets[first : first + _ROWS_PER_CHUNK + 1]
            values = self.values[offsets[0] : offsets[-1]]
            chunks.append(pa.ListArray.from_arrays(pa.array((offsets - offsets[0]).astype(np.int32)), pa.array(values)))
        return pa.chunked_array(chunks, type=pa.list_(pa.int32()))

    @classmethod
    def from_arrow(cls, column: pa.ChunkedArray) -> "Sentences":
        parts = []
        for chunk in column.chunks:
            offsets = chunk.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
            parts.append(cls(chunk.flatten().to_numpy(zero_copy_only=False), offsets - offsets[0]))
        return cls.joined(parts)


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Pairs of sentences as tokens; validation and test also keep the lines that they came from."""

    source: Sentences
    target: Sentences
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
    def longest_sides(self) -> NDArray[np.int64]:
        """Tokens of each pair's longer side."""
        return np.maximum(self.source.lengths, self.target.lengths)

    def select(self, indices: NDArray[np.int64]) -> "TokenTable":
        """Return the chosen pairs in the order given."""
        texts = [None if text is None else tuple(text[i] for i in indices) for text in self._texts()]
        return TokenTable(self.source.select(indices), self.target.select(indices), *texts)

    def to_arrow(self) -> pa.Table:
        columns = {"source": self.source.to_arrow(), "target": self.target.to_arrow()}
        for name, text in zip(("source_text", "target_text"), self._texts(), strict=True):
            if text is not None:
                columns[name] = pa.array(text, type=pa.string())
        return pa.table(columns)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> "TokenTable":
        if not {"source", "target"} <= set(table.column_names):
            raise CorpusError(
                f"a token table needs the columns source and target, got {table.column_names}: prepare again"
            )
        names = [name for name in ("source_text", "target_text") if name in table.column_names]
        texts = {name: tuple(table.column(name).to_pylist()) for name in names}
        return cls(Sentences.from_arrow(table["source"]), Sentences.from_arrow(table["target"]), **texts)

    def _texts(self) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
        return self.source_text, self.target_text

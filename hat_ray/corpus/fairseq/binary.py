"""One side of a split of fairseq's `data-bin`: sentences as token ids, memory-mapped or read from text.

Formats, recognised by their content: `.idx` and `.bin` of `--dataset-impl mmap`, of the older `cached` and `lazy`,
and `raw`, which is text. Legend: N sentences, T tokens.

Decisions
- Each claim of an index is compared with the sizes of both files before memory is taken: a cut, damaged or
  foreign file is refused.
- fairseq writes sentences one after another. An index whose places are others is refused, so a side is one flat array.
- A file of the other byte order is refused by name: fairseq writes the order of the machine, and only little-endian
  machines are left.
- The older format holds each id plus one, for Lua.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hat_ray.corpus.config import TextPart
from hat_ray.corpus.fairseq.dictionary import EOS_ID, UNK_ID, FairseqDictionary
from hat_ray.corpus.text.files import read_lines
from hat_ray.corpus.tokens import Sentences
from hat_ray.errors import CorpusError
from hat_ray.storage.plain_file import open_plain

_MMAP_MAGIC, _CACHED_MAGIC, _HUFFMAN_MAGIC = b"MMIDIDX\x00\x00", b"TNTIDX\x00\x00", b"HUFFIDX\x00\x00"
_MMAP_HEAD, _CACHED_HEAD = struct.Struct("<9sQBQ"), struct.Struct("<8sQQQQQ")
_WHOLE_NUMBERS = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2", 9: "<u4", 10: "<u8"}
"""fairseq's codes of NumPy types; 6 and 7 are fractions, which no token is."""
_REMAKE = "copy the data-bin again, or make it anew with fairseq-preprocess"


class TokenSide(Protocol):
    """The sentences of one language of a split."""

    def __len__(self) -> int:
        """Return the number of sentences."""

    def chunks(self, size: int) -> Iterator[Sentences]:
        """Yield the sentences in order, `size` at once, each ending in EOS."""


@dataclass(frozen=True, eq=False)
class BinarySide:
    """A `.bin` file, mapped."""

    path: str
    dictionary: FairseqDictionary
    offsets: NDArray[np.int64]
    """(N + 1,): where each sentence begins, in tokens, and the end of the last."""
    tokens: NDArray[np.integer[Any]]
    """(T,), as the file has them."""
    shift: int
    """What the file adds to an id."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def chunks(self, size: int) -> Iterator[Sentences]:
        for first in range(0, len(self), size):
            offsets = self.offsets[first : first + size + 1]
            stored = self.tokens[offsets[0] : offsets[-1]]
            if len(stored):
                self._require_known(int(stored.min()) - self.shift, int(stored.max()) - self.shift)
            values = stored.astype(np.int32) - np.int32(self.shift)
            self._require_ends(values, offsets - offsets[0], first)
            yield Sentences(values, offsets - offsets[0])

    def _require_known(self, lowest: int, highest: int) -> None:
        if lowest < 0 or highest >= len(self.dictionary):
            raise CorpusError(
                f"{self.path}: ids must be from 0 to {len(self.dictionary) - 1}, the dictionary's last, got "
                f"{lowest if lowest < 0 else highest}: it was made with another dictionary"
            )

    def _require_ends(self, values: NDArray[np.int32], offsets: NDArray[np.int64], first: int) -> None:
        lengths = np.diff(offsets)
        wrong = np.flatnonzero(lengths == 0)
        if not len(wrong):
            wrong = np.flatnonzero(values[offsets[1:] - 1] != EOS_ID)
        if len(wrong):
            raise CorpusError(
                f"{self.path}: every sentence must end in </s> (id {EOS_ID}), number {first + int(wrong[0]) + 1} does "
                "not: make it with fairseq-preprocess --append-eos, or with another dictionary"
            )


@dataclass(frozen=True, eq=False)
class RawSide:
    """A text file whose words are symbols, as `--dataset-impl raw` copies it."""

    path: str
    dictionary: FairseqDictionary
    count: int

    def __len__(self) -> int:
        return self.count

    def chunks(self, size: int) -> Iterator[Sentences]:
        ids, lines = self.dictionary.ids, read_lines(TextPart(path=self.path, form="lines"))
        while group := list(islice(lines, size)):
            yield Sentences.of([*(ids.get(word, UNK_ID) for word in line.split()), EOS_ID] for line in group)


def open_side(stem: Path, dictionary: FairseqDictionary) -> BinarySide | RawSide | None:
    """Open `<stem>.idx` with `<stem>.bin`, or the text file `<stem>`; None where neither is there."""
    index = Path(f"{stem}.idx")
    if os.path.lexists(index):
        return _open_binary(index, Path(f"{stem}.bin"), dictionary)
    if os.path.isfile(stem):
        return RawSide(str(stem), dictionary, sum(1 for _ in read_lines(TextPart(path=str(stem), form="lines"))))
    return None


def _open_binary(index: Path, data: Path, dictionary: FairseqDictionary) -> BinarySide:
    with open_plain(index, "index", CorpusError) as file, open_plain(data, "data", CorpusError) as tokens:
        sizes = os.fstat(file.fileno()).st_size, os.fstat(tokens.fileno()).st_size
        magic = file.peek(len(_MMAP_MAGIC))[: len(_MMAP_MAGIC)]
        if magic == _MMAP_MAGIC:
            layout = _mmap_layout(file, sizes, index, data)
        elif magic[: len(_CACHED_MAGIC)] == _CACHED_MAGIC:
            layout = _cached_layout(file, sizes, index, data)
        elif magic == _HUFFMAN_MAGIC:
            raise CorpusError(f"{index} has the format huffman, which is not read: make it with --dataset-impl mmap")
        else:
            raise CorpusError(f"{index} is no index of fairseq's formats mmap, cached and lazy: {_REMAKE}")
        offsets, kind, shift = layout
        values = np.memmap(tokens, dtype=kind, mode="r") if sizes[1] else np.empty(0, dtype=kind)
    return BinarySide(str(data), dictionary, offsets, values, shift)


Layout = tuple[NDArray[np.int64], "np.dtype[Any]", int]


def _mmap_layout(file: BufferedReader, sizes: tuple[int, int], index: Path, data: Path) -> Layout:
    """Read an index of the format mmap: sizes of N sentences (int32), then their places in bytes (int64)."""
    _, version, code, count = _head(_MMAP_HEAD, file, index)
    kind = _kind(code, version, index)
    _require_size(index, sizes[0], _MMAP_HEAD.size + 12 * count)
    lengths = np.frombuffer(file.read(4 * count), dtype="<i4")
    places = np.frombuffer(file.read(8 * count), dtype="<i8")
    offsets = _offsets(lengths, index)
    if not np.array_equal(places, offsets[:-1] * kind.itemsize):
        raise CorpusError(f"{index} must place sentences one after another: {_REMAKE}")
    _require_size(data, sizes[1], int(offsets[-1]) * kind.itemsize)
    return offsets, kind, 0


def _cached_layout(file: BufferedReader, sizes: tuple[int, int], index: Path, data: Path) -> Layout:
    """Read an index of the formats cached and lazy: N + 1 places of sizes, N + 1 places of tokens, N sizes (int64)."""
    _, version, code, item_bytes, count, dimensions = _head(_CACHED_HEAD, file, index)
    kind = _kind(code, version, index)
    if dimensions != count or item_bytes != kind.itemsize:
        raise CorpusError(
            f"{index} must have one size a sentence and {kind.itemsize} bytes a token, got {dimensions} sizes of "
            f"{count} sentences and {item_bytes} bytes: {_REMAKE}"
        )
    _require_size(index, sizes[0], _CACHED_HEAD.size + 8 * (3 * count + 2))
    numbers, places, lengths = (np.frombuffer(file.read(8 * n), dtype="<i8") for n in (count + 1, count + 1, count))
    offsets = _offsets(lengths, index)
    if not (np.array_equal(places, offsets) and np.array_equal(numbers, np.arange(count + 1))):
        raise CorpusError(f"{index} must place sentences one after another: {_REMAKE}")
    _require_size(data, sizes[1], int(offsets[-1]) * kind.itemsize)
    return offsets, kind, 1


def _head(head: struct.Struct, file: BufferedReader, index: Path) -> tuple[Any, ...]:
    content = file.read(head.size)
    if len(content) < head.size:
        raise CorpusError(f"{index} is cut: its head has {head.size} bytes, the file {len(content)}: {_REMAKE}")
    return head.unpack(content)


def _kind(code: int, version: int, index: Path) -> "np.dtype[Any]":
    if version == 1 << 56:
        raise CorpusError(f"{index} was written on a big-endian machine: make it anew on a little-endian one")
    if version != 1:
        raise CorpusError(f"{index} has version {version} of its format, only 1 is read: {_REMAKE}")
    if code not in _WHOLE_NUMBERS:
        raise CorpusError(f"{index} must hold whole numbers, got fairseq's type {code}: {_REMAKE}")
    return np.dtype(_WHOLE_NUMBERS[code])


def _require_size(path: Path, found: int, claimed: int) -> None:
    if found != claimed:
        state = "cut" if found < claimed else "damaged"
        raise CorpusError(f"{path} must have {claimed} bytes by its index, it has {found}: it is {state}; {_REMAKE}")


def _offsets(lengths: NDArray[Any], index: Path) -> NDArray[np.int64]:
    """Return the beginnings of sentences; raises CorpusError for a negative size, or sizes whose sum has no 63 bits."""
    if len(lengths) and (lengths.min() < 0 or float(lengths.sum(dtype=np.float64)) > 1 << 60):
        raise CorpusError(f"{index} holds sizes that no sentence has: {_REMAKE}")
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets

"""Writes what fairseq-preprocess writes: dictionaries, `.bin` with `.idx` in both formats, raw text."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

CODES = {"u1": 1, "i1": 2, "<i2": 3, "<i4": 4, "<i8": 5, "<u2": 8, "<u4": 9, "<u8": 10}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def write_mmap(stem: Path, sentences: Sequence[Sequence[int]], kind: str = "<u2") -> None:
    """Write the format mmap: a head, the sizes, the places in bytes."""
    item = np.dtype(kind).itemsize
    lengths = [len(one) for one in sentences]
    places = [sum(lengths[:number]) * item for number in range(len(lengths))]
    head = b"MMIDIDX\0\0" + struct.pack("<QBQ", 1, CODES[kind], len(lengths))
    Path(f"{stem}.idx").write_bytes(head + np.array(lengths, "<i4").tobytes() + np.array(places, "<i8").tobytes())
    Path(f"{stem}.bin").write_bytes(np.array([token for one in sentences for token in one], kind).tobytes())


def write_cached(stem: Path, sentences: Sequence[Sequence[int]], kind: str = "<i4") -> None:
    """Write the formats cached and lazy: each id plus one."""
    lengths = [len(one) for one in sentences]
    places = [sum(lengths[:number]) for number in range(len(lengths) + 1)]
    head = b"TNTIDX\0\0" + struct.pack("<QQQQQ", 1, CODES[kind], np.dtype(kind).itemsize, len(lengths), len(lengths))
    numbers = (list(range(len(lengths) + 1)), places, lengths)
    Path(f"{stem}.idx").write_bytes(head + b"".join(np.array(one, "<i8").tobytes() for one in numbers))
    Path(f"{stem}.bin").write_bytes(np.array([token + 1 for one in sentences for token in one], kind).tobytes())


def write_dictionary(path: Path, symbols: Sequence[str], counts: Sequence[int] | None = None) -> None:
    counts = counts or range(100 + len(symbols), 100, -1)
    path.write_text("".join(f"{symbol} {count}\n" for symbol, count in zip(symbols, counts, strict=True)))


def encoded(lines: Sequence[str], symbols: Sequence[str]) -> list[list[int]]:
    """Return the ids of lines of symbols, as fairseq numbers them."""
    order = [*SPECIAL, *symbols]
    return [[order.index(word) if word in order else 3 for word in line.split()] + [2] for line in lines]

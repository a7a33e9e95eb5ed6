"""fairseq's dictionaries, read as fairseq reads them.

A line is a symbol, a space and a count; `#fairseq:overwrite` may follow. Four special symbols stand before the first.

Decisions
- Only a line feed ends a line, and only a space parts a symbol from its count: a symbol may hold U+2028 or U+0085.
- An overwriting line adds an entry, and its symbol means that entry from then on. The earlier entry keeps its number,
  and so does `<pad>` of the four special ones: the rows of a model's embedding stay where they are.
- A symbol that stands twice without the flag is refused, as by fairseq since 0.9.
- A byte order mark belongs to the first symbol, as in fairseq.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hat_ray.errors import CorpusError
from hat_ray.storage.plain_file import binary_format, open_plain, printable

SPECIAL_SYMBOLS = ("<s>", "<pad>", "</s>", "<unk>")
"""Symbols of the ids 0 to 3, which no file lists."""
EOS_ID, UNK_ID = 2, 3
MOST_BYTES = 1 << 27
"""Most bytes of a dictionary; one of a million entries has some ten million."""

_OVERWRITE = "#fairseq:overwrite"
_HEAD_BYTES = 1 << 10


@dataclass(frozen=True)
class FairseqDictionary:
    """The symbols of a dictionary by id."""

    symbols: tuple[str, ...]
    """The special ones first."""

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """The id of each symbol; of one with several entries the last."""
        return {symbol: number for number, symbol in enumerate(self.symbols)}


def read_dictionary(path: str | Path) -> FairseqDictionary:
    """Read a dictionary; raises CorpusError for a file that fairseq refuses."""
    symbols = list(SPECIAL_SYMBOLS)
    lines_of = dict.fromkeys(symbols, 0)
    for number, line in enumerate(_lines(path), 1):
        symbol, overwrites = _entry(line, path, number)
        if symbol in lines_of and not overwrites:
            earlier = f"line {lines_of[symbol]}" if lines_of[symbol] else "fairseq's special symbols"
            raise CorpusError(
                f"dictionary {path} line {number}: each symbol must stand once, {printable(symbol)!r} stands in "
                f"{earlier} already: name the dictionary that the model was trained with, or add {_OVERWRITE}"
            )
        lines_of[symbol] = number
        symbols.append(symbol)
    return FairseqDictionary(tuple(symbols))


def _lines(path: str | Path) -> list[str]:
    with open_plain(path, "dictionary", CorpusError) as file:
        content = file.read(MOST_BYTES + 1)
    if kind := binary_format(content[:_HEAD_BYTES]):
        raise CorpusError(f"dictionary {path} is {kind}, no text: name fairseq's dict.LANGUAGE.txt")
    if len(content) > MOST_BYTES:
        raise CorpusError(f"dictionary {path} has more than {MOST_BYTES} bytes, the most that is read: name another")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"dictionary {path} line {line}: the byte 0x{content[error.start]:02x} is not UTF-8: name another file"
        ) from error
    return text.removesuffix("\n").split("\n") if text else []


def _entry(line: str, path: str | Path, number: int) -> tuple[str, bool]:
    """Return a line's symbol, and whether it overwrites an earlier one."""
    parts = line.rstrip().rsplit(" ", 1)
    overwrites = parts[-1] == _OVERWRITE
    if overwrites:
        parts = parts[0].rsplit(" ", 1)
    try:
        symbol, count = parts
        int(count)  # fairseq refuses any other; it also writes 0 and -1
        return symbol, overwrites
    except ValueError as error:
        raise CorpusError(
            f"dictionary {path} line {number} must be a symbol, a space and a count, got {printable(line)!r}: "
            "name fairseq's dict.LANGUAGE.txt"
        ) from error

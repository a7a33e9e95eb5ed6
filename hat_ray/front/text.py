"""Bytes to lines, and lines to text that a model can read. Needs nothing of hat-ray: exports hold a copy.

Decisions
- Only a line feed ends a line, with carriage returns before it or none. Unicode's other separators, and a carriage
  return alone, occur inside sentences: ending lines at them would give more lines out than in.
- Text is UTF-8. Bytes that are not are refused by line and byte, after the lines before them came out: what another
  encoding holds in their place cannot be known.
- Controls and separators are blanks, and the byte order mark is nothing, wherever it stands: files that are put
  together keep theirs. The joiners without a width stay: Persian, Indic scripts and emoji are written with them.
"""

import re
from collections.abc import Iterator
from typing import Protocol

_READ_BYTES = 1 << 16
_ORDER_MARK = b"\xef\xbb\xbf"
_SEPARATORS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class ByteStream(Protocol):
    """Such as `sys.stdin.buffer`."""

    def read1(self, size: int, /) -> bytes:
        """Return the bytes that are ready, `size` at most; wait for the first."""


class EncodingError(ValueError):
    """Bytes are no UTF-8."""


def cleaned(text: str) -> str:
    """Return text as one line, without controls, separators, order marks, and blanks at its ends.

    >>> cleaned("\\ufeffa\\0b\\u2028c\\r ")
    'a b c'
    """
    return _SEPARATORS.sub(" ", text).replace("\ufeff", "").strip()


def read_lines(stream: ByteStream, most: int) -> Iterator[list[str]]:
    """Yield lines as they come, `most` at once, as they are but for their ends; raise EncodingError."""
    number = 0
    for lines in _whole_lines(stream):
        for start in range(0, len(lines), most):
            yield from _decoded(lines[start : start + most], number + start)
        number += len(lines)


def _whole_lines(stream: ByteStream) -> Iterator[list[bytes]]:
    """Yield the lines that each read completes; the last one may lack its line feed."""
    begun: list[bytes] = []
    while block := stream.read1(_READ_BYTES):
        first, *others = block.split(b"\n")
        begun.append(first)
        if others:
            yield [b"".join(begun), *others[:-1]]
            begun = [others[-1]]
    if last := b"".join(begun):
        yield [last]


def _decoded(lines: list[bytes], before: int) -> Iterator[list[str]]:
    texts: list[str] = []
    for number, line in enumerate(lines, before + 1):
        content = line.removeprefix(_ORDER_MARK) if number == 1 else line
        try:
            texts.append(content.decode("utf-8").rstrip("\r"))
        except UnicodeDecodeError as error:
            if texts:
                yield texts
            byte = content[error.start]
            raise EncodingError(
                f"stdin must be UTF-8, got byte {byte:#x} in line {number}: convert it, for instance with iconv"
            ) from error
    yield texts

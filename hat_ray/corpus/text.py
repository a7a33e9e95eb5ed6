"""Text files, plain or gzip, as lists of lines.

Decisions
- A file is known as gzip by its first bytes, whatever its name.
- Only a line feed ends a line (a carriage return before it is dropped): Unicode's other separators occur inside
  sentences, and splitting at them would shift one side of a parallel text.
"""

import gzip
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hat_ray.errors import CorpusError

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class ParallelText:
    """Sentences and their translations, line by line; both lists have the same length."""

    source: Sequence[str]
    target: Sequence[str]

    def __len__(self) -> int:
        return len(self.source)


def read_content(path: str) -> bytes:
    """Return a text file's bytes, unpacked when it is gzip."""
    place = Path(path).expanduser()
    try:
        content = place.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content
    except FileNotFoundError as error:
        raise CorpusError(f"text file {path} does not exist: check its path (looked at {place.absolute()})") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(f"text file {path} is damaged gzip ({error}): fetch or pack it again") from error
    except OSError as error:
        raise CorpusError(f"text file {path} cannot be read ({error.strerror}): name a readable file") from error


def split_lines(content: bytes, name: str, *, nfc: bool = False) -> list[str]:
    """Return the lines of UTF-8 text, stripped at both ends; `name` is the file that errors tell of."""
    try:
        text = content.decode("utf-8").removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"text must be UTF-8, but {name} line {line} holds the byte 0x{content[error.start]:02x}: "
            "convert the file, for instance with iconv"
        ) from error
    if not text.strip():
        raise CorpusError(f"text file {name} is empty: give a file with one sentence a line")
    if nfc:
        text = unicodedata.normalize("NFC", text)
    return [line.strip() for line in text.removesuffix("\n").split("\n")]


def pair_lines(source: list[str], target: list[str], source_name: str, target_name: str) -> ParallelText:
    """Join two sides line by line; refuse sides of different length."""
    if len(source) != len(target):
        raise CorpusError(
            f"parallel files must have equally many lines, but {source_name} has {len(source)} and {target_name} has "
            f"{len(target)}: align them line by line"
        )
    return ParallelText(source, target)


def read_parallel(source_path: str, target_path: str, *, nfc: bool = False) -> ParallelText:
    """Read two parallel text files."""
    source = split_lines(read_content(source_path), source_path, nfc=nfc)
    target = split_lines(read_content(target_path), target_path, nfc=nfc)
    return pair_lines(source, target, source_path, target_path)

"""Text files, plain or packed, line by line; nothing is held whole.

Decisions
- A packed file is known by its first bytes, whatever its name (`packed.py`).
- Only a line feed ends a line (a carriage return before it is dropped): Unicode's other separators occur inside
  sentences, and splitting at them would shift one side of a parallel text.

Sentences out of the files that translation tasks publish: talk tags, segments, columns.

Decisions
- IWSLT's training files carry lines about a talk between its sentences. Titles and descriptions are translated and
  stay, as in HAT; addresses, keywords and names go.
- Differs from HAT: entities such as &amp; become characters. HAT leaves that to its tokeniser; here text is raw.
"""

import codecs
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from xml.sax.saxutils import unescape

from hat_ray.corpus.config import TextPart
from hat_ray.corpus.text.packed import DAMAGE, HEAD_BYTES, packing, unpacked
from hat_ray.errors import CorpusError, HatRayError, in_one_line
from hat_ray.storage.plain_file import binary_format, open_plain

_SEGMENT = re.compile(r"<seg\b[^>]*>(.*?)</seg>", re.IGNORECASE)
_SEGMENT_START = re.compile(r"<seg\b", re.IGNORECASE)
_ABOUT_A_TALK = re.compile(
    r"\s*</?(url|keywords|talkid|speaker|reviewer|translator|doc|transcript)\b[^>]*>", re.IGNORECASE
)
_TITLE_TAGS = re.compile(r"</?(title|description)\b[^>]*>", re.IGNORECASE)
_ENTITIES = {"&quot;": '"', "&apos;": "'"}


def sentences_of(lines: Sequence[str], part: TextPart) -> list[str]:
    """Return the sentences that lines of a file hold, stripped."""
    if part.column:
        lines = [_column(line, part.column) for line in lines]
    form = part.resolved_form
    if form == "segments":
        return [sentence for line in lines for sentence in _segments(line, part.path)]
    if form == "tags":
        return [
            unescape(_TITLE_TAGS.sub("", line).strip(), _ENTITIES) for line in lines if not _ABOUT_A_TALK.match(line)
        ]
    return [line.strip() for line in lines]


def _column(line: str, column: int) -> str:
    """Return a tab-separated column; a line that lacks it gives an empty sentence, whose pair is dropped."""
    cells = line.split("\t", column)
    return cells[column - 1] if len(cells) >= column else ""


def _segments(line: str, path: str) -> list[str]:
    found = _SEGMENT.findall(line)
    if len(found) != len(_SEGMENT_START.findall(line)):
        raise CorpusError(f"a <seg> of {path} does not end on its line: {line.strip()[:60]!r}; put each on one line")
    return [unescape(sentence.strip(), _ENTITIES) for sentence in found]


MOST_EXPANSION = 300
"""Times its size that a packed file may unpack to, once that is more than a GiB."""

_BYTE_ORDER_MARK = "\ufeff"
_BLOCK_BYTES = 1 << 20
_HEAD_BYTES = 1 << 10
_UNPACKED_BYTES = 1 << 30
_LONGEST_LINE_BYTES = 1 << 26


@dataclass(frozen=True)
class ParallelText:
    """Sentences and their translations, line by line; both lists have the same length."""

    source: Sequence[str]
    target: Sequence[str]

    def __len__(self) -> int:
        return len(self.source)


def read_pairs(source: TextPart, target: TextPart, pairs: int, *, nfc: bool = False) -> Iterator[ParallelText]:
    """Yield two parallel files in chunks of `pairs` lines; raises CorpusError when one has more lines."""
    sources, targets = read_lines(source, nfc=nfc), read_lines(target, nfc=nfc)
    counts = [0, 0]
    while True:
        chunk = ParallelText(list(islice(sources, pairs)), list(islice(targets, pairs)))
        counts[0] += len(chunk.source)
        counts[1] += len(chunk.target)
        if len(chunk.source) != len(chunk.target):
            counts = [counts[0] + sum(1 for _ in sources), counts[1] + sum(1 for _ in targets)]
            raise CorpusError(
                f"parallel files must have equally many lines, but {source.path} has {counts[0]} and {target.path} "
                f"has {counts[1]}: align them line by line"
            )
        if not len(chunk):
            return
        yield chunk


def read_lines(part: TextPart, *, nfc: bool = False) -> Iterator[str]:
    """Yield the sentences of a UTF-8 text file, stripped at both ends."""
    number, blank, found, widest, says = 0, True, 0, 0, False
    for group in _whole_lines(part.path):
        text = _decode(group, number, part.path)
        blank = blank and not text.strip()
        lines = (unicodedata.normalize("NFC", text) if nfc else text).removesuffix("\n").split("\n")
        number += len(lines)
        sentences = sentences_of(lines, part)
        found += len(sentences)
        if part.column and not says:
            says, widest = any(sentences), max(widest, *(line.count("\t") + 1 for line in lines))
        yield from sentences
    if blank:
        raise CorpusError(f"text file {part.path} is empty: give a file with one sentence a line")
    if part.column and not says:
        raise CorpusError(
            f"text file {part.path} has no text in column {part.column}: its lines have {widest} columns at most, "
            "which tabs separate; set the `column` that it has"
        )
    if not found:
        raise CorpusError(f"text file {part.path} holds no {part.resolved_form}: set the `form` that it has")


def read_blocks(path: str) -> Iterator[bytes]:
    """Yield a file's bytes in blocks, unpacked where it is packed; raises CorpusError unless it is a text file."""
    try:
        with open_plain(path, "text file", CorpusError) as file:
            kind, total = packing(file.peek(HEAD_BYTES)), 0
            with unpacked(file) as stream:
                while block := stream.read(_BLOCK_BYTES):
                    if not total:
                        _require_text(block[:_HEAD_BYTES], path)
                    total += len(block)
                    if kind and total > max(_UNPACKED_BYTES, MOST_EXPANSION * file.tell()):
                        raise CorpusError(
                            f"text file {path} unpacks to more than {MOST_EXPANSION} times its size, which no text "
                            "does: unpack it yourself if you trust it"
                        )
                    yield block
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and (error.errno is not None or isinstance(error, HatRayError)):
            raise
        raise CorpusError(
            f"text file {path} is damaged {kind} ({in_one_line(error)}): fetch or pack it again"
        ) from error


def _require_text(head: bytes, path: str) -> None:
    """Raise CorpusError for a file that begins like another kind of file."""
    if kind := binary_format(head):
        raise CorpusError(f"text file {path} is {kind}, no text: name a file with one sentence a line")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CorpusError(
            f"text must be UTF-8, but {path} line 1 begins with the mark of UTF-16: convert the file, for instance "
            "with iconv"
        )


def _whole_lines(path: str) -> Iterator[bytes]:
    """Yield a file's bytes cut after line feeds; only the last piece may lack one."""
    rest = b""
    for block in read_blocks(path):
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
            rest = block[end:]
        else:
            rest += block
        if len(rest) > _LONGEST_LINE_BYTES:
            raise CorpusError(
                f"text file {path} holds a line of more than {_LONGEST_LINE_BYTES} bytes: give one sentence a line"
            )
    if rest:
        yield rest


def _decode(content: bytes, lines_before: int, path: str) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = lines_before + content.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"text must be UTF-8, but {path} line {line} holds the byte 0x{content[error.start]:02x}: "
            "convert the file, for instance with iconv"
        ) from error
    return text if lines_before else text.removeprefix(_BYTE_ORDER_MARK)

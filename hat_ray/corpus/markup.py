"""Sentences out of the files that translation tasks publish: talk tags, segments, columns.

Decisions
- IWSLT's training files carry lines about a talk between its sentences. Titles and descriptions are translated and
  stay, as in HAT; addresses, keywords and names go.
- Differs from HAT: entities such as &amp; become characters. HAT leaves that to its tokeniser; here text is raw.
"""

import re
from collections.abc import Sequence
from xml.sax.saxutils import unescape

from hat_ray.corpus.config import TextPart
from hat_ray.errors import CorpusError

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

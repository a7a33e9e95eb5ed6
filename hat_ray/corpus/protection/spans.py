"""Find the parts of a sentence that a translation must not change. Needs no library: exports hold a copy of this file.

Decisions
- Patterns, from left to right; where several begin at one place, the first of `PATTERNS` that fits has it. Nothing is
  learned, so that a user can read what is protected.
- A number of one digit without a unit is a word: it decides singular or plural, and is often spelled out. Numbers of
  more digits, and all with a unit, stay as they are written; decimal commas are not converted.
- A number that letters follow is a word as well: `20th`, `80s`.
- Scripts without blanks, and Korean with its particles, write a word right before or behind an address, a placeholder
  or a number with a unit: such a letter is an edge. Inside an address it stands only behind a slash and
  the like; behind a Latin letter, a digit or a closing bracket it ends the address.
- Each repetition has a bound and begins at an edge, so that the time grows with a line's length alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

SYMBOLS = tuple(f"\u27e6{number}\u27e7" for number in range(1, 9))
"""What stands in the place of a protected part: one entry each of a vocabulary that learned to copy them."""
RULES_VERSION = 2
"""Rises with every change of symbols, patterns or practice: training text that teaches them is then prepared again."""


@dataclass(frozen=True)
class Span:
    """A part of a line."""

    start: int
    end: int
    kind: str


_DENSE = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003134f"
)
"""Letters that stand right beside an address: Thai, Lao, Burmese, Khmer, Chinese, Japanese, Korean."""
_LETTER = rf"[^\W{_DENSE}]"
_BEGINS, _ENDS_HERE = rf"(?<!{_LETTER})", rf"(?!{_LETTER})"
_WIDE_STOPS = "\u3001\u3002\u3008-\u3011\u3014-\u301f\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f\uff5e-\uff64"
_POWERS = "\u5341\u767e\u5343\u4e07\u842c\u4ebf\u5104\u5146\ub9cc\uc5b5\ucc9c"
"""Words of numbers, such as ten thousand: digits right behind them belong to the same number."""
_IN_ADDRESS = rf"(?:[^\s<>\"\u201c\u201d\u00ab\u00bb`{_WIDE_STOPS}{_DENSE}]|(?<![A-Za-z0-9)\]])[{_DENSE}])"
_DOMAIN = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}"
_ENDINGS = "com|org|net|edu|gov|info|io|dev|app|ai|eu|uk|de|at|ch|fr|it|es|nl|pl|jp|cn"
_TAG_NAME = r"[A-Za-z_][\w:.-]{0,40}"
_VALUE = r"(?:\"[^\"<>\n]{0,300}\"|'[^'<>\n]{0,300}'|[^\s\"'<>=]{1,300})"
_FLAGS = r"[#0+\-]{0,4}\d{0,4}(?:\.\d{1,4})?(?:hh?|ll?|[Lqjzt])?[diouxXeEfFgGcrsa@](?![A-Za-z])"
_DIGITS = r"\d{1,20}(?:(?:[.,:/'\u2019-]|[ \u00a0\u202f](?=\d{2,8}(?!\w)))\d{1,20}){0,20}"
_UNITS = (
    "%|\u2030|\u00b0 ?[CFK]?|km/h|m/s|[kMG]bit/s|[kcmn\u00b5\u03bc]?m[\u00b2\u00b32-3]?|mph|"
    "[km\u00b5]?g|lbs?|oz|ft|yd|mi|[mcd]?l|h|min|sec|ms|(?<= )s|[kMGT]?Hz|[kMG]?Wh?|[kMGT]i?[Bb]|[km]?V|mA|mAh|k?J|"
    "kcal|cal|px|pt|dpi|fps|rpm|bar|hPa|[$\u20ac\u00a3\u00a5\u20b9]|USD|EUR|GBP|CHF|JPY|CNY"
)
_PICTURE = (
    "[\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2b00-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001f1e5"
    "\U0001f200-\U0001faff]"
)
_DRESS = "[\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]{0,8}"

PATTERNS = {
    "symbol": "|".join(map(re.escape, SYMBOLS)),
    "code": rf"{_BEGINS}(?:``[^`\n]{{1,300}}``|`[^`\n]{{1,300}}`)",
    "url": rf"{_BEGINS}(?<!@)(?:(?:https?|s?ftp|file|ssh|git|wss?)://|www\.(?=\w)){_IN_ADDRESS}{{1,2000}}"
    rf"|{_BEGINS}(?<![@.-])(?:mailto|tel):{_IN_ADDRESS}{{1,300}}",
    "e-mail": rf"{_BEGINS}(?<![.+-])(?:{_LETTER}|[.+-]){{1,64}}@{_DOMAIN}[A-Za-z]{{2,24}}{_ENDS_HERE}(?!-)",
    "domain": rf"{_BEGINS}(?<![@.-]){_DOMAIN}(?:{_ENDINGS}){_ENDS_HERE}(?!-)(?!\.{_LETTER})"
    rf"(?:/{_IN_ADDRESS}{{0,2000}})?",
    "mark-up": rf"</?{_TAG_NAME}(?:\s{{1,8}}{_TAG_NAME}(?:\s?=\s?{_VALUE})?){{0,20}}\s{{0,8}}/?>|<!--.{{0,300}}?-->"
    r"|&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]\w{1,30});",
    "placeholder": r"\{\{[^{}\n]{0,80}\}\}|[$#%]?\{[^{}\n]{0,80}\}|\[\[[^\[\]\n]{1,80}\]\]"
    rf"|%\([\w.]{{1,40}}\){_FLAGS}|%\d{{1,2}}\${_FLAGS}|%{_FLAGS}|%[A-Za-z_]\w{{1,40}}%|\$[A-Za-z_]{_LETTER}{{0,40}}",
    "number": rf"(?<![\w.,])[+\-\u2212\u00b1]?[$\u20ac\u00a3\u00a5\u20b9] ?{_DIGITS}(?!\w)"
    rf"|{_BEGINS}(?<![.,{_POWERS}])[+\-\u2212\u00b1]?{_DIGITS}[ \u00a0\u202f]?(?:{_UNITS}){_ENDS_HERE}"
    rf"|(?<![\w.,])[+\-\u2212\u00b1]?(?=\d{{2}}|\d[.,:/'\u2019-]\d){_DIGITS}(?!\w)",
    "emoji": f"[\U0001f1e6-\U0001f1ff]{{2}}|[0-9#*]\ufe0f?\u20e3|{_PICTURE}{_DRESS}(?:\u200d{_PICTURE}{_DRESS}){{0,8}}",
}
"""Patterns of what is protected, by kind."""

_ANY_PART = re.compile("|".join(f"(?P<k{place}>{pattern})" for place, pattern in enumerate(PATTERNS.values())))
_KIND_OF = {f"k{place}": kind for place, kind in enumerate(PATTERNS)}
_LIKELY = re.compile(r"[\d@<>{}%$`&\[#]|//|\w\.\w|[a-z]:\S|[^\x00-\u218f\u3040-\uffff]")
"""What every protected part has; most lines have none of it and are left at once."""
_BRACKETS = {")": "(", "]": "[", "}": "{"}


def find_spans(line: str) -> Iterator[Span]:
    """Yield the parts of a line to be protected, in order; they do not overlap."""
    if not _LIKELY.search(line):
        return
    place = 0
    while (found := _ANY_PART.search(line, place)) is not None:
        kind = _KIND_OF[str(found.lastgroup)]
        start, end = found.span()
        if kind in ("url", "domain"):
            end = start + len(_without_stop(line[start:end]))
        yield Span(start, end, kind)
        place = end


def _without_stop(address: str) -> str:
    """Return an address without the punctuation that belongs to its sentence."""
    while address[-1] in ".,;:!?'\u2019\u2026*_" or (
        address[-1] in _BRACKETS and address.count(address[-1]) > address.count(_BRACKETS[address[-1]])
    ):
        address = address[:-1]
    return address

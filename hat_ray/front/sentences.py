"""Text to sentences, and a sentence that is too long to parts. Needs nothing of hat-ray: exports hold a copy.

Decisions
- The rules are ours. An exported program must split as `hat-ray translate` does, on any machine and in any year, and
  needs no other package than its model does. Of the libraries, pysbd and sentence-splitter have had no release since
  2021 and 2019, sentencex is a native wheel, and each version of one may split another way.
- Where it is doubtful there is no end: two sentences together are translated nearly as well as apart, half a sentence
  is not. What follows must begin like a sentence; abbreviations, initials, ordinals and open brackets end nothing.
- A sentence ends only where a blank follows, but for scripts that write none. URLs and numbers hold no blanks.
- A sentence that is too long parts near its middle, at the best kind of place: end of a sentence, clause, comma, word;
  a word without end parts between letters. Parts of like length are each translated with more around them than a
  long one and a short rest.
- What comes through a translation as it is, a tag such as `<a title="No. Go">` or a term of a glossary such as
  `Yahoo! Japan`, is never parted.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from unicodedata import category, combining, east_asian_width

_CLOSERS = "\"'”’»›)]}」』）】》"
_OPENERS = "\"'“‘”„‚«‹»›¿¡([{「『（【《–—-"
_ENDS = re.compile(f"(?:[.!?…‽⁇⁈⁉؟۔։।॥።]+|[。！？｡]+)[{re.escape(_CLOSERS)}]*(?:[ \u00a0\u202f]»(?=\\s|$))?")
_OF_LETTERS = re.compile(r"(?:[^\W\d_]{1,3}\.)+[^\W\d_]{1,3}")
_ROMAN = re.compile(r"[IVXLCDM]+")
_WORD_CHARACTERS, _NEAR_CHARACTERS = 40, 300
_ORDINAL_DIGITS = 2

_SHORT = """
mr mrs ms messrs dr drs prof st sr jr rev hon gov gen col capt lt sgt cpl maj sen rep pres supt insp vs viz cf al approx
dept est inc ltd co corp jan feb apr jun jul aug sep sept oct nov dec mt ft ave blvd rd
bzw bspw ca vgl evtl ggf inkl exkl sog usw dipl ing fr hr geb gest jh mio mrd std tel hrsg bd allg ehem ev kath urspr
zzgl okt dez mme mlle mgr éd sra srta dra ud uds vd avda pág núm dña sig dott avv egr gent dhr mevr bijv
tzn np tj tzw ul im inż např tzv mj г гг ул им тов проф акад др пр
"""
_SHORT_BEFORE_NUMBERS = """
no nos nr nrn p pp pg s ss vol vols fig figs eq eqs sec sect ch chap art arts abs abb kap tab anm par cap n nº č str стр
рис т
"""
_ABBREVIATIONS, _BEFORE_NUMBERS = frozenset(_SHORT.split()), frozenset(_SHORT_BEFORE_NUMBERS.split())
"""Words whose full stop ends no sentence: whatever follows, and where a number follows."""

_PARTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?<=[;:；：!?…)\]」』”»])\s+|(?<=[；：])|(?<=\.)\s+",
        r"(?<=[,،、，–—])\s+|\s(?=[–—]\s)|(?<=[、，])",
    )
)
_BLANKS = re.compile(r"\s+")
_SAYS = re.compile(r"[^\W_]")
_MOST_SEARCHED = 2_000

Spans = Sequence[tuple[int, int]]
"""Begin and end of parts of a text."""
Whole = Callable[[str], Spans]
"""What finds the parts of a text that must stay whole, in order."""


def _none(_: str) -> Spans:
    return ()


def sentences_of(text: str, whole: Whole = _none) -> list[str]:
    """Return the sentences of a text that is one line, without blanks around them.

    >>> sentences_of("Mr. Smith paid 3.50. He left (quickly!). 好。是吗？")
    ['Mr. Smith paid 3.50.', 'He left (quickly!).', '好。', '是吗？']
    """
    found, begin = [], 0
    ends = list(_ends_of(text))
    spans = whole(text) if ends else ()
    for end in ends:
        if _parts_one(spans, end):
            continue
        found.append(text[begin:end].strip())
        begin = end
    return [*found, text[begin:].strip()]


def parts_of(text: str, fits: Callable[[str], bool], whole: Whole = _none) -> list[tuple[str, bool]]:
    """Return parts of a sentence that all fit, and of each whether it continues a word that the one before began.

    A single letter is never parted.
    """
    parts: list[tuple[str, bool]] = []
    waiting = [(text, False)]
    while waiting:
        part, continues = waiting.pop()
        part = part.strip()
        if len(part) < 2 or fits(part):
            parts.append((part, continues))
            continue
        left, right = _middle(part, whole(part))
        beside = part[left - 1], part[left]
        inside = left == right and all(letter.isalnum() and not is_dense(letter) for letter in beside)
        waiting += [(part[right:], inside), (part[:left], continues)]
    return parts


def is_dense(letter: str) -> bool:
    """Report whether a letter is of a script that writes no blanks between words: Chinese and Japanese."""
    hangul = "\u1100" <= letter <= "\u11ff" or "\uac00" <= letter <= "\ud7af"
    return east_asian_width(letter) in "WF" and category(letter)[0] in "LP" and not hangul


def _ends_of(text: str) -> Iterator[int]:
    """Yield where sentences end, but for the last one."""
    begin, length = 0, len(text)
    for found in _ENDS.finditer(text):
        end = found.end()
        if end == length or not _SAYS.search(text, max(begin, end - _NEAR_CHARACTERS), end):
            continue
        stop = found[0].rstrip(f"{_CLOSERS} \u00a0\u202f")
        if stop[-1] in "。！？｡":
            is_end = len(stop) == end - found.start() or text[end].isspace() or text[end] in "「『“《"
        else:
            is_end = text[end].isspace() and _is_end(text, begin, found.start(), end, stop)
        if is_end and _SAYS.search(text, end, end + _NEAR_CHARACTERS):
            yield end
            begin = end


def _is_end(text: str, begin: int, start: int, end: int, stop: str) -> bool:
    """Report whether the stop at `start`, and what closes after it until `end`, end the sentence from `begin` on."""
    following = text[end : end + _WORD_CHARACTERS].lstrip(_OPENERS + " \t\u00a0\u3000")[:1]
    if not following.isalnum() or following.islower() or _is_bracketed(text, begin, end):
        return False
    if stop != ".":
        return True
    words = text[max(begin, start - _WORD_CHARACTERS) : start].split()
    word = words[-1].lstrip(_OPENERS) if words else ""
    short = word.casefold()
    if following.isdigit() and (short in _BEFORE_NUMBERS or len(word) <= _ORDINAL_DIGITS):
        return False
    if word.isdigit():
        return len(word) > _ORDINAL_DIGITS
    if len(word) == 1 and word.isalpha() and not is_dense(word):
        return False
    return not (short in _ABBREVIATIONS or _ROMAN.fullmatch(word) or _OF_LETTERS.fullmatch(word))


def _is_bracketed(text: str, begin: int, end: int) -> bool:
    """Report whether a bracket is open that closes soon."""
    near = max(begin, end - _NEAR_CHARACTERS)
    return text.count("(", near, end) > text.count(")", near, end) and ")" in text[end : end + _NEAR_CHARACTERS]


def _parts_one(spans: Spans, *places: int) -> bool:
    """Report whether one of some places is within a span."""
    return any(begin < place < end for place in places for begin, end in spans)


def _middle(text: str, spans: Spans) -> tuple[int, int]:
    """Return where a text parts best: the end of the left part, and the start of the right one."""
    if len(text) > 2 * _MOST_SEARCHED:
        before = (len(text) - _MOST_SEARCHED) // 2
        near_spans = [(begin - before, end - before) for begin, end in spans]
        left, right = _middle(text[before : before + _MOST_SEARCHED], near_spans)
        return before + left, before + right
    length, quarter = len(text), max(1, len(text) // 4)
    ends = [(end, end) for end in _ends_of(text)]
    kinds = [ends, *([found.span() for found in kind.finditer(text)] for kind in _PARTS)]
    for places in kinds:
        near = [place for place in places if quarter <= place[0] and place[1] <= length - quarter]
        if near := [place for place in near if not _parts_one(spans, *place)]:
            return _nearest(near, length)
    blanks = [found.span() for found in _BLANKS.finditer(text) if not _parts_one(spans, *found.span())]
    return _nearest(blanks, length) if blanks else _between_letters(text, spans)


def _nearest(places: list[tuple[int, int]], length: int) -> tuple[int, int]:
    return min(places, key=lambda place: abs(place[0] + place[1] - length))


def _between_letters(text: str, spans: Spans) -> tuple[int, int]:
    """Return the middle of a word, but not before a mark or after a joiner that belongs to the letter before."""
    middle = len(text) // 2
    for begin, end in spans:
        if begin < middle < end and (begin > 0 or end < len(text)):
            return (end, end) if end < len(text) else (begin, begin)
    for place in range(middle, min(middle + _WORD_CHARACTERS, len(text))):
        if not (_belongs(text[place]) or text[place - 1] == "\u200d"):
            return place, place
    return middle, middle


def _belongs(letter: str) -> bool:
    skin_tone = "\U0001f3fb" <= letter <= "\U0001f3ff"
    return bool(combining(letter)) or category(letter) in ("Mn", "Mc", "Me") or letter == "\u200d" or skin_tone

"""Put symbols in the place of what a translation must not change, and take them out again.

Needs no library: exports hold a copy of this file.

Decisions
- A protected part becomes one symbol, numbered from left to right. A model copies a symbol far more surely than the
  twenty sub-words of an address, and needs to have seen the symbol, not the address.
- Parts that touch, such as `<b>{name}</b>`, are one. Where a line has more parts than there are symbols, those with
  only punctuation and blanks between them are one; what is still too many stays as it is.
- A symbol's own spelling in the text is protected as well, so that restoring a masked line always gives the line. A
  line with too many of them is not masked at all.
- The translation is checked: each symbol is there once. Of a symbol that comes twice the first stays. One that is
  missing is put back at the place which its neighbours, or its share of the sentence, give it: a value in a doubtful
  place is better than none. Such a repair needs no second decoding, works for every hypothesis, and is counted.
- A blank comes between a symbol and a word that it did not touch before: that word would become a part of an address.
- A line of which nothing but such parts is left needs no model.
"""

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, field

from hat_ray.corpus.protection.spans import SYMBOLS, find_spans
from hat_ray.corpus.protection.terms import Terms, is_word

hints = logging.getLogger(__name__)  # `log` is another module's in an exported program

_SYMBOL = re.compile("|".join(map(re.escape, SYMBOLS)))
_TAG_ENTRY = re.compile(r"<(?!0x|/?s>|pad>|unk>)[^<>\s]+>")
"""An entry of a vocabulary that no text taught: a tag of a corpus, or the mark of a target language."""
_PLACES = {symbol: number for number, symbol in enumerate(SYMBOLS)}
_TAIL = re.compile(r"[^\w\s\u27e7]*\s*$")
_GAP = re.compile(r"(?<=\S) +(?=\S)|(?<=[\u3001\u3002\uff0c\uff0e])")
"""Places where something can be put between words."""


@dataclass(frozen=True)
class Masked:
    """A line whose protected parts are symbols."""

    line: str
    text: str
    """The line with symbols."""
    values: tuple[str, ...] = ()
    """What each symbol stands for, in the order of the symbols."""

    @property
    def needs_no_model(self) -> bool:
        """Whether nothing but protected parts, digits and punctuation is left."""
        return bool(self.values) and not any(letter.isalpha() for letter in _SYMBOL.sub("", self.text))


@dataclass(frozen=True)
class Restored:
    """A translation with the protected parts in it."""

    text: str
    repaired: int = 0
    """Symbols that were missing, or there too often."""


@dataclass(frozen=True)
class _Part:
    start: int
    end: int
    value: str


def mask(line: str, terms: Terms | None = None, marks: Collection[str] = ()) -> Masked:
    """Put symbols in the place of what must not change; `terms` are those of a glossary.

    A line may begin with one of `marks`, words that the model knows as a whole, which then stays.
    """
    begin = max((len(mark) for mark in marks if f"{line} ".startswith(f"{mark} ")), default=0)
    parts = _joined([part for part in _parts_of(line, terms) if part.start >= begin], line, re.compile(""))
    if len(parts) > len(SYMBOLS):
        parts = _joined(parts, line, re.compile(r"[\W_]*"))
    chosen, rest = parts[: len(SYMBOLS)], parts[len(SYMBOLS) :]
    if not chosen or any(_SYMBOL.search(line, part.start, part.end) for part in rest):
        return Masked(line, line)
    text, place = "", 0
    for symbol, part in zip(SYMBOLS, chosen, strict=False):
        text += line[place : part.start] + symbol
        place = part.end
    return Masked(line, text + line[place:], tuple(part.value for part in chosen))


def restore(translation: str, masked: Masked) -> Restored:
    """Put the protected parts of a line into its translation, each once."""
    if not masked.values and _SYMBOL.search(masked.text):
        return Restored(translation)  # too many of them were in the line itself
    kept, surplus = _each_once(translation, len(masked.values))
    missing = [symbol for symbol in SYMBOLS[: len(masked.values)] if symbol not in kept]
    for symbol in missing:
        kept = _put_back(kept, symbol, masked.text)
    text = _SYMBOL.sub(lambda found: masked.values[_PLACES[found[0]]], _apart(kept, masked.text))
    return Restored(text, surplus + len(missing))


@dataclass
class Protection:
    """Protects the sentences of a model that knows the symbols, before and after it translates them, and counts."""

    terms: Terms | None = None
    marks: frozenset[str] = frozenset()
    protected: int = field(default=0, init=False)
    """Sentences with protected parts."""
    repaired: int = field(default=0, init=False)
    """Those of them whose symbols did not all come out once."""

    def whole(self, text: str) -> list[tuple[int, int]]:
        """Return the protected parts of a text, which must not be cut."""
        return [(part.start, part.end) for part in _parts_of(text, self.terms)]

    def before(self, sentence: str) -> tuple[str, Masked]:
        """Return what is to be translated of a sentence, nothing where it needs no model, and what `after` needs."""
        masked = mask(sentence, self.terms, self.marks)
        return "" if masked.needs_no_model else masked.text, masked

    def after(self, translation: str, known: Masked) -> str:
        """Return the translation with the protected parts of its sentence."""
        restored = restore(known.text if known.needs_no_model else translation, known)
        self.protected += bool(known.values)
        self.repaired += bool(restored.repaired)
        return restored.text

    def anew(self, terms: Terms | None = None) -> "Protection":
        """Return it without counts; `terms` come before its own."""
        return Protection(self.terms if terms is None else terms.over(self.terms), self.marks)

    def finish(self) -> None:
        """Log how many sentences were repaired; a warning where one was: its values may stand in a wrong place."""
        if self.protected:
            hints.log(
                logging.WARNING if self.repaired else logging.DEBUG,
                "%d of %d sentences with protected parts (URLs, numbers and the like) were repaired: the model left a "
                "symbol out, or wrote it twice",
                *(self.repaired, self.protected),
            )


@dataclass
class Unprotected:
    """Passes the sentences of a model that knows no symbols as they are; one log line names what is not protected."""

    named: bool = False

    def whole(self, text: str) -> tuple[()]:
        """Return nothing: all may be cut."""
        return ()

    def before(self, sentence: str) -> tuple[str, None]:
        """Return the sentence."""
        if not self.named and (part := next(find_spans(sentence), None)) is not None:
            self.named = True
            hints.info(
                "this model learned no symbols for URLs, numbers, placeholders and the like (corpus.protect): they are "
                "translated as words, such as %r",
                sentence[part.start : part.end][:80],
            )
        return sentence, None

    def after(self, translation: str, known: None) -> str:
        """Return the translation."""
        return translation

    def finish(self) -> None:
        """Log nothing more."""


def protection_for(
    source: Collection[str], target: Collection[str], terms: Terms | None = None
) -> Protection | Unprotected:
    """Return what protects the sentences of a model, by the entries of its vocabularies, where it knows the symbols.

    Raises ValueError, in one line, for a glossary that a model without symbols cannot keep.
    """
    if knows_symbols(set(source), set(target)):
        return Protection(terms, frozenset(piece for piece in source if _TAG_ENTRY.fullmatch(piece)))
    if terms is not None:
        raise ValueError("a glossary needs a model that learned symbols (corpus.protect), and this one knows none")
    return Unprotected()


def knows_symbols(*sides: Collection[str]) -> bool:
    """Report whether the vocabularies of both sides, given by their entries, have the symbols."""
    return all(symbol in side for side in sides for symbol in SYMBOLS)


def _parts_of(line: str, terms: Terms | None) -> list[_Part]:
    """Return the parts to protect, in order: the terms of a glossary, and what the patterns find between them."""
    fixed = [] if terms is None else [_Part(*found) for found in terms.find(line)]
    found = [_Part(span.start, span.end, line[span.start : span.end]) for span in find_spans(line)]
    free = [part for part in found if not any(part.start < one.end and one.start < part.end for one in fixed)]
    return sorted([*fixed, *free], key=lambda part: part.start)


def _joined(parts: list[_Part], line: str, between: re.Pattern[str]) -> list[_Part]:
    """Make one part of neighbours that have only what a pattern takes between them."""
    joined: list[_Part] = []
    for part in parts:
        if joined and between.fullmatch(line, joined[-1].end, part.start):
            last = joined.pop()
            joined.append(_Part(last.start, part.end, last.value + line[last.end : part.start] + part.value))
        else:
            joined.append(part)
    return joined


def _each_once(translation: str, count: int) -> tuple[str, int]:
    """Return a translation with the first of each of `count` symbols alone, and how many others there were."""
    known, seen, surplus = set(SYMBOLS[:count]), set[str](), 0
    text = ""
    for piece in _pieces_of(translation):
        if piece not in _PLACES:
            text = text.rstrip(" ") + piece if piece.startswith(" ") else text + piece  # a symbol left both blanks
        elif piece in known and piece not in seen:
            seen.add(piece)
            text += piece
        else:
            surplus += 1
    if not surplus:
        return text, 0
    again, more = _each_once(text.strip(), count)  # what a symbol stood between may now spell one
    return again, surplus + more


def _pieces_of(text: str) -> list[str]:
    """Cut a text into symbols and what is between them."""
    pieces, place = [], 0
    for found in _SYMBOL.finditer(text):
        pieces += [text[place : found.start()], found[0]]
        place = found.end()
    return [piece for piece in (*pieces, text[place:]) if piece]


def _apart(translation: str, source: str) -> str:
    """Put a blank between a symbol and a word that it touches, unless it touches one on that side in the source.

    A word right behind an address would be a part of it.
    """
    pieces = _pieces_of(translation)
    text = ""
    for place, piece in enumerate(pieces):
        before, after = pieces[place - 1] if place else "", pieces[place + 1] if place + 1 < len(pieces) else ""
        if piece not in _PLACES:
            text += piece
            continue
        ahead, _, behind = source.partition(piece)
        left = before not in _PLACES and _touches(before[-1:]) and not _touches(ahead[-1:])
        right = after not in _PLACES and _touches(after[:1]) and not _touches(behind[:1])
        text += f"{' ' if left else ''}{piece}{' ' if right else ''}"
    return text


def _touches(letter: str) -> bool:
    return bool(letter) and is_word(letter)


def _put_back(translation: str, symbol: str, source: str) -> str:
    """Put a missing symbol into a translation, where its place in the source suggests."""
    before, _, after = source.partition(symbol)
    touches = before[-1:].isalnum(), after[:1].isalnum()
    if not _has_words(before):
        return _spaced("", symbol, translation, touches)
    tail = _TAIL.search(translation)
    begin, end = 0, tail.start() if tail and after.strip() else len(translation)
    if not _has_words(after):
        return _spaced(translation[:end], symbol, translation[end:], touches)
    left = right = ""
    for neighbour in _SYMBOL.findall(before):
        if (place := translation.find(neighbour)) >= begin:
            begin, left = place + len(neighbour), neighbour
    for neighbour in reversed(_SYMBOL.findall(after)):
        if begin <= (place := translation.find(neighbour)) <= end:
            end, right = place, neighbour
    here = len(before) - (before.find(left) + len(left) if left else 0)
    rest = after.find(right) if right else len(after)
    wanted = begin + (end - begin) * here / max(here + rest, 1)
    gaps = [found.start() for found in _GAP.finditer(translation, begin, end)]
    place = min((*gaps, end, *([begin] if left else [])), key=lambda gap: abs(gap - wanted))
    return _spaced(translation[:place], symbol, translation[place:], touches)


def _has_words(text: str) -> bool:
    """Report whether a text has letters, digits or other symbols."""
    return any(letter.isalnum() for letter in text)


def _spaced(before: str, symbol: str, after: str, touches: tuple[bool, bool]) -> str:
    """Join them with a blank between words, but none on a side where the symbol touches a word in the source."""
    left = " " if before and not before[-1].isspace() and not touches[0] else ""
    right = " " if after and (after[0].isalnum() or after[0] == SYMBOLS[0][0]) and not touches[1] else ""
    return f"{before}{left}{symbol}{right}{after}"

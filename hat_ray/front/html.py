"""An HTML document to lines that can be translated, and back. Needs nothing of hat-ray but what it protects.

The life of a document: it is cut into tags and text; the text of a block (a paragraph, a cell) is one line. Tags inside
a line, and the parts of its text that must not change, are one character each of Unicode's private planes, which a
glossary protects. What was translated is escaped, and the characters become what they stand for again.

Decisions
- What is no text is kept letter by letter, and so are scripts, styles, code and what says `translate="no"`.
- Tags are found as HTML's tokenizer does, in time that grows with the length alone. The standard library's parser takes
  minutes for the 200 kB of `<a <a <a` that anybody may send.
- Entities of letters, quotes and of `&`, `<`, `>` are text for the model; all others are kept as they are.
- Tags come out in an order in which they nest: the translation's, or else the source's.
- A line in which a tag is lost all the same is translated again, as the runs of text between its tags.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape, unescape
from itertools import groupby

from hat_ray.corpus.protection.spans import find_spans
from hat_ray.front.text import cleaned

_TAG = re.compile(r"""</?([A-Za-z][^\s/>]*+)(?:[^>=]++|=\s*+"[^"]*+"|=\s*+'[^']*+'|=)*+>""")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_KEEPS = re.compile(r"""\stranslate\s*=\s*["']?no\b|\sclass\s*=\s*(?:"[^"]*|'[^']*|)\bnotranslate\b""", re.IGNORECASE)
_WITHIN_LINES = """
a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark q s samp small span strike strong
sub sup time tt u var wbr
"""
_WITHOUT_END = "area base br col embed hr img input link meta param source track wbr"
_WITHOUT_TAGS = "script style textarea xmp iframe noembed noframes plaintext"
_NOT_TRANSLATED = "code kbd samp var pre svg math template object audio video canvas"
_INLINE, _VOID = frozenset(_WITHIN_LINES.split()), frozenset(_WITHOUT_END.split())
_RAW = frozenset(_WITHOUT_TAGS.split())
_KEPT = _RAW | frozenset(_NOT_TRANSLATED.split())
_FIRST, _LAST = 0xF0000, 0xFFFFD
_AS_TEXT = "&<>\u00a0\"'\u2018\u2019\u201c\u201d\u201e\u201a\u00ab\u00bb\u2039\u203a\u2013\u2014\u2026"


@dataclass(frozen=True)
class _Token:
    raw: str
    kind: str
    """text, open, close, void or other."""
    name: str = ""


@dataclass(frozen=True)
class _Mark:
    """What one private character stands for."""

    raw: str
    kind: str
    name: str


@dataclass
class Line:
    """The text of a block, with a character for each tag in it."""

    text: str = ""
    marks: dict[str, _Mark] = field(default_factory=dict)

    @property
    def runs(self) -> list[str]:
        """Return what stands between its tags and has words."""
        return [run for run in self._runs() if run not in self.marks and _has_words(run)]

    def html(self, translation: str) -> str | None:
        """Return a translation as HTML; None where it has not each tag and each protected part once."""
        here = [letter for letter in translation if letter in self.marks]
        if sorted(here) != sorted(self.marks):
            return None
        tags = [one for one in here if self.marks[one].kind in ("open", "close")]
        ordered = iter(tags if _nests([self.marks[one] for one in tags]) else sorted(tags))
        places = set(tags)
        whole = (next(ordered) if letter in places else letter for letter in translation)
        return "".join(self._written(letter) for letter in whole)

    def html_of_runs(self, translations: Sequence[str]) -> str:
        """Return the translations of its runs as HTML, each with the blanks that the run had around it."""
        found, rest = [], iter(translations)
        for run in self._runs():
            if run in self.marks:
                found.append(self.marks[run].raw)
            elif _has_words(run):
                before, after = run[: len(run) - len(run.lstrip())], run[len(run.rstrip()) :]
                found.append(_escaped(before + next(rest) + after))
            else:
                found.append(_escaped(run))
        return "".join(found)

    def _runs(self) -> list[str]:
        """Return its tags, each as its character, and the texts between them."""
        found: list[str] = []
        for is_tag, letters in groupby(self.text, lambda letter: letter if self._is_tag(letter) else ""):
            if is_tag:
                found.append(is_tag)
            else:
                found.append("".join(self.marks[one].raw if one in self.marks else one for one in letters))
        return found

    def _is_tag(self, letter: str) -> bool:
        return letter in self.marks and self.marks[letter].kind != "part"

    def _written(self, letter: str) -> str:
        mark = self.marks.get(letter)
        if mark is None:
            return _escaped(letter)
        return _escaped(mark.raw) if mark.kind == "part" else mark.raw


class Document:
    """A document as lines to translate, and what stands between them."""

    def __init__(self, text: str) -> None:
        taken = set(text)
        self._free = (letter for letter in map(chr, range(_FIRST, _LAST)) if letter not in taken)
        self._pieces: list[str | Line] = []
        waiting: list[_Token] = []
        for token in _without_kept(_tokens(text)):
            if token.kind == "text" or token.name in _INLINE or (token.kind == "other" and waiting):
                waiting.append(token)
            else:
                self._end_line(waiting)
                self._pieces.append(token.raw)
                waiting = []
        self._end_line(waiting)
        self.lines = [piece for piece in self._pieces if isinstance(piece, Line)]

    def joined(self, translated: Sequence[str]) -> str:
        """Return the document, of its lines as HTML."""
        lines = iter(translated)
        return "".join(piece if isinstance(piece, str) else next(lines) for piece in self._pieces)

    def _end_line(self, tokens: list[_Token]) -> None:
        """Add the tokens of a line, without the blanks and tags around it."""
        if not any(_has_words(_read(token.raw)) for token in tokens if token.kind == "text"):
            self._pieces += [token.raw for token in tokens]
            return
        begin, end, ends = 0, len(tokens), _ends_of(tokens)
        while True:
            if _is_outside(tokens[begin]):
                begin += 1
            elif _is_outside(tokens[end - 1]):
                end -= 1
            elif ends.get(begin) == end - 1:
                begin, end = begin + 1, end - 1
            else:
                break
        self._pieces += [token.raw for token in tokens[:begin]]
        line, before, after = self._line(tokens[begin:end])
        self._pieces += [before, line, after, *(token.raw for token in tokens[end:])]

    def _line(self, tokens: Sequence[_Token]) -> tuple[Line, str, str]:
        """Return a line, and the blanks before and behind it."""
        line, pieces, run = Line(), list[str](), ""
        for token in (*tokens, _Token("", "end")):
            if token.kind == "text":
                run += _read(token.raw)
                continue
            place = 0
            for span in find_spans(run):
                pieces += [run[place : span.start], self._mark(line, _Mark(run[span.start : span.end], "part", ""))]
                place = span.end
            pieces.append(run[place:])
            run = ""
            if token.raw:
                pieces.append(self._mark(line, _Mark(token.raw, token.kind, token.name)))
        text = "".join(pieces)
        before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
        line.text = cleaned(text)  # as the front end does: what is compared later is the same
        return line, _escaped(before), _escaped(after)

    def _mark(self, line: Line, mark: _Mark) -> str:
        if (letter := next(self._free, None)) is None:
            raise ValueError(f"an HTML text may have at most {_LAST - _FIRST} tags")
        line.marks[letter] = mark
        return letter


def _tokens(text: str) -> Iterator[_Token]:
    """Yield a document's tokens, which together are the document."""
    place = 0
    while (start := _next_start(text, place)) < len(text):
        if place < start:
            yield _Token(text[place:start], "text")
        place, token = start, _token_at(text, start)
        place += len(token.raw)
        yield token
        if token.kind == "open" and token.name in _RAW:
            found = re.compile(rf"</{token.name}(?![^\s/>])", re.IGNORECASE).search(text, place)
            end = found.start() if found else len(text)
            yield _Token(text[place:end], "other")
            place = end
    if place < len(text):
        yield _Token(text[place:], "text")


def _next_start(text: str, place: int) -> int:
    found = _START.search(text, place)
    return found.start() if found else len(text)


_START = re.compile(rf"<(?=[A-Za-z!?/])|{_ENTITY.pattern}")


def _token_at(text: str, start: int) -> _Token:
    """Return the tag, comment or entity at a place; what does not end there is all the rest, as HTML has it."""
    if entity := _ENTITY.match(text, start):
        letter = unescape(entity[0])
        is_text = letter.isalnum() or letter in _AS_TEXT
        return _Token(entity[0], "text") if is_text else _Token(entity[0], "entity", "b")
    if text.startswith("<!--", start):
        end = text.find("-->", start + 4)
        return _Token(text[start : end + 3 if end >= 0 else len(text)], "other")
    if found := _TAG.match(text, start):
        name, raw = found[1].lower(), found[0]
        kind = "void" if name in _VOID else "close" if raw[1] == "/" else "open"
        return _Token(raw, kind, name)
    end = -1 if text[start + 1 : start + 2].isalpha() else text.find(">", start)
    return _Token(text[start : end + 1 if end >= 0 else len(text)], "other", "!")


def _without_kept(tokens: Iterator[_Token]) -> Iterator[_Token]:
    """Make one token of each element that is not translated, with all that stands in it."""
    kept, name, depth, inline = "", "", 0, False
    for token in tokens:
        if not depth:
            if token.kind == "open" and (token.name in _KEPT or _KEEPS.search(token.raw)):
                kept, name, depth, inline = token.raw, token.name, 1, token.name in _INLINE
            else:
                yield token
            continue
        kept += token.raw
        depth += (token.name == name) * ((token.kind == "open") - (token.kind == "close"))
        if not depth:
            yield _Token(kept, "kept", name if inline else "")
    if depth:
        yield _Token(kept, "other", "!")


def _has_words(text: str) -> bool:
    return any(letter.isalnum() for letter in text)


def _read(raw: str) -> str:
    return unescape(raw) if _ENTITY.fullmatch(raw) else raw


def _escaped(text: str) -> str:
    return escape(text, quote=False).replace("\u00a0", "&nbsp;")


def _is_outside(token: _Token) -> bool:
    """Report whether a token at an end of a line belongs to what stands around it."""
    return token.kind in ("void", "other") or (token.kind == "text" and not _read(token.raw).strip())


def _ends_of(tokens: Sequence[_Token]) -> dict[int, int]:
    """Return where the tags that open among tokens are closed, those of tags that do not nest left out."""
    found: dict[int, int] = {}
    waiting: list[int] = []
    for place, token in enumerate(tokens):
        if token.kind == "open":
            waiting.append(place)
        elif token.kind == "close":
            if waiting and tokens[waiting[-1]].name == token.name:
                found[waiting.pop()] = place
            else:
                waiting = []
    return found


def _nests(tags: Sequence[_Mark]) -> bool:
    """Report whether every tag that opens is closed, the last one first."""
    waiting: list[str] = []
    for tag in tags:
        if tag.kind == "open":
            waiting.append(tag.name)
        elif not waiting or waiting.pop() != tag.name:
            return False
    return not waiting

"""A glossary: terms of the source with their one translation. Needs no library: exports hold a copy of this file.

Decisions
- A file of lines `term<TAB>translation`, UTF-8; a line without a tab keeps the term as it is. Blank lines are left out.
- A term is found as whole words, letter by letter, but for scripts without blanks; of two that begin at
  one place the longer one counts.
- Its translation stands as it is written in the file: nothing is inflected.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

_WITHOUT_BLANKS = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Letters of scripts that write no blanks between words."""
MOST_BYTES = 1 << 26
"""Most bytes of a glossary's file."""
_MOST_TERMS, _MOST_LETTERS = 100_000, 1_000


@dataclass(frozen=True)
class Terms:
    """Fixed translations by their terms."""

    translations: Mapping[str, str]

    @classmethod
    def read(cls, content: bytes, name: str) -> "Terms":
        """Read a glossary's content; raise ValueError, in one line with the place, for a mistake in it."""
        if len(content) > MOST_BYTES:
            raise ValueError(f"{name}: a glossary has at most {MOST_BYTES} bytes: leave terms out")
        try:
            lines = content.decode("utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            number = content.count(b"\n", 0, error.start) + 1
            raise ValueError(f"{name}, line {number}: a glossary must be UTF-8: convert it") from error
        found: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            if not (text := line.rstrip("\r")).strip():
                continue
            term, *others = (part.strip() for part in text.split("\t"))
            translation = others[0] if others else term
            if not term or not translation or len(others) > 1:
                raise ValueError(f"{name}, line {number}: a glossary has lines of a term, a tab and its translation")
            _add(found, term, translation, f"{name}, line {number}")
        if not 0 < len(found) <= _MOST_TERMS:
            raise ValueError(f"{name}: a glossary has 1 to {_MOST_TERMS} terms, got {len(found)}")
        return cls(found)

    @classmethod
    def of(cls, pairs: Mapping[str, str], name: str, most: int) -> "Terms":
        """Check terms that stand in no file, at most `most`; raise ValueError, in one line, for a mistake in them."""
        if not 0 < len(pairs) <= most:
            raise ValueError(f"{name} may have 1 to {most} terms, got {len(pairs)}")
        found: dict[str, str] = {}
        for given, translation in pairs.items():
            if not given.strip() or not translation.strip() or {"\t", "\n", "\r"} & {*given, *translation}:
                raise ValueError(f"{name}: a term and its translation are one line each, without tabs, and not empty")
            _add(found, given.strip(), translation.strip(), name)
        return cls(found)

    def over(self, others: "Terms | None") -> "Terms":
        """Return them with others, whose translations of the same terms they replace."""
        return self if others is None else Terms({**others.translations, **self.translations})

    def find(self, line: str) -> Iterator[tuple[int, int, str]]:
        """Yield begin, end and translation of each term in a line, in order; they do not overlap."""
        place = 0
        while (start := self._starts.search(line, place)) is not None:
            place = start.start()
            for length in self._lengths.get(start[0], ()):
                end = place + length
                if (term := line[place:end]) in self.translations and not _cuts_word(line, place, end):
                    yield place, end, self.translations[term]
                    place = end
                    break
            else:
                place += 1

    @cached_property
    def _lengths(self) -> Mapping[str, list[int]]:
        """The lengths of terms, longest first, by their first letter."""
        found: dict[str, set[int]] = {}
        for term in self.translations:
            found.setdefault(term[0], set()).add(len(term))
        return {first: sorted(lengths, reverse=True) for first, lengths in found.items()}

    @cached_property
    def _starts(self) -> re.Pattern[str]:
        ranges: list[list[str]] = []  # letters that follow each other: a pattern tries one after the other
        for letter in sorted(self._lengths):
            if ranges and ord(letter) == ord(ranges[-1][1]) + 1:
                ranges[-1][1] = letter
            else:
                ranges.append([letter, letter])
        return re.compile(f"[{''.join(f'{re.escape(first)}-{re.escape(last)}' for first, last in ranges)}]")


def _add(found: dict[str, str], term: str, translation: str, place: str) -> None:
    if found.get(term, translation) != translation:
        raise ValueError(f"{place}: the term {term!r:.60} has two translations: delete one")
    if max(len(term), len(translation)) > _MOST_LETTERS:
        raise ValueError(f"{place}: a term has at most {_MOST_LETTERS} letters: shorten it")
    found[term] = translation


def _cuts_word(line: str, start: int, end: int) -> bool:
    """Report whether a part begins or ends within a word."""
    return any(0 < at < len(line) and is_word(line[at - 1]) and is_word(line[at]) for at in (start, end))


def is_word(letter: str) -> bool:
    """Report whether a letter is of a word with blanks around it."""
    return (letter.isalnum() or letter == "_") and not _WITHOUT_BLANKS.match(letter)

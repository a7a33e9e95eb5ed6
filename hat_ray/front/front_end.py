"""The way of lines to a model and back, which all programs share. Needs nothing of hat-ray: exports hold a copy.

The life of a line: it is cleaned (`text.py`), split into sentences, and a sentence that the model cannot read whole is
split into parts (`sentences.py`). A step may change each of them. All lines' sentences are translated together. Then
the step sees each translation, and those of a line are put together as one line again.

Decisions
- What a sentence becomes depends on itself alone, not on its line or on other lines: programs that see other lines at
  once (a stream, a batch of many clients) give the same.
- One line in, one line out; a line that holds nothing to translate comes back empty.
- Sentences are joined by a blank, but where both sides are of a script that writes none.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hat_ray.corpus.vocabulary.subwords import is_blank
from hat_ray.front.sentences import Spans, is_dense, parts_of, sentences_of
from hat_ray.front.text import cleaned

notices = logging.getLogger(__name__)  # `log` is another module's in an exported program

Count = Callable[[Sequence[str]], Sequence[int]]
"""What counts the tokens of sentences, each with its end of sentence."""
Decode = Callable[[list[str], list[int]], Sequence[str]]
"""What translates sentences; the numbers are those of their lines, for messages."""


class Step(Protocol):
    """What happens to each sentence before and after it is translated."""

    def before(self, sentence: str) -> tuple[str, Any]:
        """Return what is translated instead of a sentence, and whatever `after` needs to know."""

    def after(self, translation: str, known: Any) -> str:
        """Return the translation of the sentence that `before` saw."""

    def finish(self) -> None:
        """Log what is to be said when all lines are translated."""

    def whole(self, text: str) -> Spans:
        """Return the parts of a text that must not be cut."""


@dataclass(frozen=True)
class Sentence:
    """A sentence, or a part of one, on its way."""

    row: int
    """Of its line, counted from 0."""
    given: str
    """As it stands in the line."""
    text: str
    """As the model reads it."""
    known: Any = None
    """What the step knows of it."""
    continues: bool = False
    """It begins within a word."""


@dataclass(frozen=True)
class Cut:
    """Lines as sentences."""

    rows: int
    first: int
    sentences: Sequence[Sentence]
    step: Step | None

    @property
    def texts(self) -> list[str]:
        """Return what is to be translated."""
        return [one.text for one in self.sentences]

    @property
    def numbers(self) -> list[int]:
        """Return the number of each sentence's line."""
        return [self.first + one.row for one in self.sentences]

    def joined(self, translations: Sequence[str]) -> list[str]:
        """Return a line for each line, of its sentences' translations."""
        lines = [""] * self.rows
        for one, translation in zip(self.sentences, translations, strict=True):
            text = translation if self.step is None else self.step.after(translation, one.known)
            lines[one.row] = _with(lines[one.row], cleaned(text), one.continues)
        return lines


@dataclass(frozen=True)
class FrontEnd:
    """Cuts lines into sentences that a model can read."""

    count: Count
    longest: int
    """The most tokens of a sentence, its end of sentence among them."""
    split: bool = True
    """Whether lines are split into sentences. Those that are too long are split in any case."""
    step: Step | None = None

    def translate(self, lines: Sequence[str], decode: Decode, first: int = 1) -> list[str]:
        """Return the translation of every line, in order; `first` is the number of the first in messages."""
        cut = self.cut(lines, first)
        return cut.joined(decode(cut.texts, cut.numbers))

    def finish(self) -> None:
        """Let the step log what it has to say; call it when all lines are translated."""
        if self.step is not None:
            self.step.finish()

    def cut(self, lines: Sequence[str], first: int = 1) -> Cut:
        """Return the sentences of lines. One warning names lines with a sentence that is too long to be read whole."""
        found: list[Sentence] = []
        for row, line in enumerate(lines):
            text = cleaned(line)
            if not is_blank(text):
                found += [self._sentence(row, one) for one in (self._sentences(text) if self.split else [text])]
        sizes = self.count([one.text for one in found]) if found else []
        overlong = {place for place, size in enumerate(sizes) if size > self.longest}
        if not overlong:
            return Cut(len(lines), first, found, self.step)
        place = min(overlong)
        notices.warning(
            "%d of %d lines have a sentence longer than %d tokens, which is translated in parts (first: line %d, %d "
            "tokens)",
            *(len({found[one].row for one in overlong}), len(lines), self.longest),
            *(first + found[place].row, sizes[place]),
        )
        whole = (self._parts(one) if at in overlong else [one] for at, one in enumerate(found))
        return Cut(len(lines), first, [part for parts in whole for part in parts], self.step)

    def _sentences(self, text: str) -> list[str]:
        return sentences_of(text) if self.step is None else sentences_of(text, self.step.whole)

    def _sentence(self, row: int, given: str, continues: bool = False) -> Sentence:
        text, known = (given, None) if self.step is None else self.step.before(given)
        return Sentence(row, given, text, known, continues)

    def _parts(self, sentence: Sentence) -> list[Sentence]:
        def fits(part: str) -> bool:
            return self.count([self._sentence(0, part).text])[0] <= self.longest

        given = sentence.given
        cut = parts_of(given, fits) if self.step is None else parts_of(given, fits, self.step.whole)
        parts = [(part, continues) for part, continues in cut if not is_blank(part)]
        return [self._sentence(sentence.row, part, continues) for part, continues in parts]


def _with(line: str, more: str, continues: bool) -> str:
    """Return a line with a further sentence."""
    dense = bool(line and more) and is_dense(line[-1]) and is_dense(more[0])
    return line + more if continues or dense or not line or not more else f"{line} {more}"

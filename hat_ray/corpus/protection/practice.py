"""Let training text teach the symbols that stand for protected parts: pairs that hold them on both sides.

Decisions
- A share of the pairs is rewritten, none is added or lost: lengths of epochs, shards and counts stay those of the text.
  All other pairs stay as they are, so that a model still translates numbers that nobody masks.
- What stands on both sides once, as a protected part or as a name, becomes a symbol on both.
- Text that never showed an address teaches symbols as well: they are put at the beginning, before the last
  punctuation, at the end, around the sentence like mark-up, or between words, at the same share of both sides and,
  where commas or names show it, in the same clause.
- Translating numbers symbols from the first on. Here half of the pairs begin with another one, so that all are learned.
- Brackets and quotes around a symbol are those that the vocabulary knows.
- The draws follow from the recipe's seed and the number of the chunk alone.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hat_ray.corpus.protection.masking import knows_symbols
from hat_ray.corpus.protection.spans import SYMBOLS, find_spans
from hat_ray.corpus.text.files import ParallelText
from hat_ray.corpus.toy.draws import Dice
from hat_ray.corpus.vocabulary import UNK, Vocabularies

_WORD = re.compile(r"\S+")
_STOP = re.compile(r"[.!?\u2026\u3002\uff01\uff1f][\"'\u201c\u201d\u00bb\u300d)]*$")
FORMS = ("{}",) * 12 + ("({})", '"{}"', ", {},", "- {}", ": {}", "{},", "[{}]", "'{}'")
"""How a symbol stands among words, each equally often."""
_MORE = 0.4
"""Chance that a pair has one more symbol."""
_LEAST_NAME = 3


@dataclass(frozen=True)
class Practice:
    """How a training text teaches the symbols. Pickles."""

    share: float
    """Of the pairs, from 0 to 1."""
    seed: int
    tags: tuple[str, ...] = ()
    """Words that stand before sentences of a source; they stay the first."""
    forms: tuple[str, ...] = FORMS
    """How a symbol stands among words."""

    def drawn(self, text: ParallelText, chunk: int) -> tuple[list[int], ParallelText]:
        """Return which pairs of a chunk teach symbols, by their rows, and these pairs with symbols."""
        dice = Dice(self.seed, "protect", chunk)
        rows, pairs = [], []
        for row, (source, target) in enumerate(zip(text.source, text.target, strict=True)):
            if dice.chance(self.share):
                tag = next((f"{tag} " for tag in self.tags if source.startswith(f"{tag} ")), "")
                ours, theirs = practised(source.removeprefix(tag), target, dice, self.forms)
                rows.append(row)
                pairs.append((tag + ours, theirs))
        return rows, ParallelText([ours for ours, _ in pairs], [theirs for _, theirs in pairs])


def practice_for(share: float, vocabularies: Vocabularies, seed: int, tags: Iterable[str] = ()) -> Practice | None:
    """Return how a text is to teach the symbols; None where its share is 0, or the vocabularies lack them."""
    if not share or not knows_symbols(set(vocabularies.source.pieces()), set(vocabularies.target.pieces())):
        return None
    sides = vocabularies.source, vocabularies.target
    known = [form for form in FORMS if not any(UNK in side.encode(form.format("")) for side in sides)]
    return Practice(share, seed, tuple(tags), tuple(known))


def practised(source: str, target: str, dice: Dice, forms: Sequence[str] = FORMS) -> tuple[str, str]:
    """Return a pair with symbols in the place of what both sides have, and more at corresponding places."""
    if _MARK.search(source + target):
        return source, target  # characters of a private use, which marks are as well
    wanted = 1
    while wanted < len(SYMBOLS) and dice.chance(_MORE):
        wanted += 1
    alike = [part for part in _alike(source, target) if dice.chance(0.7)][:wanted]
    sides = _replaced(source, [part[0] for part in alike]), _replaced(target, [part[1] for part in alike])
    wanted -= len(alike)
    if wanted >= 2 and dice.chance(0.3):
        sides = _around(sides, (_mark(len(alike)), _mark(len(alike) + 1)))
        wanted -= 2
    taken = len(_MARK.findall(sides[0]))
    for number in range(taken, taken + wanted):
        sides = _put(sides, dice.pick(forms).format(_mark(number)), dice)
    return _numbered(sides, 0 if dice.chance(0.5) else dice.below(len(SYMBOLS)))


Sides = tuple[str, str]

_MARK = re.compile("[\ue000-\ue00f]")
"""Stands for a symbol until all have their places: the symbols are numbered as they come in the source."""


def _mark(number: int) -> str:
    return chr(0xE000 + number)


def _numbered(sides: Sides, first: int) -> Sides:
    marks = _MARK.findall(sides[0])
    names = {mark: SYMBOLS[(first + place) % len(SYMBOLS)] for place, mark in enumerate(marks)}
    source, target = (_MARK.sub(lambda found: names[found[0]], side) for side in sides)
    return source, target


Place = tuple[int, int]


def _alike(source: str, target: str) -> list[tuple[Place, Place]]:
    """Return where the protected parts and names are that stand once on each side, in the order of the source."""
    ours, theirs = _candidates(source), _candidates(target)
    return [(ours[text], theirs[text]) for text in ours if text in theirs]


def _candidates(line: str) -> dict[str, Place]:
    parts = [(span.start, span.end) for span in find_spans(line)]
    names = [found.span() for found in re.finditer(r"\w+", line) if _is_name(found[0])]
    free = [name for name in names if not any(name[0] < end and begin < name[1] for begin, end in parts)]
    counts = Counter(line[slice(*place)] for place in (*parts, *free))
    return {text: place for place in sorted((*parts, *free)) if counts[text := line[slice(*place)]] == 1}


def _is_name(word: str) -> bool:
    return len(word) >= _LEAST_NAME and word[0].isupper() and word.isalpha()


def _replaced(line: str, places: Sequence[Place]) -> str:
    """Put marks in the place of parts; the first part has the first mark."""
    for number, (begin, end) in sorted(enumerate(places), key=lambda one: -one[1][0]):
        line = line[:begin] + _mark(number) + line[end:]
    return line


def _around(sides: Sides, marks: tuple[str, str]) -> Sides:
    """Put two marks around a sentence, as mark-up stands."""
    source, target = (f"{marks[0]}{side[: _stop(side)]}{marks[1]}{side[_stop(side) :]}" for side in sides)
    return source, target


def _put(sides: Sides, word: str, dice: Dice) -> Sides:
    """Put a word with one more mark at corresponding places of both sides."""
    where = dice.below(10)
    if where == 0:
        return f"{word} {sides[0]}", f"{word} {sides[1]}"
    if where == 1:
        return f"{sides[0]} {word}", f"{sides[1]} {word}"
    if where == 2:
        stops = _stop(sides[0]), _stop(sides[1])
        source, target = (f"{side[:stop]} {word}{side[stop:]}" for side, stop in zip(sides, stops, strict=True))
        return source, target
    gaps = [_gaps(side) for side in sides]
    if not gaps[0] or not gaps[1]:
        return f"{sides[0]} {word}", f"{sides[1]} {word}"
    place = dice.pick(gaps[0])
    wanted = _corresponding(place, sides)
    there = min(gaps[1], key=lambda gap: abs(gap - wanted))
    return _inserted(sides[0], place, word), _inserted(sides[1], there, word)


def _inserted(line: str, place: int, word: str) -> str:
    return f"{line[:place]} {word}{line[place:]}"


def _gaps(line: str) -> list[int]:
    """Return the places between words, before the blank."""
    return [found.end() for found in _WORD.finditer(line)][:-1]


def _corresponding(place: int, sides: Sides) -> float:
    """Return the place of the target that belongs to one of the source, by what lies around it on both sides."""
    anchors = [(0, 0), *_anchors(sides), (len(sides[0]), len(sides[1]))]
    right = min(max(bisect_left([ours for ours, _ in anchors], place), 1), len(anchors) - 1)
    (ours, theirs), (next_ours, next_theirs) = anchors[right - 1], anchors[right]
    return theirs + (next_theirs - theirs) * (place - ours) / max(next_ours - ours, 1)


def _anchors(sides: Sides) -> list[Place]:
    """Return the places of commas, where both sides have equally many, and of marks that are in the same order."""
    commas = [[found.start() for found in re.finditer(r"[,;:\u3001\uff0c]", side)] for side in sides]
    found = list(zip(*commas, strict=True)) if len(commas[0]) == len(commas[1]) else []
    found += [(sides[0].index(mark), sides[1].index(mark)) for mark in _MARK.findall(sides[0])]
    found.sort()
    return found if all(a[1] < b[1] for a, b in pairwise(found)) else []


def _stop(line: str) -> int:
    """Return where the last punctuation of a sentence begins."""
    return stop.start() if (stop := _STOP.search(line)) else len(line)

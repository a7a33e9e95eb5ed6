"""Which side of a text a line is of, by its letters: sequences of three, counted in text whose sides are known.

Decisions
- No language is named and no model is needed: the sides of one text are judged by the sides of another, such as
  validation and test. On 1,000 lines of each side it takes 0 of 4,000 lines of Multi30k and Tatoeba for the other side.
- A line that does not decide (a name, a number) counts for neither side.
- Sides that the model cannot separate in its own text, as of one language, are not judged at all.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_LETTERS = 3
_MOST_LINES, _LEAST_LINES = 2_000, 40
_DECIDES = 5.0
"""Natural logarithm of the odds above which a line decides."""
_LEAST_RIGHT, _LEAST_DECIDED = 0.98, 0.5
_LONGEST_LINE = 1_000
"""Characters of a line that are looked at."""


@dataclass(frozen=True)
class SideModel:
    """Logarithm of the odds that a sequence of letters is of the source's side."""

    odds: dict[str, float]

    @classmethod
    def of(cls, source: Sequence[str], target: Sequence[str]) -> "SideModel | None":
        """Count the letters of two sides; None where there are few lines, or the sides cannot be separated."""
        pairs = [pair for pair in zip(source, target, strict=True) if pair[0] and pair[1]]
        pairs = pairs[:: max(1, len(pairs) // _MOST_LINES)][:_MOST_LINES]
        if len(pairs) < _LEAST_LINES:
            return None
        unseen = [*_scores(_counted(pairs[::2]), pairs[1::2]), *_scores(_counted(pairs[1::2]), pairs[::2])]
        decided = [score for score in unseen if abs(score) >= _DECIDES]
        right = sum(score > 0 for score in decided)
        if len(decided) < _LEAST_DECIDED * len(unseen) or right < _LEAST_RIGHT * len(decided):
            return None
        return cls(_counted(pairs))

    def side(self, line: str) -> int:
        """Return 1 for a line of the source's side, -1 for one of the target's, 0 where it does not decide."""
        score = sum(self.odds.get(letters, 0.0) for letters in _sequences(line))
        return 0 if abs(score) < _DECIDES else 1 if score > 0 else -1


def _scores(odds: dict[str, float], pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
    """Yield the score of each line, positive where it is taken for its own side."""
    for source, target in pairs:
        yield sum(odds.get(letters, 0.0) for letters in _sequences(source))
        yield -sum(odds.get(letters, 0.0) for letters in _sequences(target))


def _counted(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Return the log odds of every sequence, each counted once more than it occurs."""
    source, target = Counter[str](), Counter[str]()
    for ours, theirs in pairs:
        source.update(_sequences(ours))
        target.update(_sequences(theirs))
    every = source | target
    of_source, of_target = math.log(source.total() + len(every)), math.log(target.total() + len(every))
    return {
        letters: (math.log(source[letters] + 1) - of_source) - (math.log(target[letters] + 1) - of_target)
        for letters in every
    }


def _sequences(line: str) -> Iterator[str]:
    text = f" {line[:_LONGEST_LINE].lower()} "
    return (text[place : place + _LETTERS] for place in range(len(text) - _LETTERS + 1))

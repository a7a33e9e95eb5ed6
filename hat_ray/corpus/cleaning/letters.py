"""Judge the pairs of each window by their letters: which side, script and language they are of.

Decisions
- Every tenth pair is judged for its sides and scripts; in every fourth window those ten together for their language.
- A window has one fault of letters at most: sides come before scripts, and scripts before languages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hat_ray.corpus.cleaning.alignment import WINDOW, Floats
from hat_ray.corpus.cleaning.finding import Kind
from hat_ray.corpus.cleaning.languages import Language
from hat_ray.corpus.cleaning.scripts import Script
from hat_ray.corpus.cleaning.sides import SideModel

_EVERY, _EVERY_WINDOW = 10, 4
MOST_OF_A_WINDOW = 0.5
"""Share of a window's pairs with a fault from which the window has it."""
_LEAST_IN_SCRIPT = 0.5
_SCRIPT: tuple[Kind, Kind] = ("source_script", "target_script")
_LANGUAGE: tuple[Kind, Kind] = ("source_language", "target_language")


@dataclass
class Census:
    """The faults of consecutive windows."""

    shares: dict[Kind, Floats]
    """Share of each window's judged pairs that have a fault."""
    languages: dict[tuple[Kind, int], str] = field(default_factory=dict)
    """The language of a side in another one, by window."""

    @property
    def faulty(self) -> NDArray[np.bool_]:
        """Whether each window has a fault."""
        flags: NDArray[np.bool_] = np.any([share >= MOST_OF_A_WINDOW for share in self.shares.values()], axis=0)
        return flags


@dataclass(frozen=True)
class Letters:
    """What judges the letters of a text; None where nothing can."""

    sides: SideModel | None = None
    scripts: tuple[Script | None, Script | None] = (None, None)
    languages: tuple[Language | None, Language | None] = (None, None)

    def census(self, source: Sequence[str], target: Sequence[str]) -> Census:
        """Judge consecutive pairs; a last window of less than `WINDOW` pairs is left out."""
        count = len(source) // WINDOW
        same = np.array([ours == theirs != "" for ours, theirs in zip(source, target, strict=True)], dtype=np.bool_)
        found = Census({"identical": same[: count * WINDOW].reshape(count, WINDOW).mean(axis=1)})
        rows = range(0, count * WINDOW, _EVERY)
        lines = [source[row] for row in rows], [target[row] for row in rows]
        judged = ~same[rows.start : rows.stop : rows.step]
        for faults in (self._of_sides(lines), self._of_scripts(lines)):
            flags = {kind: judged & wrong for kind, wrong in faults.items()}
            found.shares |= {kind: one.reshape(count, WINDOW // _EVERY).mean(axis=1) for kind, one in flags.items()}
            judged = judged & ~np.any([*flags.values(), np.zeros_like(judged)], axis=0)
        self._judge_languages(lines, found)
        return found

    def _of_sides(self, lines: tuple[Sequence[str], Sequence[str]]) -> Mapping[Kind, NDArray[np.bool_]]:
        if self.sides is None:
            return {}
        ours, theirs = (np.array([self.sides.side(line) for line in side], dtype=np.int64) for side in lines)
        return {
            "swapped": (ours < 0) & (theirs > 0),
            "source_side": (ours < 0) & (theirs < 0),
            "target_side": (ours > 0) & (theirs > 0),
        }

    def _of_scripts(self, lines: tuple[Sequence[str], Sequence[str]]) -> Mapping[Kind, NDArray[np.bool_]]:
        return {
            kind: np.array([script.share(line) < _LEAST_IN_SCRIPT for line in side], dtype=np.bool_)
            for kind, script, side in zip(_SCRIPT, self.scripts, lines, strict=True)
            if script is not None
        }

    def _judge_languages(self, lines: tuple[Sequence[str], Sequence[str]], found: Census) -> None:
        """Add the windows whose lines are in another language; those between two judged ones are as the first."""
        faulty, size = found.faulty, WINDOW // _EVERY
        for kind, language, side in zip(_LANGUAGE, self.languages, lines, strict=True):
            if language is None:
                continue
            share = np.zeros(len(faulty))
            for window in range(0, len(faulty), _EVERY_WINDOW):
                group = slice(window, window + _EVERY_WINDOW)
                code = None if faulty[window] else language.other(side[window * size : (window + 1) * size])
                if code is not None:
                    share[group] = np.where(faulty[group], 0.0, 1.0)
                    found.languages |= {(kind, one): code for one in range(*group.indices(len(faulty)))}
            found.shares[kind] = share

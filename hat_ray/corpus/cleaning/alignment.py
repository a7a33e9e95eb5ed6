"""Do the two sides of a text belong together, by the lengths of their lines: rank correlation, window by window.

Decisions
- A translation of a long sentence is long, in any script. Lengths are characters (tokens of a data-bin), as ranks
  within a chunk. Windows of 100 pairs of aligned text correlate by 0.74 to 0.98 (Multi30k, Tatoeba, the toy pair); a
  window whose lines do not belong together has 0 +- 0.1.
- A window where a side's lengths hardly vary (text sorted by length, templates) decides nothing.
- A text is its own measure: a window is misaligned where it does not correlate and most others do. Text that does not
  correlate anywhere is judged as a whole.
- A window that does not correlate is compared with its neighbourhood: where a shift of up to `MOST_LINES` lines
  correlates as the rest does, it is shifted, or else shuffled.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = 100
"""Pairs of a window."""
MOST_LINES = 50
"""The largest shift that is looked for, in lines."""
_UNRELATED = 0.3
"""Correlation below which a window does not: three standard deviations of lines that do not belong together."""
_TYPICAL = 0.5
"""Correlation of most windows above which single windows are judged."""
_LIKE_THE_REST = 0.7
"""Share of the text's typical correlation that a shifted window must reach."""
_THROUGHOUT, _LEAST_PAIRS = 0.1, 400
"""Correlation below which a whole text is unrelated, and the pairs that this needs."""
_LEAST_SPREAD = 0.15
"""Standard deviation of the logarithm of a window's lengths, on both sides, below which they decide nothing."""
_LEAST_SHUFFLED = 2
"""Windows in a row that must be unrelated without a shift that explains it."""
_MOST_GAP = 2
"""Windows between two stretches of one fault that are taken for a part of it."""

_SHIFTS = tuple(sorted((shift for shift in range(-MOST_LINES, MOST_LINES + 1) if shift), key=abs))

Floats = NDArray[np.float64]
Integers = NDArray[np.signedinteger[Any]]


@dataclass(frozen=True)
class LengthWindows:
    """Correlations of consecutive windows of a text."""

    here: Floats
    """Of lines with equal numbers; NaN where lengths hardly vary."""
    there: Floats
    """Of the best shift; NaN where `here` correlates."""
    lines: NDArray[np.int64]
    """That shift: the number of the target's line less that of the source's."""

    @classmethod
    def of(cls, source: Integers, target: Integers) -> "LengthWindows":
        """Measure the lengths of consecutive lines; a last window of less than `WINDOW` pairs is left out."""
        count, varied = len(source) // WINDOW, _varied(source) & _varied(target)
        sides = _ranks(source), _ranks(target)
        here = np.full(count, np.nan)
        there, lines = np.full(count, np.nan), np.zeros(count, dtype=np.int64)
        for window in np.flatnonzero(varied).tolist():
            here[window] = _correlation(*sides, window * WINDOW, 0)
            if here[window] < _UNRELATED:
                found = [_correlation(*sides, window * WINDOW, shift) for shift in _SHIFTS]
                best = int(np.nanargmax([-1.0, *found])) - 1
                there[window], lines[window] = (found[best], _SHIFTS[best]) if best >= 0 else (np.nan, 0)
        return cls(here, there, lines)

    @classmethod
    def joined(cls, parts: Sequence["LengthWindows"]) -> "LengthWindows":
        """Put the parts one after another."""
        empty = cls(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64))
        found = [empty, *parts]
        return cls(*(np.concatenate([getattr(one, name) for one in found]) for name in ("here", "there", "lines")))

    @property
    def suspects(self) -> NDArray[np.int64]:
        """Windows that do not correlate."""
        return np.flatnonzero(self.here < _UNRELATED)


@dataclass(frozen=True)
class Stretch:
    """Consecutive windows with one fault."""

    first: int
    """Number of the first window."""
    end: int
    """Number of the first window behind."""
    lines: int | None
    """The number of the target's line less that of the source's; None: no shift explains it."""
    here: float
    """Correlation of lines with equal numbers, the mean."""
    there: float | None = None
    """Correlation after the shift, the mean."""


def misaligned(windows: LengthWindows) -> list[Stretch]:
    """Return the stretches of a text whose sides do not belong together."""
    known = ~np.isnan(windows.here)
    if not known.any():
        return []
    best = np.fmax(windows.here, windows.there)[known]
    typical = float(np.percentile(best, 75))
    if typical < _TYPICAL:
        overall = float(np.mean(windows.here[known]))
        enough = WINDOW * int(known.sum()) >= _LEAST_PAIRS and known.mean() >= 0.5
        throughout = overall < _THROUGHOUT and enough
        return [Stretch(0, len(windows.here), None, overall)] if throughout else []
    return _merged(_stretches(windows, _LIKE_THE_REST * typical))


def _merged(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Join neighbouring stretches of one fault."""
    found: list[Stretch] = []
    for one in stretches:
        last = found[-1] if found else None
        if last is not None and last.lines == one.lines and one.first - last.end <= _MOST_GAP:
            found[-1] = replace(last, end=one.end)
        else:
            found.append(one)
    return found


def _stretches(windows: LengthWindows, least: float) -> Iterator[Stretch]:
    """Yield runs of suspect windows of one shift, or of none; a window that decides nothing continues a run."""
    unknown = np.isnan(windows.here)
    shifted = (windows.here < _UNRELATED) & (windows.there >= least)
    fault = np.where(shifted, windows.lines, np.where(windows.here < _UNRELATED, MOST_LINES + 1, 0))
    first, place = 0, 0
    while place < len(fault):
        first = place
        while place < len(fault) and (fault[place] == fault[first] or unknown[place]):
            place += 1
        if not fault[first] or unknown[first]:
            continue
        rows = slice(first, place)
        lines = None if fault[first] > MOST_LINES else int(fault[first])
        if lines is not None or int((~unknown[rows]).sum()) >= _LEAST_SHUFFLED:
            there = None if lines is None else float(np.nanmean(windows.there[rows]))
            yield Stretch(first, place, lines, float(np.nanmean(windows.here[rows])), there)


def _varied(lengths: Integers) -> NDArray[np.bool_]:
    """Return for each window whether its lengths vary."""
    windows = np.log1p(lengths[: len(lengths) // WINDOW * WINDOW].reshape(-1, WINDOW))
    varied: NDArray[np.bool_] = windows.std(axis=1) >= _LEAST_SPREAD
    return varied


def _ranks(lengths: Integers) -> Floats:
    """Return the rank of each length; equal ones share their mean rank."""
    _, places, counts = np.unique(lengths, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


def _correlation(source: Floats, target: Floats, first: int, shift: int) -> float:
    """Correlate the window that begins at `first` with the target's lines `shift` later; NaN where that cannot be."""
    begin, end = max(first, -shift), min(first + WINDOW, len(target) - shift)
    if end - begin < WINDOW // 2:
        return np.nan
    ours, theirs = source[begin:end], target[begin + shift : end + shift]
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    spread = float(np.sqrt((ours**2).sum() * (theirs**2).sum()))
    return float((ours * theirs).sum()) / spread if spread else np.nan

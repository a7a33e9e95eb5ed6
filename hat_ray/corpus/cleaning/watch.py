"""Watch a text while it streams by, and report the stretches whose sides are not what they should be.

Decisions
- Lengths of all lines are compared (`alignment.py`), and all pairs for being identical. The letters of every tenth pair
  are judged (`letters.py`): a stretch is found all the same, and a large corpus costs little.
- What is kept grows by a few numbers a window of 100 pairs; lines are kept of at most `_MOST_KEPT` suspect windows.
- A fault that is spread over the text, in no stretch of its own, is reported by its share of all pairs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from hat_ray.corpus.cleaning.alignment import WINDOW, Floats, Integers, LengthWindows, Stretch, misaligned
from hat_ray.corpus.cleaning.finding import Kind, Split, TextFinding
from hat_ray.corpus.cleaning.letters import MOST_OF_A_WINDOW, Letters

_LEAST_WINDOWS = 2
_SPREAD: Mapping[Kind, float] = {"swapped": 0.03, "identical": 0.2}
_SPREAD_OF_OTHERS = 0.1
"""Share of all pairs from which a fault that is in no stretch is reported."""
_LEAST_SPREAD_PAIRS = 20
_MOST_KEPT, _EXAMPLES = 200, 3

Pairs = Sequence[tuple[str, str]]


@dataclass
class _Part:
    """The windows of one pair of files."""

    pairs: int = 0
    rows: list[NDArray[np.int64]] = field(default_factory=list)
    """Each window's first pair, from 0."""
    lengths: list[LengthWindows] = field(default_factory=list)
    shares: dict[Kind, list[Floats]] = field(default_factory=dict)
    """Share of each window's judged pairs that have a fault."""
    kept: dict[int, Pairs] = field(default_factory=dict)
    """The first pairs of suspect windows, by number."""
    languages: dict[tuple[Kind, int], str] = field(default_factory=dict)
    """The language of a side in another one, by window."""


@dataclass
class TextWatch:
    """All parts of one split. Take the chunks of a part in order."""

    split: Split
    letters: Letters = field(default_factory=Letters)
    parts: list[_Part] = field(default_factory=list)

    def take(self, part: int, source: Sequence[str], target: Sequence[str]) -> None:
        """Measure a chunk."""
        measured = LengthWindows.of(line_lengths(source), line_lengths(target))
        census, before = self.letters.census(source, target), self._windows(part)
        into = self._add(part, measured, len(source))
        for kind, found in census.shares.items():
            into.shares.setdefault(kind, []).append(found)
        for (kind, window), code in census.languages.items():
            if len(into.languages) < _MOST_KEPT:
                into.languages[kind, before + window] = code
        for window in sorted({*measured.suspects.tolist(), *np.flatnonzero(census.faulty).tolist()}):
            if len(into.kept) < _MOST_KEPT:
                rows = range(window * WINDOW, window * WINDOW + _EXAMPLES)
                into.kept[before + window] = [(source[row], target[row]) for row in rows]

    def take_lengths(self, part: int, source: Integers, target: Integers) -> None:
        """Measure a chunk of which only lengths are known."""
        self._add(part, LengthWindows.of(source, target), len(source))

    def _windows(self, part: int) -> int:
        """Return the number of a part's windows so far."""
        return sum(len(one.here) for one in self.parts[part].lengths) if part < len(self.parts) else 0

    def _add(self, part: int, measured: LengthWindows, pairs: int) -> _Part:
        while len(self.parts) <= part:
            self.parts.append(_Part())
        into = self.parts[part]
        into.rows.append(into.pairs + WINDOW * np.arange(len(measured.here)))
        into.pairs += pairs
        into.lengths.append(measured)
        return into

    def findings(self, names: Callable[[int], tuple[str, str]]) -> list[TextFinding]:
        """Return the faults of all parts; `names` returns the paths of a part's files."""
        return [one for number, part in enumerate(self.parts) for one in self._of_part(part, names(number))]

    def _of_part(self, part: _Part, paths: tuple[str, str]) -> Iterator[TextFinding]:
        files = PurePath(paths[0]).name, PurePath(paths[1]).name
        for stretch in misaligned(LengthWindows.joined(part.lengths)):
            yield self._finding(part, files, "shifted" if stretch.lines else "shuffled", stretch, _evidence(stretch))
        for kind, found in part.shares.items():
            yield from self._of_kind(part, files, kind, np.concatenate(found))

    def _of_kind(self, part: _Part, files: tuple[str, str], kind: Kind, share: Floats) -> Iterator[TextFinding]:
        """Yield the stretches of a fault, or the whole text where the fault is spread over it."""
        stretches = list(_runs(share >= MOST_OF_A_WINDOW))
        within = sum(float(share[run.first : run.end].sum()) for run in stretches)
        overall = float(share.mean()) if len(share) else 0.0
        spread = overall >= _SPREAD.get(kind, _SPREAD_OF_OTHERS) and overall * part.pairs >= _LEAST_SPREAD_PAIRS
        if spread and within < 0.5 * float(share.sum()):
            whole = Stretch(0, len(share), None, overall)
            yield self._finding(part, files, kind, whole, f"{overall:.0%} of the pairs, all over the text")
            return
        for run in stretches:
            of_run = float(share[run.first : run.end].mean())
            code = next((one for place in range(run.first, run.end) if (one := part.languages.get((kind, place)))), "")
            yield self._finding(part, files, kind, run, f"{of_run:.0%} of the pairs" + (f", {code}" if code else ""))

    def _finding(self, part: _Part, files: tuple[str, str], kind: Kind, stretch: Stretch, detail: str) -> TextFinding:
        rows = np.concatenate(part.rows)
        first = int(rows[stretch.first])
        last = part.pairs if stretch.end == len(rows) else int(rows[stretch.end])
        inside = range(stretch.first + (stretch.end - stretch.first > 1), stretch.end)  # the first may begin before it
        kept = next((part.kept[window] for window in inside if window in part.kept), ())
        return TextFinding(
            split=self.split,
            kind=kind,
            source_file=files[0],
            target_file=files[1],
            first=first + 1,
            last=last,
            whole=first == 0 and last == part.pairs,
            detail=detail,
            lines=stretch.lines,
            examples=tuple(kept),
        )


def _evidence(stretch: Stretch) -> str:
    moved = "" if stretch.there is None else f", {stretch.there:.2f} after that shift"
    return f"lengths correlate by {stretch.here:.2f}{moved}"


def _runs(flags: NDArray[np.bool_]) -> Iterator[Stretch]:
    """Yield the stretches of at least `_LEAST_WINDOWS` windows with a fault; one window without it ends none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], _closed(flags), [False]]).astype(np.int8)))
    for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if end - first >= _LEAST_WINDOWS:
            yield Stretch(first, end, None, 1.0)


def _closed(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Set a flag between two that are set."""
    between = flags.copy()
    between[1:-1] |= flags[:-2] & flags[2:]
    return between


def line_lengths(lines: Sequence[str]) -> NDArray[np.int64]:
    """Return the characters of each line."""
    return np.fromiter(map(len, lines), dtype=np.int64, count=len(lines))

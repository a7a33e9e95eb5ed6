"""Rules that a pair of lines keeps to be trained on, and the count of pairs by the first rule that each breaks.

Decisions
- A leak is a training pair whose source is a validation or test source, letter by letter. The target may differ: a
  model that has seen the source has seen the question.
- A pair is counted once, under the first rule that it breaks, in the order of `Reason`.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hat_ray.corpus.cleaning.scripts import Script
from hat_ray.corpus.config import Deduplicate


class Reason(IntEnum):
    """Why a pair is not trained on; 0 for a pair that is."""

    KEPT = 0
    EMPTY = 1
    HELD_OUT = 2
    LEAK = 3
    IDENTICAL = 4
    SCRIPT = 5
    DUPLICATE = 6


Reasons = NDArray[np.uint8]
"""A `Reason` for each row."""


@dataclass(frozen=True)
class HeldSources:
    """Sources of validation and test."""

    valid: frozenset[str] = frozenset()
    test: frozenset[str] = frozenset()

    @classmethod
    def of(cls, valid: Collection[str], test: Collection[str]) -> "HeldSources":
        """Return the sources of two splits; empty lines are none."""
        return cls(frozenset(filter(None, valid)), frozenset(filter(None, test)))

    @property
    def all(self) -> frozenset[str]:
        """Sources of either split."""
        return self.valid | self.test


@dataclass(frozen=True)
class PairRules:
    """The rules of one corpus."""

    held: HeldSources = HeldSources()
    remove_leaks: bool = True
    valid_every: int = 0
    """Every n-th pair is validation's; 0: none."""
    drop_identical: bool = False
    scripts: tuple[Script, Script] | None = None
    """The scripts of both sides, where `min_script_share` is above 0."""
    min_script_share: float = 0.0
    deduplicate: Deduplicate = False

    def reasons(self, source: Sequence[str], target: Sequence[str], first_row: int) -> Reasons:
        """Return the reason of each of consecutive pairs, the first of which has the number `first_row`."""
        found = np.zeros(len(source), dtype=np.uint8)
        pairs = list(zip(source, target, strict=True))
        if self.scripts is not None and self.min_script_share:
            found[_flags(not self._in_script(*pair) for pair in pairs)] = Reason.SCRIPT
        if self.drop_identical:
            found[_flags(ours == theirs for ours, theirs in pairs)] = Reason.IDENTICAL
        if self.remove_leaks and (held := self.held.all):
            found[_flags(line in held for line in source)] = Reason.LEAK
        if self.valid_every:
            numbers = np.arange(first_row + 1, first_row + 1 + len(source))
            found[numbers % self.valid_every == 0] = Reason.HELD_OUT  # HAT counts lines from 1
        found[_flags(not (ours and theirs) for ours, theirs in pairs)] = Reason.EMPTY
        return found

    def _in_script(self, source: str, target: str) -> bool:
        assert self.scripts is not None
        return all(
            script.share(line) >= self.min_script_share
            for script, line in zip(self.scripts, (source, target), strict=True)
        )


def _flags(values: Iterable[bool]) -> NDArray[np.bool_]:
    return np.fromiter(values, dtype=np.bool_)

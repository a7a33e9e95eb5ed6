"""The slowest member of a family of models that keeps a limit, found by timing few of them.

A family runs from its slowest member to its fastest. Predictions say where to look; measurements decide. A bisection
holds the fastest member that is known to break the limit and the slowest that is known to keep it, until they are
neighbours. Several bisections advance side by side, so that a device times one group of architectures a round.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hat_ray.latency.quantities import LATENCY
from hat_ray.search.engine.device_predictions import Measurements
from hat_ray.search.limits import Limit, Predictions
from hat_ray.search.selection import HandScaled, Matching, MissingRival, SelectedModel
from hat_ray.space.architecture import Architecture

Measure = Callable[[Sequence[Architecture]], Mapping[str, Measurements]]
"""Times architectures on every device that can be reached; earlier timings may be returned."""

_GUIDED = 2
"""Rounds in which predictions say what to time next; after them the middle is timed."""


@dataclass
class Bisection:
    """The search for one family's member under one limit."""

    kind: HandScaled
    limit: Limit
    members: Sequence[Architecture]
    predicted: Sequence[Mapping[str, float]]
    """The limit's quantities of each member, as predicted."""
    measurable: bool = True
    """Whether the device can be timed on; without that predictions decide."""
    _timed: dict[int, Mapping[str, float]] = field(default_factory=dict)
    _rounds: int = 0

    def next_members(self) -> list[Architecture]:
        """Return what is to be timed now; nothing where it is decided."""
        breaks, keeps = self._bracket()
        if not self.measurable or keeps - breaks <= 1:
            return []
        middle = (breaks + keeps) // 2 if self._rounds >= _GUIDED else self._guess(breaks, keeps)
        self._rounds += 1
        # with its neighbour: where the guess is right, the two of them decide
        return [self.members[place] for place in (middle - 1, middle) if breaks < place < keeps]

    def tell(self, measured: Measurements | None) -> None:
        """Take what was measured; where the device measured nothing, predictions decide."""
        known = {place: measured[one] for place, one in enumerate(self.members) if measured and one in measured}
        self.measurable = bool(known.keys() - self._timed.keys())
        self._timed |= known

    def _bracket(self) -> tuple[int, int]:
        """Return the places of the fastest member that breaks the limit and of the slowest behind it that keeps it."""
        kept = {place: self.limit.keeps({**self.predicted[place], **values}) for place, values in self._timed.items()}
        keeps = min((place for place, good in kept.items() if good), default=len(self.members))
        return max((place for place, good in kept.items() if not good and place < keeps), default=-1), keeps

    def _guess(self, breaks: int, keeps: int) -> int:
        """Return the slowest member that is predicted to keep the limit, by predictions that timings have corrected."""
        places = range(breaks + 1, keeps)
        found = (place for place in places if self.limit.keeps(self._corrected(place)))
        return next(found, places[-1])

    def _corrected(self, place: int) -> dict[str, float]:
        """Return the predictions of a member, times what the nearest timed one took longer than predicted."""
        predicted = dict(self.predicted[place])
        if self._timed:
            nearest = min(self._timed, key=lambda other: abs(other - place))
            predicted[LATENCY] *= self._timed[nearest][LATENCY] / self.predicted[nearest][LATENCY]
        return predicted

    def found(self) -> tuple[Architecture, Mapping[str, float], bool] | None:
        """Return the member, its quantities, and whether they were measured; None where none keeps the limit."""
        breaks, keeps = self._bracket()
        if keeps - breaks > 1:  # never timed to the end
            keeps = next((p for p in range(breaks + 1, keeps) if self.limit.keeps(self._corrected(p))), keeps)
        if keeps == len(self.members):
            return None
        timed = keeps in self._timed
        return self.members[keeps], self._timed[keeps] if timed else self._corrected(keeps), timed

    def fastest_ms(self) -> float:
        """Return the milliseconds of the fastest member, as timed, else as predicted."""
        last = len(self.members) - 1
        return (self._timed.get(last) or self._corrected(last))[LATENCY]


def match_all(bisections: Sequence[Bisection], measure: Measure) -> None:
    """Advance all bisections side by side until each is decided."""
    while wanted := {id(one): found for one in bisections if (found := one.next_members())}:
        architectures = list(dict.fromkeys(a for found in wanted.values() for a in found))
        measured = measure(architectures)
        for one in bisections:
            if id(one) in wanted:
                one.tell(measured.get(one.limit.device))


def bisection(
    kind: HandScaled, limit: Limit, members: Sequence[Architecture], predictions: Predictions, attached: bool
) -> Bisection:
    """Return the search for a family's member under a limit, before anything is timed."""
    functions = predictions[limit.device]
    names = [LATENCY, *(name for name, _ in limit.group.bounds)]
    columns = {name: functions[name](members).tolist() if members else [] for name in names}
    predicted = [{name: column[place] for name, column in columns.items()} for place in range(len(members))]
    return Bisection(kind, limit, members, predicted, attached)


def rival_of(one: Bisection, why_outside: Callable[[Architecture], str | None]) -> SelectedModel | MissingRival:
    """Return a bisection's result: the rival, or why there is none."""
    found = one.found()
    if found is None:
        reason = "the space leaves nothing to scale" if not one.members else f"none keeps {one.limit.text}"
        if one.members:
            reason += f": the fastest takes {one.fastest_ms():.4g} ms"
        return MissingRival(one.kind, one.limit, reason)
    architecture, values, measured = found
    matching = Matching(values[LATENCY], measured, why_outside(architecture))
    return SelectedModel(one.kind, architecture, one.limit, matching)

"""Sweeps: which architectures show what each single dimension of a search space costs on a device. HAT: figure 2.

A sweep takes one architecture, the base, and sets one dimension of it to each of its choices, in all layers at once;
everything else stays. Decisions
- The base stands in every dimension's sweep and is one architecture: timed once, it is where all curves meet.
- Two choices that make the same network are one point: decoder layers cannot attend to more encoder layers than there
  are. For the same reason an encoder that is swept below the base's reach shortens the reach with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from hat_ray.core.config import StageConfig
from hat_ray.errors import SpaceError
from hat_ray.space.architecture import Architecture
from hat_ray.space.dimension import Choice
from hat_ray.space.search_space import SearchSpace

Base = Literal["middle", "largest", "smallest"]

_PICKS: dict[Base, Callable[[Sequence[int]], int]] = {
    "middle": lambda choices: sorted(choices)[len(choices) // 2],
    "largest": max,
    "smallest": min,
}


class SweepConfig(StageConfig):
    """Which architectures `latency sweep` times; how it times them is the section `latency`."""

    base: Base = "middle"
    """Choice of the dimensions that are not swept: their middle one (the upper one of two), their largest or
    their smallest."""


@dataclass(frozen=True)
class SweepPoint:
    """The base with one dimension set to one choice."""

    choice: Choice
    architecture: Architecture


@dataclass(frozen=True)
class DimensionSweep:
    """One dimension's points, ascending by choice: two at least."""

    dimension: str
    """As the table of dimensions names it."""
    points: tuple[SweepPoint, ...]


@dataclass(frozen=True)
class SweepPlan:
    """All that one sweep times."""

    base: Architecture
    dimensions: tuple[DimensionSweep, ...]

    @property
    def architectures(self) -> list[Architecture]:
        """Every architecture once, the base first."""
        points = [point.architecture for sweep in self.dimensions for point in sweep.points]
        return list(dict.fromkeys([self.base, *points]))


def plan_sweep(space: SearchSpace, base: Base = "middle") -> SweepPlan:
    """Return the plan of a sweep of a space; raises SpaceError when nothing in it can vary alone."""
    choice = space.picked(_PICKS[base])
    sweeps = []
    for dimension in space.dimensions:
        name = dimension.name
        points: dict[Architecture, Choice] = {}
        for value in sorted(space[name], key=dimension.number):
            points.setdefault(space.uniform({**choice, name: value}), value)
        if len(points) > 1:
            sweeps.append(DimensionSweep(name, tuple(SweepPoint(value, a) for a, value in points.items())))
    if not sweeps:
        raise SpaceError(f"space {space.name} has one choice in every dimension: a sweep needs one with two")
    return SweepPlan(space.uniform(choice), tuple(sweeps))

"""Draw architectures that are spread over latency: the same number from each of several bins of equal mass."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hat_ray.errors import SpaceError
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace

DRAWS = 2_000

SpeedFunction = Callable[[Sequence[Architecture]], NDArray[np.float64]]
"""Architectures to (K,) values that grow with latency."""


@dataclass(frozen=True)
class LatencySource:
    """Source of architectures' latency."""

    name: str
    """For readers: a device, or the proxy that stands for one."""
    unit: str
    proxy: bool


PROXY = LatencySource("proxy: FLOPs of the decoder and the output projection", "FLOPs", proxy=True)


@dataclass(frozen=True)
class PickedArchitecture:
    """An architecture, its latency, and its bin counted from 0, the fastest."""

    architecture: Architecture
    latency: float
    bin: int


def stratify(space: SearchSpace, latency: SpeedFunction, count: int, bins: int, seed: int) -> list[PickedArchitecture]:
    """Draw `count` distinct architectures, equal numbers from each bin; bins hold equal shares of random architectures.

    A larger count with the same seed holds the smaller one's architectures. Raises SpaceError when the space is too
    small.
    """
    rng = random.Random(seed)
    draws = list(dict.fromkeys(space.sample(rng) for _ in range(DRAWS)))
    if len(draws) < count:
        raise SpaceError(
            f"space {space.name} must hold at least ranking.architectures = {count} different architectures, "
            f"{len(draws)} were found in {DRAWS} draws: lower it"
        )
    values = latency(draws)
    order = sorted(range(len(draws)), key=lambda i: (values[i], draws[i].id))
    chosen = []
    for number, members in enumerate(np.array_split(order, bins)):
        share = count // bins + (number < count % bins)
        picked = sorted(rng.sample(members.tolist(), len(members))[:share], key=lambda i: float(values[i]))
        chosen += [PickedArchitecture(draws[i], float(values[i]), number) for i in picked]
    return chosen

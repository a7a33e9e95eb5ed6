"""Random draws that cannot drift: only `random.Random.random`, which Python promises to keep, and integer weights."""

import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import isqrt
from typing import Generic, TypeVar

from hat_ray.seeds import stream_seed

T = TypeVar("T")

_WEIGHT_SCALE = 10**16


class Dice:
    """One named stream of draws."""

    def __init__(self, seed: int, *names: str | int) -> None:
        self._next = random.Random(stream_seed(seed, *names)).random

    def chance(self, probability: float) -> bool:
        return self._next() < probability

    def below(self, limit: int) -> int:
        """Return an integer in 0..limit-1."""
        return int(self._next() * limit)

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]


class Urn(Generic[T]):
    """Items drawn with fixed weights."""

    def __init__(self, weighted: Sequence[tuple[T, int]]) -> None:
        self.items = [item for item, _ in weighted]
        self._ends = list(accumulate(weight for _, weight in weighted))

    @classmethod
    def zipf(cls, items: Sequence[T], offset: int) -> "Urn[T]":
        """Weigh the item of rank r (from 0) by (r + offset) ** -1.5, in integers; steep, as suits a small corpus."""
        places = range(offset, offset + len(items))
        return cls(
            [(item, _WEIGHT_SCALE // (place * isqrt(place * 10**8))) for item, place in zip(items, places, strict=True)]
        )

    def draw(self, dice: Dice) -> T:
        return self.items[bisect_right(self._ends, dice.below(self._ends[-1]))]

"""Coin stems that look like words of the source or of the target language.

Random draws that cannot drift: only `random.Random.random`, which Python promises to keep, and integer weights.
"""

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import isqrt
from typing import Generic, TypeVar

from hat_ray.core.determinism import stream_seed

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


class WeightedChoice(Generic[T]):
    """Items drawn with fixed weights."""

    def __init__(self, weighted: Sequence[tuple[T, int]]) -> None:
        self.items = [item for item, _ in weighted]
        self._ends = list(accumulate(weight for _, weight in weighted))

    @classmethod
    def zipf(cls, items: Sequence[T], offset: int) -> "WeightedChoice[T]":
        """Weigh the item of rank r (from 0) by (r + offset) ** -1.5, in integers; steep, as suits a small corpus."""
        places = range(offset, offset + len(items))
        return cls(
            [(item, _WEIGHT_SCALE // (place * isqrt(place * 10**8))) for item, place in zip(items, places, strict=True)]
        )

    def draw(self, dice: Dice) -> T:
        return self.items[bisect_right(self._ends, dice.below(self._ends[-1]))]


_TRIES = 10_000


@dataclass(frozen=True)
class Sound:
    """Parts of a language's syllables."""

    onsets: tuple[str, ...]
    vowels: tuple[str, ...]
    codas: tuple[str, ...]
    closes: tuple[str, ...]
    """Syllables that may follow the first one in a longer stem."""


def _pieces(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SOURCE_SOUND = Sound(
    onsets=_pieces("b c d f g h k l m n p r s t v w bl br ch cl cr dr fl gl gr pl pr sh sk sl sp st str th tr wh"),
    vowels=_pieces("a e i o u a e i o ai ea ee oa oo ou"),
    codas=_pieces("b ck d g l ll m mp n nd ng nk nt p r rd rk rm rn rt st t tch th"),
    closes=_pieces("le er on et ow in ish age ment ock el ard"),
)
TARGET_SOUND = Sound(
    onsets=_pieces("b d f g h j k l m n p r t w z bl br dr fl gl gr kl kn kr pf pl schl schm schr schw sp st tr"),
    vowels=_pieces("a e i o u a e o u au ei ie"),
    codas=_pieces("b bs ch ck cht f ft g k l lb lg lk ll lt m mm mpf n nd ng nk nn p r rb rf rg rk rl rm rn rt"),
    closes=_pieces("el er ing ung in ig icht am ap or at"),
)


class StemGenerator:
    """Coins stems of one language, each only once."""

    def __init__(self, sound: Sound, dice: Dice, reserved: Sequence[str]) -> None:
        self._sound = sound
        self._dice = dice
        self._taken = set(reserved)

    def coin(self, *, long: bool) -> str:
        """Return a new stem of one syllable, or of two when `long`."""
        for _ in range(_TRIES):
            stem = self._syllable() + (self._dice.pick(self._sound.closes) if long else "")
            if stem not in self._taken:
                self._taken.add(stem)
                return stem
        raise AssertionError("the sounds do not suffice for the lexicon")

    def _syllable(self) -> str:
        pick, sound = self._dice.pick, self._sound
        return pick(sound.onsets) + pick(sound.vowels) + pick(sound.codas)

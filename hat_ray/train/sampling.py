"""Which architecture an update trains: a pure function of the update's number, so that all workers agree unasked."""

import random
from dataclasses import dataclass
from typing import Protocol

from hat_ray.seeds import stream_seed
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace


class Sampling(Protocol):
    """A policy: the architecture of each update, counted from 0."""

    def __call__(self, update: int, /) -> Architecture: ...


@dataclass(frozen=True)
class Uniform:
    """One architecture an update, each choice uniform, from a stream of the recipe's seed."""

    space: SearchSpace
    seed: int

    def __call__(self, update: int, /) -> Architecture:
        return self.space.sample(random.Random(stream_seed(self.seed, "architecture", update)))


@dataclass(frozen=True)
class HatUniform:
    """HAT's own sequence of architectures: `random.seed(update)` before each draw, whatever the seed."""

    space: SearchSpace

    def __call__(self, update: int, /) -> Architecture:
        return self.space.sample(random.Random(update))

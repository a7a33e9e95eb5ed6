"""Which architectures an update trains: a pure function of the update's number, so that all workers agree unasked.

Decisions
- A policy returns the architectures whose gradients one update sums up, on the same batches. With distillation the
  first of them, the largest, teaches the others.
- `uniform` is HAT's. `sandwich` trains both ends of the space at every update and random ones between them (Yu & Huang,
  ICCV 2019). `stratified` gives each decoder depth its turn, so that chance does not decide which depth learns.
"""

import random
from dataclasses import dataclass
from typing import Protocol

from hat_ray.core.determinism import stream_seed
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace
from hat_ray.train.config import TrainConfig

_MOST_DRAWS = 10_000


class Policy(Protocol):
    """The architectures of each update, counted from 0; the largest first where a policy has it."""

    def __call__(self, update: int, /) -> tuple[Architecture, ...]: ...


@dataclass(frozen=True)
class Uniform:
    """One architecture an update, each choice uniform, from a stream of the recipe's seed."""

    space: SearchSpace
    seed: int

    def __call__(self, update: int, /) -> tuple[Architecture, ...]:
        return (self.space.sample(_stream(self.seed, update)),)


@dataclass(frozen=True)
class HatUniform:
    """HAT's own sequence of architectures: `random.seed(update)` before each draw, whatever the seed."""

    space: SearchSpace

    def __call__(self, update: int, /) -> tuple[Architecture, ...]:
        return (self.space.sample(random.Random(update)),)


@dataclass(frozen=True)
class Sandwich:
    """The largest, `randoms` uniform ones, and the smallest: their gradients are summed."""

    space: SearchSpace
    seed: int
    randoms: int

    def __call__(self, update: int, /) -> tuple[Architecture, ...]:
        rng = _stream(self.seed, update)
        between = (self.space.sample(rng) for _ in range(self.randoms))
        return (self.space.largest(), *between, self.space.smallest())


@dataclass(frozen=True)
class StratifiedSampling:
    """One architecture an update; every round of updates, one for each decoder depth, has each depth once."""

    space: SearchSpace
    seed: int

    def __call__(self, update: int, /) -> tuple[Architecture, ...]:
        depths = list(self.space.numbers("decoder_depths"))
        turn, place = divmod(update, len(depths))
        random.Random(stream_seed(self.seed, "depths", turn)).shuffle(depths)
        rng = _stream(self.seed, update)
        for _ in range(_MOST_DRAWS):
            drawn = self.space.sample(rng)
            if drawn.decoder.depth == depths[place]:
                return (drawn,)
        raise AssertionError(f"a decoder depth of {depths[place]} was not drawn in {_MOST_DRAWS} tries")


@dataclass(frozen=True)
class LargestFirst:
    """Only the largest architecture until an update, then another policy: what sorting by importance starts from."""

    space: SearchSpace
    until: int
    then: Policy

    def __call__(self, update: int, /) -> tuple[Architecture, ...]:
        return (self.space.largest(),) if update < self.until else self.then(update)


def policy_for(space: SearchSpace, config: TrainConfig, seed: int, sort_update: int | None = None) -> Policy:
    """Return the policy that a training's settings name; `sort_update` is when channels are sorted, if they are."""
    policy: Policy
    if config.hat_sampling:
        policy = HatUniform(space)
    elif config.policy == "sandwich":
        policy = Sandwich(space, seed, config.sandwich_random)
    elif config.policy == "stratified":
        policy = StratifiedSampling(space, seed)
    else:
        policy = Uniform(space, seed)
    return policy if sort_update is None else LargestFirst(space, sort_update, policy)


def _stream(seed: int, update: int) -> random.Random:
    return random.Random(stream_seed(seed, "architecture", update))

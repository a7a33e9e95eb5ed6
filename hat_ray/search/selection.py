"""Which models are trained from scratch: the winners of the search, and what they are compared with."""

import logging
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from hat_ray.core.determinism import stream_seed
from hat_ray.search.limits import LatencyFunction, Limit
from hat_ray.space.architecture import Architecture
from hat_ray.space.json_field import ArchitectureField
from hat_ray.space.search_space import SearchSpace

log = logging.getLogger(__name__)

DRAWS = 3_000
WIDER = (1.1, 1.25, 1.5, math.inf)
"""How many times slower than its winner a random rival may be, the first bound that enough rivals keep."""
Kind = Literal["winner", "largest", "random"]


@dataclass(frozen=True)
class Chosen:
    """A model to train. A random baseline belongs to the winner of the same device and limit."""

    kind: Kind
    architecture: ArchitectureField
    device: str | None = None
    limit_ms: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "architecture": self.architecture.to_dict(),
            "device": self.device,
            "limit_ms": self.limit_ms,
        }


CHOSEN = TypeAdapter(list[Chosen])
"""What `chosen.json` holds."""


def choose(
    space: SearchSpace,
    winners: Mapping[Limit, Architecture],
    latency_ms: Mapping[str, LatencyFunction],
    *,
    largest: bool,
    randoms: int,
    seed: int,
) -> list[Chosen]:
    """List the winners, their random rivals and the largest architecture, in this order."""
    chosen: list[Chosen] = []
    for limit, architecture in winners.items():
        chosen.append(Chosen("winner", architecture, limit.device, limit.ms))
        rng = random.Random(stream_seed(seed, "rival", limit.device, f"{limit.ms:g}"))
        for rival in slower_rivals(space, architecture, latency_ms[limit.device], randoms, rng):
            chosen.append(Chosen("random", rival, limit.device, limit.ms))
    if largest:
        chosen.append(Chosen("largest", space.largest()))
    return chosen


def slower_rivals(
    space: SearchSpace, winner: Architecture, latency_ms: LatencyFunction, count: int, rng: random.Random
) -> list[Architecture]:
    """Draw architectures uniformly among those predicted to be no faster than the winner, and hardly slower.

    Much slower ones are larger and would win by size alone: the rivals take at most 10 % longer, or where too few such
    are found 25 %, 50 %, or anything. Fewer come back, with a warning, when nothing slower is found.
    """
    needed = float(latency_ms([winner])[0])
    draws = list(dict.fromkeys(draw for _ in range(DRAWS) if (draw := space.sample(rng)) != winner))
    times = latency_ms(draws)
    for bound in WIDER:
        rivals = [draw for draw, ms in zip(draws, times, strict=True) if needed <= ms <= bound * needed][:count]
        if len(rivals) == count:
            return rivals
    log.warning("only %d of %d random architectures as slow as %s were found", len(rivals), count, winner.id)
    return rivals


def distinct(chosen: Sequence[Chosen]) -> list[Architecture]:
    """Return each architecture once: two limits may have one winner."""
    return list(dict.fromkeys(entry.architecture for entry in chosen))

"""Latency limits: from the settings to milliseconds on each device, and the answer to one that cannot be kept."""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hat_ray.errors import SearchError
from hat_ray.latency.device import hardware_of
from hat_ray.search.config import SearchConfig, names_device
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace

logger = logging.getLogger(__name__)

LatencyFunction = Callable[[Sequence[Architecture]], npt.NDArray[np.float64]]
"""Milliseconds of architectures on one device, (N,), such as `Predictor.predict`."""

_ROUNDS = 12
_NEIGHBOURS = 64


@dataclass(frozen=True, order=True)
class Limit:
    """The most milliseconds that an architecture may take on a device."""

    device: str
    ms: float

    def __str__(self) -> str:
        return f"{self.ms:.4g} ms on {self.device}"


def fastest(space: SearchSpace, latency_ms: LatencyFunction, seed: int = 0) -> tuple[Architecture, float]:
    """Return the fastest architecture found and its milliseconds.

    It is nearly always the smallest one; a short local search looks whether a neighbour is predicted to be faster.
    """
    rng = random.Random(seed)
    best = space.smallest()
    best_ms = float(latency_ms([best])[0])
    for round_ in range(_ROUNDS):
        probability = 0.3 if round_ % 2 else 0.05
        neighbours = [space.mutate(best, rng, probability) for _ in range(_NEIGHBOURS)]
        times = latency_ms(neighbours)
        place = int(np.argmin(times))
        if times[place] < best_ms:
            best, best_ms = neighbours[place], float(times[place])
    return best, best_ms


def resolve_limits(
    space: SearchSpace, latency_ms: Mapping[str, LatencyFunction], config: SearchConfig
) -> tuple[Limit, ...]:
    """Return every device's limits in milliseconds; raise SearchError where one cannot be kept."""
    if isinstance(config.limits_ms, dict):
        unknown = [key for key in config.limits_ms if not any(names_device(key, device) for device in latency_ms)]
        if unknown:
            raise SearchError(f"search.limits_ms names the device {unknown[0]}; known are {', '.join(latency_ms)}")
    asked: list[tuple[Limit, float]] = []
    for device, function in latency_ms.items():
        fastest_ms = fastest(space, function)[1]
        largest_ms = float(function([space.largest()])[0])
        limits = config.limits_of(device) if config.limits_ms else _from_fractions(config, fastest_ms, largest_ms)
        for ms in dict.fromkeys(limits):
            asked.append((Limit(device, ms), fastest_ms))
            if ms >= largest_ms:
                logger.warning("%s excludes nothing: the largest architecture takes %.4g ms", asked[-1][0], largest_ms)
    return _reachable(asked)


def _reachable(asked: Sequence[tuple[Limit, float]]) -> tuple[Limit, ...]:
    """Return the limits that can be kept, of limits with their device's fastest milliseconds.

    One that a device cannot keep is left out where the same hardware keeps it with another runtime; else it is refused.
    """
    kept = [limit for limit, fastest_ms in asked if limit.ms >= fastest_ms]
    served = {(hardware_of(limit.device), limit.ms) for limit in kept}
    for limit, fastest_ms in asked:
        if (hardware_of(limit.device), limit.ms) not in served:
            require_reachable(limit, fastest_ms)
        elif limit not in kept:
            logger.warning("%s cannot be kept, the fastest takes %.4g ms: another runtime keeps it", limit, fastest_ms)
    return tuple(kept)


def require_reachable(limit: Limit, fastest_ms: float) -> None:
    """Raise SearchError when no architecture keeps a limit."""
    if limit.ms < fastest_ms:
        raise SearchError(
            f"no architecture keeps {limit}; the fastest is predicted to take {_round_up(fastest_ms)} ms: "
            f"raise search.limits_ms or widen the space"
        )


def _from_fractions(config: SearchConfig, fastest_ms: float, largest_ms: float) -> list[float]:
    width = max(largest_ms - fastest_ms, 0.0)
    # six digits make a readable limit, but rounding may not push the lowest one below the fastest architecture
    return [max(float(f"{fastest_ms + part * width:.6g}"), fastest_ms) for part in config.limits_fraction]


def _round_up(ms: float) -> str:
    """Return four digits that are not below `ms`, so that the limit we name can be kept."""
    digits = float(f"{ms:.4g}")
    return f"{digits if digits >= ms else float(f'{ms * 1.0005:.4g}'):g}"

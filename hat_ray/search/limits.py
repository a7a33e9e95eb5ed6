"""Latency limits: from the settings to milliseconds on each device, and the answer to one that cannot be kept."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from hat_ray.core.determinism import one_blas_thread
from hat_ray.errors import SearchError
from hat_ray.latency.device import hardware_of
from hat_ray.latency.quantities import LATENCY
from hat_ray.search.config import SearchConfig, names_device
from hat_ray.space.architecture import Architecture
from hat_ray.space.genes import GeneCode, Rows
from hat_ray.space.search_space import SearchSpace

logger = logging.getLogger(__name__)

LatencyFunction = Callable[[Sequence[Architecture]], npt.NDArray[np.float64]]
"""Milliseconds of architectures on one device, (N,), such as `Predictor.predict`."""

_FIRST = 2000
"""Architectures with equal layers that the search for the fastest begins with: random layers are all alike on average,
and a predictor may be lowest in a corner of the space."""
_CHILDREN = 256
_BEST = 48
"""Those of a round that have children."""
_IN_VAIN = 4
"""Rounds without a faster one after which it ends."""
_ROUNDS = 40
_CROSSED = 0.5
_MUTATIONS = (0.02, 0.05, 0.1, 0.3)


@dataclass(frozen=True, order=True)
class Limit:
    """The most milliseconds that an architecture may take on a device."""

    device: str
    ms: float

    def __str__(self) -> str:
        return f"{self.ms:.4g} ms on {self.device}"


@dataclass(frozen=True)
class Measured:
    """A quantity as it was measured, and the relative standard error of that; None: not known."""

    value: float
    relative_error: float | None = None


class Verdict(StrEnum):
    """Whether a measured model keeps a limit."""

    KEPT = "kept"
    WITHIN_ERROR = "within error"
    """Above the limit by less than two standard errors of the measurement, and by less than a tenth."""
    MISSED = "missed"
    NOT_MEASURED = "not measured"

    @property
    def holds(self) -> bool:
        """Whether the measurement does not contradict the limit."""
        return self in (Verdict.KEPT, Verdict.WITHIN_ERROR)


_ERRORS = 2.0
"""Standard errors by which a measurement may be above a limit and still be within its error."""
_LARGEST_ERROR = 0.05
"""Relative error that counts in favour of a model at most: a disturbed machine must not make every limit hold."""


def verdict(limit: Limit, measured: Mapping[str, Measured]) -> Verdict:
    """Compare what was measured, by quantity, with a limit: the one rule of search, terminal, page and comparison."""
    found = measured.get(LATENCY)
    if found is None:
        return Verdict.NOT_MEASURED
    if found.value <= limit.ms:
        return Verdict.KEPT
    within = found.value * (1 - _ERRORS * min(found.relative_error or 0.0, _LARGEST_ERROR)) < limit.ms
    return Verdict.WITHIN_ERROR if within else Verdict.MISSED


@one_blas_thread()
def fastest(space: SearchSpace, latency_ms: LatencyFunction, seed: int = 0) -> tuple[Architecture, float]:
    """Return the fastest architecture found and its milliseconds.

    It is nearly always the smallest one; a short evolution looks whether another is predicted to be faster. Of equals
    it is the first: the smallest, where no other is faster.
    """
    code, rng = GeneCode(space), np.random.default_rng(seed)
    smallest = code.encode([space.smallest()])
    rows = np.unique(np.concatenate([smallest, code.canonical(_of_equal_layers(code, rng))]), axis=0)
    rows = np.concatenate([smallest, rows[(rows != smallest).any(axis=1)]])
    seen = {row.tobytes() for row in rows}
    best, times, in_vain = rows[:0], np.zeros(0), 0
    for _ in range(_ROUNDS):
        before = times.min(initial=np.inf)
        found = np.asarray(latency_ms(code.decoded(rows)), dtype=np.float64)
        best, times = np.concatenate([best, rows]), np.concatenate([times, found])
        order = np.argsort(times, kind="stable")[:_BEST]
        best, times = best[order], times[order]
        in_vain = 0 if times[0] < before else in_vain + 1
        first, second = rng.integers(len(best), size=(2, _CHILDREN))
        crosses = rng.random(_CHILDREN) < _CROSSED
        rows = np.unique(code.bred(best[first], best[second], crosses, _MUTATIONS, rng), axis=0)
        rows = rows[[row.tobytes() not in seen for row in rows]]
        seen.update(row.tobytes() for row in rows)
        if in_vain == _IN_VAIN or len(rows) == 0:
            break
    return code.decode(best[0].tolist()), float(times[0])


def _of_equal_layers(code: GeneCode, rng: np.random.Generator) -> Rows:
    rows = code.random_rows(_FIRST, rng)
    for columns in code.columns.values():
        rows[:, columns] = rows[:, columns[:1]]
    return rows


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

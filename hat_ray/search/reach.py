"""Which limits architectures can keep: from the settings to limits, and the answer to one that none keeps."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hat_ray.core.determinism import one_blas_thread
from hat_ray.core.text import bound_digits, significant, text_above, text_exact
from hat_ray.errors import SearchError
from hat_ray.latency.device import names_device
from hat_ray.latency.lookup.slugs import hardware_of
from hat_ray.latency.quantities import LATENCY, QUANTITIES
from hat_ray.search.config import SearchConfig
from hat_ray.search.limits import LatencyFunction, Limit, Predictions, QuantityFunction
from hat_ray.space.architecture import Architecture
from hat_ray.space.genes import GeneCode, Rows
from hat_ray.space.search_space import SearchSpace

logger = logging.getLogger(__name__)

_FIRST = 2000
"""Architectures with equal layers that the search for the fastest begins with: random layers are all alike on average,
and a predictor may be lowest in a corner of the space."""
_CHILDREN = 256
_BEST = 48
"""Those of a round that have children."""
_IN_VAIN = 4
"""Rounds without a better one after which it ends."""
_ROUNDS = 40
_CROSSED = 0.5
_MUTATIONS = (0.02, 0.05, 0.1, 0.3)
_COUNTABLE = 4096
"""Most networks of a space that are all looked at for a limit on several quantities."""


@one_blas_thread()
def fastest(space: SearchSpace, latency_ms: LatencyFunction, seed: int = 0) -> tuple[Architecture, float]:
    """Return the fastest architecture found and its milliseconds.

    It is nearly always the smallest one; a short evolution looks whether another is predicted to be faster. Of equals
    it is the first: the smallest, where no other is faster.
    """
    code, rng = GeneCode(space), np.random.default_rng(seed)
    return _least(code, latency_ms, _of_equal_layers(code, rng), rng)


@one_blas_thread()
def surest(
    space: SearchSpace, functions: Mapping[str, QuantityFunction], limit: Limit, seed: int = 0
) -> tuple[Architecture, dict[str, float]]:
    """Return the architecture that keeps a limit with the most room, or else misses it by least, and its values."""

    def excess(architectures: Sequence[Architecture]) -> np.ndarray:
        return limit.excess({name: np.asarray(functions[name](architectures)) for name in limit.by_quantity})

    code, rng = GeneCode(space), np.random.default_rng(seed)
    if limit.has_latency_only:
        best = fastest(space, functions[LATENCY], seed)[0]
    elif space.size() <= _COUNTABLE:
        every = code.all()
        best = every[int(np.argmin(excess(every)))]
    else:
        first = np.concatenate([_of_equal_layers(code, rng), code.random_rows(_FIRST, rng)])
        best = _least(code, excess, first, rng)[0]
    return best, {name: float(functions[name]([best])[0]) for name in {LATENCY: 0.0, **limit.by_quantity}}


def _least(
    code: GeneCode, function: QuantityFunction, first: Rows, rng: np.random.Generator
) -> tuple[Architecture, float]:
    """Return the architecture with the least value that a short evolution finds, and the value."""
    smallest = code.encode([code.space.smallest()])
    rows = np.unique(np.concatenate([smallest, code.canonical(first)]), axis=0)
    rows = np.concatenate([smallest, rows[(rows != smallest).any(axis=1)]])
    seen = {row.tobytes() for row in rows}
    best, values, in_vain = rows[:0], np.zeros(0), 0
    for _ in range(_ROUNDS):
        before = values.min(initial=np.inf)
        found = np.asarray(function(code.decoded(rows)), dtype=np.float64)
        best, values = np.concatenate([best, rows]), np.concatenate([values, found])
        order = np.argsort(values, kind="stable")[:_BEST]
        best, values = best[order], values[order]
        in_vain = 0 if values[0] < before else in_vain + 1
        mothers, fathers = rng.integers(len(best), size=(2, _CHILDREN))
        crosses = rng.random(_CHILDREN) < _CROSSED
        rows = np.unique(code.bred(best[mothers], best[fathers], crosses, _MUTATIONS, rng), axis=0)
        rows = rows[[row.tobytes() not in seen for row in rows]]
        seen.update(row.tobytes() for row in rows)
        if in_vain == _IN_VAIN or len(rows) == 0:
            break
    return code.decode(best[0].tolist()), float(values[0])


def _of_equal_layers(code: GeneCode, rng: np.random.Generator) -> Rows:
    rows = code.random_rows(_FIRST, rng)
    for columns in code.columns.values():
        rows[:, columns] = rows[:, columns[:1]]
    return rows


@dataclass(frozen=True)
class _Asked:
    """A limit, the architecture's values that are nearest to it, and what decides that."""

    limit: Limit
    nearest: Mapping[str, float]
    space: SearchSpace
    functions: Mapping[str, QuantityFunction]
    confidence: float | None = None

    @property
    def is_kept(self) -> bool:
        return self.limit.keeps(self.nearest)

    @property
    def why_not(self) -> str:
        """Why no architecture keeps the limit, with values that one does keep: a recipe that states them is taken."""
        sure = "" if self.confidence is None else f" with search.limit_confidence {self.confidence:g}"
        if self.limit.has_latency_only:
            verb = "is predicted to take" if self.confidence is None else "stays below"
            return f"the fastest {verb} {text_above(self.nearest[LATENCY])} ms{sure}"
        broken = self.limit.broken(self.nearest)
        titles = " and ".join(QUANTITIES.facts(name).title for name in broken)
        held = ", ".join(f"{name} {value}" for name, value in self._values_that_hold().items())
        fails = "fails" if len(broken) == 1 else "fail"
        return f"{titles} {fails}, the nearest values that hold{sure} are {held}"

    def _values_that_hold(self) -> dict[str, str]:
        """Return the nearest values by quantity, as text: looked for again as a limit, until the search finds them."""
        found, nearest = {name: text_exact(most) for name, most in self.limit.bounds}, self.nearest
        for _ in range(_LOOKS):
            stated = Limit.of(self.limit.device, **{name: float(text) for name, text in found.items()})
            if stated.keeps(nearest):
                break
            found |= {name: text_above(nearest[name]) for name in stated.broken(nearest)}
            stated = Limit.of(self.limit.device, **{name: float(text) for name, text in found.items()})
            nearest = surest(self.space, self.functions, stated)[1]
        return found


_LOOKS = 8
"""Values, at most, that are looked for as a limit: a short evolution may not find again what another has found."""


def resolve_limits(space: SearchSpace, predictions: Predictions, config: SearchConfig) -> tuple[Limit, ...]:
    """Return every device's limits; raise SearchError where one cannot be kept."""
    key, by_device = config.stated
    if isinstance(by_device, dict):
        unknown = [name for name in by_device if not any(names_device(name, device) for device in predictions)]
        if unknown:
            raise SearchError(f"{key} names the device {unknown[0]}; known are {', '.join(predictions)}")
    asked: list[_Asked] = []
    for device, functions in predictions.items():
        fastest_ms = fastest(space, functions[LATENCY])[1]
        largest = {name: float(function([space.largest()])[0]) for name, function in functions.items()}
        bounds = config.limits_of(device) or _from_fractions(config, fastest_ms, largest[LATENCY])
        for limit in dict.fromkeys(Limit.of(device, **some) for some in bounds):
            nearest = {LATENCY: fastest_ms} if limit.has_latency_only else surest(space, functions, limit)[1]
            asked.append(_Asked(limit, nearest, space, functions, config.limit_confidence))
            if limit.keeps(largest):
                logger.warning("%s excludes nothing: the largest architecture keeps it", limit)
    return _reachable(asked, key)


def _reachable(asked: Sequence[_Asked], key: str) -> tuple[Limit, ...]:
    """Return the limits that can be kept.

    One that a device cannot keep is left out where the same hardware keeps it with another runtime; else it is refused.
    """
    kept = [one.limit for one in asked if one.is_kept]
    served = {(hardware_of(limit.device), limit.bounds) for limit in kept}
    for one in asked:
        if (hardware_of(one.limit.device), one.limit.bounds) not in served:
            _require_kept(one, key)
        elif not one.is_kept:
            logger.warning("%s cannot be kept, %s: another runtime keeps it", one.limit, one.why_not)
    return tuple(kept)


def imprecise_bounds(
    space: SearchSpace, predictions: Predictions, limits: Sequence[Limit], errors: Mapping[str, Mapping[str, float]]
) -> Iterator[str]:
    """Yield in a line each bound beside the latency that its quantity's predictor is too inexact for.

    That is where its held-out error exceeds a tenth of the distance from the least value in the space to the bound.
    `errors` holds mean relative errors by device and quantity, of learnt quantities.
    """
    bounds = dict.fromkeys((limit.device, *bound) for limit in limits for bound in limit.group.bounds)
    for device, name, most in bounds:
        error = errors.get(device, {}).get(name)
        if error is None:
            continue
        least = fastest(space, predictions[device][name])[1]
        if error * most > _PRECISE * (most - least):
            unit = QUANTITIES.facts(name).unit
            yield (
                f"{name} should be predicted to within a tenth of the distance from its least value to the bound, "
                f"{bound_digits(least)} to {bound_digits(most)} {unit} on {device}, got an error of "
                f"{100 * error:.1f} % ({significant(error * most)} {unit}): time more with a larger latency.samples, "
                "or raise the bound"
            )


_PRECISE = 0.1


def is_reachable(space: SearchSpace, functions: Mapping[str, QuantityFunction], limit: Limit) -> bool:
    """Report whether some architecture is predicted to keep a limit; warn where none is."""
    asked = _Asked(limit, surest(space, functions, limit)[1], space, functions)
    if not asked.is_kept:
        logger.warning("%s cannot be kept: %s", limit, asked.why_not)
    return asked.is_kept


def require_reachable(
    space: SearchSpace, functions: Mapping[str, QuantityFunction], limit: Limit, nearest: Mapping[str, float]
) -> None:
    """Raise SearchError when no architecture keeps a limit, by the values of the one that is nearest to it."""
    _require_kept(_Asked(limit, nearest, space, functions), "the limit")


def _require_kept(asked: _Asked, key: str) -> None:
    """Raise SearchError when no architecture keeps a limit; `key` is the setting that states it."""
    if not asked.is_kept:
        raise SearchError(f"no architecture keeps {asked.limit}; {asked.why_not}: raise {key} or widen the space")


def _from_fractions(config: SearchConfig, fastest_ms: float, largest_ms: float) -> list[dict[str, float]]:
    width = max(largest_ms - fastest_ms, 0.0)
    # six digits make a readable limit, but rounding may not push the lowest one below the fastest architecture
    return [{LATENCY: max(float(f"{fastest_ms + part * width:.6g}"), fastest_ms)} for part in config.limits_fraction]

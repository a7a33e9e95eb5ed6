"""Predictors of quantities beside the latency, one a device and quantity: the same prior and trees, on its values.

Decisions
- A quantity that is fitted as a ratio to the latency is predicted as that ratio times the predicted latency. Its
  held-out error and interval are of the product, so they include the latency's error.
- The values of a measurement in a process of its own follow no slow stretch of the device: no row is set aside.
- What a predictor predicts lies with it under `<device>.<quantity>`, beside the latency's `<device>`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from hat_ray.core.determinism import stream_seed
from hat_ray.errors import PredictorError
from hat_ray.latency.device import slugify
from hat_ray.latency.quantities import LATENCY, QUANTITIES, Computed, DeviceProfile, Recorded
from hat_ray.latency.quantity_rows import Values, known_values, require_available, require_known
from hat_ray.latency.timing.job import TimingJob
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.quality import FOLDS_OF_COVERAGE, Quality, fold_of_rows, too_few_to_cover
from hat_ray.predictor.rows import TimedRows, rows_of
from hat_ray.predictor.slow_periods import BoolArray
from hat_ray.predictor.store import load_predictor, save_predictor
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import FloatArray
from hat_ray.storage.folder import Folder

COVERAGE = 0.9
"""Share of new rows that the interval is asked to cover."""


class Predicts(Protocol):
    """What a search asks about one quantity on one device; the latency's `Predictor` is one."""

    def predict(self, architectures: Sequence[Architecture], quantile: float | None = None) -> FloatArray:
        """Return values, (N,); with `quantile`, what the quantity stays below with that probability."""

    def interval(self, architectures: Sequence[Architecture], coverage: float = 0.9) -> tuple[FloatArray, FloatArray]:
        """Return the values, (N,) and (N,), between which the quantity lies with probability `coverage`."""


@dataclass(frozen=True)
class ComputedQuantity:
    """A quantity that follows from the architecture: every interval is the value itself."""

    quantity: Computed
    profile: DeviceProfile

    def predict(self, architectures: Sequence[Architecture], quantile: float | None = None) -> FloatArray:
        """Return values, (N,)."""
        return self.quantity.compute(architectures, self.profile)

    def interval(self, architectures: Sequence[Architecture], coverage: float = 0.9) -> tuple[FloatArray, FloatArray]:
        """Return the values twice."""
        values = self.predict(architectures)
        return values, values


@dataclass(frozen=True, eq=False)
class QuantityPredictor:
    """A learnt quantity on one device."""

    name: str
    own: Predictor
    """Of its values, or of its ratio to the latency; its held-out rows are those of the quantity itself."""
    latency: Predictor | None
    """What the ratio is multiplied with; None: `own` predicts values."""

    @property
    def quality(self) -> Quality:
        """The held-out error."""
        return self.own.quality

    def predict(self, architectures: Sequence[Architecture], quantile: float | None = None) -> FloatArray:
        """Return values, (N,); with `quantile`, what the quantity stays below with that probability."""
        return self.own.predict(architectures, quantile) * self._scale(architectures)

    def interval(self, architectures: Sequence[Architecture], coverage: float = 0.9) -> tuple[FloatArray, FloatArray]:
        """Return the values, (N,) and (N,), between which the quantity lies with probability `coverage`."""
        low, high = self.own.interval(architectures, coverage)
        scale = self._scale(architectures)
        return low * scale, high * scale

    def _scale(self, architectures: Sequence[Architecture]) -> FloatArray:
        return np.ones(len(architectures)) if self.latency is None else self.latency.predict(architectures)


@dataclass(frozen=True)
class QuantityQuality:
    """How well one quantity is predicted on a device, on architectures that were not fitted to."""

    name: str
    quality: Quality
    median_error_pct: float
    """Median of the absolute errors, in per cent of the measured value."""
    coverage_pct: float | None
    """Share of rows within the 90 % interval of a predictor that had not seen them; None: see `coverage_unknown`."""
    coverage_unknown: str | None = None
    """Why `coverage_pct` is None, in one line."""


@dataclass(frozen=True, eq=False)
class QuantityRows:
    """What a device's rows know of one quantity, in the order of timing."""

    architectures: tuple[Architecture, ...]
    values: FloatArray
    latency_ms: FloatArray | None
    """Where the quantity is learnt as a ratio to it."""

    @classmethod
    def of(cls, values: Values, latency: Values | None) -> "QuantityRows":
        """Align values with latencies; architectures without both are left out."""
        known = [one for one in values if latency is None or one in latency]
        times = None if latency is None else np.array([latency[one] for one in known])
        return cls(tuple(known), np.array([values[one] for one in known]), times)

    def at(self, kept: BoolArray) -> "QuantityRows":
        """Return the rows of a mask, (N,)."""
        some = tuple(one for one, is_kept in zip(self.architectures, kept, strict=True) if is_kept)
        return QuantityRows(some, self.values[kept], None if self.latency_ms is None else self.latency_ms[kept])

    @property
    def learnt(self) -> TimedRows:
        """What the predictor is fitted to: the values, or their ratios to the latency."""
        ratios = self.values if self.latency_ms is None else self.values / self.latency_ms
        return rows_of(self.architectures, ratios)


def quantity_rows(job: TimingJob, slug: str, names: Sequence[str]) -> dict[str, QuantityRows]:
    """Read what the table knows of learnt quantities on a device; refuse one that it does not know in one line."""
    learnt = [name for name in names if not isinstance(QUANTITIES.load(name), Computed)]
    if not learnt:
        return {}
    where = job.table, job.spaces, slug, job.workload_on(slug)
    width = job.space.qkv_dim  # no column shows it: models scaled by hand have others
    known = {
        name: {one: value for one, value in values.items() if one.qkv_dim == width}
        for name, values in known_values(*where, [LATENCY, *learnt]).items()
    }
    found = {}
    for name in learnt:
        require_known(name, slug, known[name])
        quantity = QUANTITIES.load(name)
        of_latency = isinstance(quantity, Recorded) and quantity.of_latency
        found[name] = QuantityRows.of(known[name], known[LATENCY] if of_latency else None)
    return found


def fit_quantity(
    name: str, rows: QuantityRows, config: PredictorConfig, latency: Predictor, seed: int
) -> QuantityPredictor:
    """Fit one quantity of the device that `latency` is of; raise PredictorError where it has too few rows."""
    calm = config.model_copy(update={"set_slow_aside": False})
    seed = stream_seed(seed, "predictor", latency.device, name)
    try:
        own = Predictor.fit(rows.learnt, calm, latency.device, latency.space_id, seed)
    except PredictorError as error:
        raise PredictorError(f"{name}: {error}") from error
    if rows.latency_ms is None:
        return QuantityPredictor(name, own, None)
    held_out = replace(
        own.held_out,
        measured_ms=rows.values,
        predicted_ms=own.held_out.predicted_ms * _held_out_latency(latency, rows.architectures),
    )
    return QuantityPredictor(name, replace(own, held_out=held_out), latency)


def assess_quantity(predictor: QuantityPredictor, rows: QuantityRows, config: PredictorConfig) -> QuantityQuality:
    """Judge a predictor that was fitted to `rows` with `config`."""
    held_out = predictor.own.held_out
    errors = np.abs(held_out.predicted_ms / held_out.measured_ms - 1)
    costs = rows.learnt.costs
    unknown = too_few_to_cover(costs, fold_of_rows(costs, FOLDS_OF_COVERAGE, seed=0), config.min_rows)
    coverage = _coverage(predictor, rows, config) if unknown is None else None
    return QuantityQuality(predictor.name, predictor.quality, float(100 * np.median(errors)), coverage, unknown)


def quantity_predictions(
    names: Sequence[str], profile: DeviceProfile, learnt: Mapping[str, QuantityPredictor]
) -> dict[str, Predicts]:
    """Return the predictor of each named quantity beside the latency on a device."""
    found: dict[str, Predicts] = {}
    for name in names:
        quantity = QUANTITIES.load(name)
        if isinstance(quantity, Computed):
            require_available(name, profile)
            found[name] = ComputedQuantity(quantity, profile)
        else:
            found[name] = learnt[name]
    return found


def timed_quantities(
    job: TimingJob, slug: str, names: Sequence[str], profile: DeviceProfile, architectures: Sequence[Architecture]
) -> dict[Architecture, dict[str, float]]:
    """Return the known values of architectures by quantity: measured, or computed."""
    computed = {name: quantity for name in names if isinstance(quantity := QUANTITIES.load(name), Computed)}
    learnt = [name for name in names if name not in computed]
    known = known_values(job.table, job.spaces, slug, job.workload_on(slug), learnt) if learnt else {}
    found = {one: {name: values[one] for name, values in known.items() if one in values} for one in architectures}
    for name, exact in computed.items():
        for one, value in zip(architectures, exact.compute(architectures, profile).tolist(), strict=True):
            found[one][name] = value
    return found


def fit_quantities(
    job: TimingJob, latency: Predictor, names: Sequence[str], config: PredictorConfig, seed: int
) -> dict[str, QuantityPredictor]:
    """Read and fit the learnt ones of some quantities of the device that `latency` is of."""
    rows = quantity_rows(job, latency.device, names)
    return {name: fit_quantity(name, some, config, latency, seed) for name, some in rows.items()}


def save_quantities(predictors: Mapping[str, QuantityPredictor], folder: Folder) -> None:
    """Write a device's predictors beside that of its latency."""
    for name, predictor in predictors.items():
        save_predictor(predictor.own, folder, _file(predictor.own.device, name))


def load_quantities(folder: Folder, latency: Predictor, names: Sequence[str]) -> dict[str, QuantityPredictor]:
    """Read the predictors of the learnt ones of some quantities of the device that `latency` is of."""
    found = {}
    for name in names:
        quantity = QUANTITIES.load(name)
        if not isinstance(quantity, Computed):
            own = load_predictor(folder, _file(latency.device, name), latency.device, latency.space_id)
            of_latency = isinstance(quantity, Recorded) and quantity.of_latency
            found[name] = QuantityPredictor(name, own, latency if of_latency else None)
    return found


def _file(device: str, name: str) -> str:
    return f"{device}.{slugify(name)}"


def _held_out_latency(latency: Predictor, architectures: Sequence[Architecture]) -> FloatArray:
    """Return each architecture's predicted milliseconds, (N,): of the fit without it where it was fitted to."""
    unseen = dict(zip(latency.held_out.names, latency.held_out.predicted_ms.tolist(), strict=True))
    fitted = latency.predict(architectures)
    return np.array([unseen.get(one.id, ms) for one, ms in zip(architectures, fitted.tolist(), strict=True)])


def _coverage(predictor: QuantityPredictor, rows: QuantityRows, config: PredictorConfig) -> float:
    fold = fold_of_rows(rows.learnt.costs, FOLDS_OF_COVERAGE, seed=0)
    device, space, within = predictor.own.device, predictor.own.space_id, []
    for k in range(int(fold.max()) + 1):
        rest, part = rows.at(fold != k), rows.at(fold == k)
        latency = predictor.own
        if rest.latency_ms is not None:
            latency = Predictor.fit(rows_of(rest.architectures, rest.latency_ms), config, device, space, k)
        low, high = fit_quantity(predictor.name, rest, config, latency, k).interval(part.architectures, COVERAGE)
        within += [*((low <= part.values) & (part.values <= high))]
    return float(100 * np.mean(within))

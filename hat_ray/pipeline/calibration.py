"""How many architectures the latency stage times: rounds until every device can be predicted, or the time is spent.

Decisions
- The first round is the fewest rows that a predictor is fitted to, whatever the time: without them nothing follows.
- Each later round is half the rows there are: few rounds, each with a fit between.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence

from hat_ray.core.determinism import stream_seed
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.fleet.plan import Order
from hat_ray.latency.lookup.devices import count_rows
from hat_ray.latency.output import Calibration
from hat_ray.latency.quantity_rows import measured_names
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.pipeline.context import timed_of
from hat_ray.predictor.design import next_architectures
from hat_ray.predictor.fit import fit_device, source_predictors, table_rows
from hat_ray.predictor.predictor import Predictor
from hat_ray.recipe import Recipe
from hat_ray.space.architecture import Architecture

log = logging.getLogger(__name__)

_GROWTH = 1.5


class Budget:
    """The minutes of a stage: what is left of them since they began."""

    def __init__(self, minutes: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._minutes, self._clock = minutes, clock
        self._began: float | None = None

    def begin(self) -> None:
        """Begin to count, once."""
        self._began = self._clock() if self._began is None else self._began

    @property
    def left_s(self) -> float:
        if self._minutes is None or self._began is None:
            return math.inf
        return max(0.0, 60 * self._minutes - (self._clock() - self._began))

    @property
    def is_spent(self) -> bool:
        return self.left_s == 0

    def __str__(self) -> str:
        return f"latency.max_minutes ({self._minutes:g})"


class FixedNumber:
    """Rounds that time `latency.samples` architectures, drawn at random."""

    def __init__(self, job: TimingJob, recipe: Recipe, budget: Budget) -> None:
        every = choose_architectures(job.space, job.config.samples, stream_seed(recipe.seed, "latency"))
        least = len(every) if job.config.max_minutes is None else recipe.predictor.min_rows
        self._orders = [part for part in (every[:least], every[least:]) if part]
        self._budget = budget

    def __call__(self, devices: Sequence[DeviceInfo]) -> Order | None:
        self._budget.begin()
        if not self._orders:
            return None
        first = len(self._orders) > 1 or self._budget.left_s == math.inf
        return Order(self._orders.pop(0), math.inf if first else self._budget.left_s)


class UntilPredicted:
    """Rounds of the most informative architectures, until each device's predictor errs by less than `error`.

    Rows of the table count: a killed call resumes where it was, and a device that is known well enough is not timed at
    all.
    """

    def __init__(self, job: TimingJob, recipe: Recipe, error: float, budget: Budget) -> None:
        self._job, self._recipe, self._error, self._budget = job, recipe, error, budget
        self._lenders = source_predictors(job, table_rows(job, recipe.predictor), recipe.predictor, recipe.seed)
        self._completed = False
        self.found: dict[str, Calibration] = {}
        """How well each device is predicted."""

    def __call__(self, devices: Sequence[DeviceInfo]) -> Order | None:
        """Return the next round; the first order is empty: it finds out which devices there are."""
        if not devices:
            return Order(())
        self._budget.begin()
        known = self._timed_on_all(devices)
        if not self._completed:
            self._completed = True
            if known and any(measured_names(self._job.quantities_of(device.slug)) for device in devices):
                return Order(known)  # those whose rows lack some quantities
        unmet: list[Predictor] = []
        if self._can_be_fitted(devices, known):
            unmet = self._fit(devices)
            order = None
            if unmet and not self._budget.is_spent:
                order = self._order(known, unmet, self._budget.left_s)
            if order is None:
                self._warn(unmet)
            return order
        return self._order(known, self._lenders, math.inf)

    def _timed_on_all(self, devices: Sequence[DeviceInfo]) -> list[Architecture]:
        """Return the architectures that the table has on every device, in the order of timing on the first."""
        timed = [timed_of(self._job, device.slug) for device in devices]
        both = [one for one in timed[0] if all(one in other for other in timed)]
        return [one for one in both if self._job.space.contains(one)]

    def _can_be_fitted(self, devices: Sequence[DeviceInfo], known: Sequence[Architecture]) -> bool:
        """Return whether every device has rows enough; rows of containing spaces count as well."""
        least = self._recipe.predictor.min_rows
        if len(self._job.spaces) == 1:
            return len(known) >= least
        return all(count_rows(self._job, device.slug) >= least for device in devices)

    def _fit(self, devices: Sequence[DeviceInfo]) -> list[Predictor]:
        """Fit every device; return the predictors that err too much."""
        unmet = []
        for slug in (device.slug for device in devices):
            lent = [one for one in self._lenders if one.device != slug]
            predictor = fit_device(self._job, slug, self._recipe.predictor, self._recipe.seed, lent)
            self.found[slug] = _judge(predictor, self._error)
            log.info("%s: error %.1f %% after %d rows", slug, 100 * self.found[slug].error, self.found[slug].rows)
            if not self.found[slug].met:
                unmet.append(predictor)
        return unmet

    def _order(self, known: Sequence[Architecture], predictors: Sequence[Predictor], within_s: float) -> Order | None:
        """Choose a round's architectures: first the fewest that can be fitted to, then half the number timed."""
        count = max(self._recipe.predictor.min_rows - len(known), math.ceil((_GROWTH - 1) * len(known)))
        seed = stream_seed(self._recipe.seed, "latency")
        most = self._job.config.samples - len(known)
        more = next_architectures(self._job.space, known, min(count, most), seed, predictors) if most > 0 else []
        return Order(more, within_s) if more else None

    def _warn(self, unmet: Sequence[Predictor]) -> None:
        for one in unmet:
            found = self.found[one.device]
            bound = self._budget if self._budget.is_spent else f"latency.samples ({self._job.config.samples})"
            log.warning(
                "%s: the error is %.1f %% after %d rows, above the target_error of %.1f %%: raise %s, or ask for less",
                *(one.device, 100 * found.error, found.rows, 100 * self._error, bound),
            )


def _judge(predictor: Predictor, error: float) -> Calibration:
    quality = predictor.quality
    upper = (quality.mape + quality.mape_error) / 100
    return Calibration(len(predictor.held_out.measured_ms), upper, upper < error)

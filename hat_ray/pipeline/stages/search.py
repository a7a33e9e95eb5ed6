"""Stage `search`: evolve architectures under every device's limits, and time the winners on their devices.

SuperTransformer + validation set + predictors -> candidates, frontiers, winners, and predictors that learned from them
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from hat_ray.core.codec import read_typed, write_sealed
from hat_ray.core.determinism import stream_seed
from hat_ray.errors import LatencyError
from hat_ray.pipeline.context import PREDICTORS, devices_of, predictors_of, scorer_of, timed_of, timing_job
from hat_ray.pipeline.execution import SearchPlan
from hat_ray.pipeline.stage import Context
from hat_ray.predictor.fit import donors_in, fit_device, rows_of_device
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.store import load_predictor, save_predictor
from hat_ray.search.early_stopping import early_stopping_summary
from hat_ray.search.engine.device_latency import DeviceLatency, Times
from hat_ray.search.engine.measured import SCALE_TOLERANCE, MeasuredSearch, adopt
from hat_ray.search.engine.session import Phase
from hat_ray.search.limits import LatencyFunction, Limit, resolve_limits
from hat_ray.search.warm_start import earlier_candidates
from hat_ray.search.winners import describe_winner, write_files
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder

log = logging.getLogger(__name__)

_BEGAN = "began.json"
"""Which predictors a search fitted again before its first phase."""


class _Began(TypedDict):
    fitted_again: list[str]


_AGAIN = TypeAdapter(_Began)
_BEFORE = -1
"""The round in which it did."""


def search(context: Context, folder: Folder) -> dict[str, Any]:
    """Evolve architectures under every device's limits."""
    recipe, space = context.recipe, context.recipe.space.build()
    devices = RunDevices(context, folder, predictors_of(context))
    known = devices.known()

    def resolve(known: Mapping[str, DeviceLatency]) -> Sequence[Limit]:
        return resolve_limits(space, {slug: one.bound_ms for slug, one in known.items()}, recipe.search)

    limits = resolve(known)
    scorer = scorer_of(context)
    scored_by = scorer.fingerprint
    if recipe.search.warm_start:
        adopt(folder, earlier_candidates(recipe.search.warm_start, space, scored_by), known)
    plan = SearchPlan(space, {}, limits, recipe.search, folder, stream_seed(recipe.seed, "search"))

    def run_phase(latency_ms: Mapping[str, LatencyFunction], limits: Sequence[Limit], phase: Phase) -> None:
        label = "searching" if phase.number == 0 else f"searching on, after measurement {phase.number}"
        with context.progress(label) as progress:
            context.execution.search(replace(plan, latency_ms=latency_ms, limits=limits, phase=phase), scorer, progress)

    search = MeasuredSearch(
        *(space, limits, recipe.search, folder, known, devices, run_phase, scored_by),
        resolve=None if recipe.search.limits_ms else resolve,
    )
    outcome = search.run()
    winners = [describe_winner(winner, outcome.devices) for winner in outcome.result.winners]
    write_files(folder, outcome.result, winners)
    for slug, predictor in devices.learned.items():
        save_predictor(predictor, folder.child(PREDICTORS), slug)
    return {
        "limits": [asdict(limit) for limit in outcome.limits],
        "scored": len(outcome.result.candidates),
        "stopped_early": asdict(early) if (early := early_stopping_summary(outcome.result.candidates)) else None,
        "learned": sorted(devices.learned),
        "winners": winners,
    }


def device_latency(predictor: Predictor, probability: float | None) -> DeviceLatency:
    """Return what a search asks of a predictor."""
    return DeviceLatency(
        bound_ms=partial(predictor.predict, quantile=probability),
        typical_ms=predictor.predict,
        interval_ms=predictor.interval,
    )


@dataclass
class RunDevices:
    """The devices of a run: timed by the job of the latency stage, into its table."""

    context: Context
    folder: Folder
    predictors: dict[str, Predictor]
    """Those in force."""

    def __post_init__(self) -> None:
        self.learned: dict[str, Predictor] = {}
        """The predictors that were fitted again, as they are by now."""
        self._job = timing_job(self.context, self.context.folder("latency"))
        if not self.folder.exists(_BEGAN):
            self._begin()
        for slug in read_typed(self.folder, _BEGAN, _AGAIN)["fitted_again"]:
            self.load_refitted(slug, _BEFORE)

    def _begin(self) -> None:
        """Fit again what was fitted at another scale than the table has by now; a killed search keeps to that."""
        again = [slug for slug in self.predictors if abs(self.scale(slug) - 1) > SCALE_TOLERANCE]
        for slug in again:
            log.warning(
                "%s: the table's rows moved by %.1f %% since its predictor was fitted: it is fitted again",
                slug,
                100 * (self.scale(slug) - 1),
            )
            self.refit(slug, _BEFORE)
        write_sealed(self.folder, _BEGAN, {"fitted_again": again})

    def known(self) -> dict[str, DeviceLatency]:
        """Return what a search asks of the predictors in force."""
        probability = self.context.recipe.search.limit_confidence
        return {slug: device_latency(one, probability) for slug, one in self.predictors.items()}

    def scale(self, device: str) -> float:
        """Return how many times as long the rows that a predictor was fitted to are taken to last by now."""
        then = self.predictors[device].held_out
        rows = rows_of_device(self._job, device)
        now = dict(zip(rows.names, rows.total_ms.tolist(), strict=True))
        ratios = [now[name] / ms for name, ms in zip(then.names, then.measured_ms.tolist(), strict=True) if name in now]
        return float(np.median(ratios)) if ratios else 1.0

    def measure(self, architectures: Sequence[Architecture]) -> Mapping[str, Times]:
        """Time what the table lacks; a device that is away says nothing, and the search goes on without it."""
        with self.context.progress("timing the winners") as progress:
            try:
                self.context.execution.time(self._job, architectures, progress)
            except LatencyError as error:
                log.warning("the winners could not be timed: %s", error)
        found = {}
        for slug in devices_of(self.context):
            timed = timed_of(self._job, slug)
            found[slug] = {one: timed[one] for one in architectures if one in timed}
        return found

    def refit(self, device: str, round_: int) -> DeviceLatency:
        """Fit a device's predictor again and keep it in the search's folder."""
        recipe = self.context.recipe
        lent = [one for one in donors_in(self._job, recipe.predictor, recipe.seed) if one.device != device]
        predictor = fit_device(self._job, device, recipe.predictor, recipe.seed, lent)
        save_predictor(predictor, self._of_round(round_), device)
        log.info("predictor of %s, with the winners' rows: %s", device, predictor.quality)
        return self._known(predictor)

    def load_refitted(self, device: str, round_: int) -> DeviceLatency:
        space = self.context.recipe.space.build()
        return self._known(load_predictor(self._of_round(round_), device, device, space.id))

    def _known(self, predictor: Predictor) -> DeviceLatency:
        self.learned[predictor.device] = self.predictors[predictor.device] = predictor
        return device_latency(predictor, self.context.recipe.search.limit_confidence)

    def _of_round(self, round_: int) -> Folder:
        return self.folder.child("rounds", str(round_))

"""Stage `search`: evolve architectures under every device's limits, and time the winners on their devices.

SuperTransformer + validation set + predictors -> candidates, frontiers, winners, and predictors that learned from them
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hat_ray.core.codec import read, write
from hat_ray.core.determinism import stream_seed
from hat_ray.errors import LatencyError
from hat_ray.latency.quantities import LATENCY as LATENCY_MS
from hat_ray.latency.timing.job import TimingJob
from hat_ray.pipeline.context import scorer_of, timing_job
from hat_ray.pipeline.execution import SearchPlan
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.pipeline.stages.latency import LATENCY, attached_of, devices_of
from hat_ray.pipeline.timing import time_attached
from hat_ray.pipeline.trained.finalists import FinalRungs
from hat_ray.predictor.fit import fit_rows, rows_of_device, source_predictors, table_rows
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.quantities import (
    Predicts,
    QuantityPredictor,
    fit_quantities,
    load_quantities,
    quantity_predictions,
    save_quantities,
    timed_quantities,
)
from hat_ray.predictor.store import load_predictor, save_predictor
from hat_ray.search.candidates import CandidateTable
from hat_ray.search.early_stopping import early_stopping_summary
from hat_ray.search.engine.device_predictions import DevicePredictions, Measurements, Prediction, bounds_of
from hat_ray.search.engine.finalists import FILE as FINALISTS
from hat_ray.search.engine.finalists import Finals
from hat_ray.search.engine.measured import SCALE_TOLERANCE, MeasuredSearch, Outcome, adopt
from hat_ray.search.engine.session import Phase
from hat_ray.search.frontier import SearchResult, Winner, summarise
from hat_ray.search.limits import Limit, Predictions
from hat_ray.search.reach import imprecise_bounds, resolve_limits
from hat_ray.search.warm_start import earlier_candidates
from hat_ray.search.winners import LimitedQuantity, SearchOutput, describe_winners, limited_quantity, write_files
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder

log = logging.getLogger(__name__)

_BEGAN = "began.json"
"""Which predictors a search fitted again before its first phase."""


@dataclass(frozen=True)
class _Began:
    """What `began.json` holds."""

    fitted_again: tuple[str, ...]


_BEFORE = -1
"""The round in which it did."""

PREDICTORS = "predictors"
"""Where a finished search keeps the predictors that were fitted again with its winners' timings."""


def search(context: Context, folder: Folder) -> SearchOutput:
    """Evolve architectures under every device's limits."""
    recipe, space = context.recipe, context.recipe.space.build()
    devices = RunDevices(context, folder, predictors_of(context))
    known = devices.known()

    def resolve(known: Mapping[str, DevicePredictions]) -> Sequence[Limit]:
        return resolve_limits(space, {slug: bounds_of(one) for slug, one in known.items()}, recipe.search)

    limits = resolve(known)
    bounds = {slug: bounds_of(one) for slug, one in known.items()}
    for line in imprecise_bounds(space, bounds, limits, devices.errors()):
        log.warning("%s", line)
    scorer = scorer_of(context)
    scored_by = scorer.fingerprint
    if recipe.search.warm_start:
        adopt(folder, earlier_candidates(recipe.search.warm_start, space, scored_by), known)
    plan = SearchPlan(space, {}, limits, recipe.search, folder, stream_seed(recipe.seed, "search"))

    def run_phase(predictions: Predictions, limits: Sequence[Limit], phase: Phase) -> None:
        label = "searching" if phase.number == 0 else f"searching on, after measurement {phase.number}"
        with context.progress(label) as progress:
            context.execution.search(
                replace(plan, predictions=predictions, limits=limits, phase=phase), scorer, progress
            )

    search = MeasuredSearch(
        *(space, limits, recipe.search, folder, known, devices, run_phase, scored_by),
        resolve=resolve if recipe.search.as_fractions else None,
        unattached=frozenset(devices_of(context)) - {*attached_of(context)},
    )
    outcome = search.run()
    result = outcome.result
    if recipe.search.finalists:
        result = _after_finals(context, folder, devices, outcome)
    output = SearchOutput(
        limits=tuple(outcome.limits),
        scored=len(result.candidates),
        early_stopping=early_stopping_summary(result.candidates, outcome.limits),
        refitted=tuple(sorted(devices.learned)),
        winners=describe_winners(result, outcome.devices),
    )
    write_files(folder, output, result.frontiers)
    for slug, predictor in devices.learned.items():
        save_predictor(predictor, folder.child(PREDICTORS), slug)
        save_quantities(devices.quantities[slug], folder.child(PREDICTORS))
    return output


def _after_finals(context: Context, folder: Folder, devices: "RunDevices", outcome: Outcome) -> SearchResult:
    """Train the finalists on; return the result with the winners that this leaves."""
    attached = frozenset(attached_of(context)) if context.recipe.search.refine_rounds else frozenset[str]()
    rungs = FinalRungs(context, folder, outcome.limits, devices, attached)
    result, _ = rungs.run(outcome.result)
    CandidateTable(folder).replace(result.candidates)
    return result


def finals_of(context: Context) -> Finals | None:
    """Return the finalists of a finished search; None where it had none."""
    folder = context.folder("search")
    if context.output(SEARCH) is None or not context.recipe.search.finalists or not folder.exists(FINALISTS):
        return None
    return read(folder, FINALISTS, Finals)


def predictors_of(context: Context) -> dict[str, Predictor]:
    """Return each device's fitted predictor: where a finished search has fitted it again, that one."""
    space = context.recipe.space.build()
    return {slug: load_predictor(place, slug, slug, space.id) for slug, place in _places_of(context).items()}


def predictions_of(context: Context) -> Predictions:
    """Return how each device's latency, and what its limits bound beside it, is predicted."""
    return {
        slug: {name: one.predict for name, one in known.items()}
        for slug, known in quantity_predictors_of(context).items()
    }


def quantity_predictors_of(context: Context) -> dict[str, dict[str, Predicts]]:
    """Return the predictors of each device's latency and of its other bounded quantities, by device and quantity."""
    job, devices = timing_job(context, context.folder("latency")), context.require(LATENCY).devices
    found: dict[str, dict[str, Predicts]] = {}
    for slug, place in _places_of(context).items():
        latency, names = load_predictor(place, slug, slug, job.space.id), job.quantities_of(slug)
        beside = quantity_predictions(names, job.profile(devices[slug].device), load_quantities(place, latency, names))
        found[slug] = {LATENCY_MS: latency, **beside}
    return found


def rival_quantities(context: Context, limit: Limit, architecture: Architecture) -> dict[str, LimitedQuantity]:
    """Return the quantities beside the latency that a limit bounds, of an architecture that is no winner."""
    names = [name for name, _ in limit.group.bounds]
    if not names:
        return {}
    job, devices = timing_job(context, context.folder("latency")), context.require(LATENCY).devices
    profile, known = job.profile(devices[limit.device].device), quantity_predictors_of(context)[limit.device]
    measured = timed_quantities(job, limit.device, names, profile, [architecture])[architecture]
    return {
        name: limited_quantity(name, architecture, prediction(known[name], None), measured.get(name)) for name in names
    }


def measure_on_devices(
    context: Context, job: TimingJob, architectures: Sequence[Architecture], who: str
) -> dict[str, Measurements]:
    """Time architectures that the job's table lacks on every attached device; return what is known of them there.

    Without a device that is away the work continues; `who` names the architectures.
    """
    devices = context.require(LATENCY).devices
    with context.progress(f"timing {who}") as progress:
        try:
            time_attached(context, job, architectures, progress)
        except LatencyError as error:
            log.warning("%s could not be timed: %s", who, error)
    found: dict[str, Measurements] = {}
    for slug in attached_of(context):
        names = LATENCY_MS, *job.quantities_of(slug)
        known = timed_quantities(job, slug, names, job.profile(devices[slug].device), architectures)
        found[slug] = {one: values for one, values in known.items() if LATENCY_MS in values}
    return found


def _places_of(context: Context) -> dict[str, Folder]:
    """Return the folder of each device's predictors."""
    output = context.output(SEARCH) if _read_predictors_of_now(context) else None
    again = output.refitted if output else ()
    fitted, search = context.folder("predictor"), context.folder("search").child(PREDICTORS)
    return {slug: search if slug in again else fitted for slug in devices_of(context)}


def _read_predictors_of_now(context: Context) -> bool:
    """Report whether the finished search read the predictors that the predictor stage holds now."""
    record, now = context.run.record("search"), context.run.record("predictor")
    return record is not None and now is not None and record.inputs.get("predictor") == now.id


def result_of(context: Context) -> SearchResult:
    """Return the search's result, from its candidates table; empty where it is not finished."""
    output = context.output(SEARCH)
    if output is None:
        return SearchResult((), (), {})
    result = summarise(CandidateTable(context.folder("search")).read(), output.limits)
    candidates = {one.architecture: one for one in result.candidates}
    winners = [Winner(winner.limit, candidates[winner.architecture]) for winner in output.winners]
    return replace(result, winners=tuple(winners))


def prediction(predictor: Predicts, probability: float | None) -> Prediction:
    """Return a predictor as a search uses it."""
    return Prediction(partial(predictor.predict, quantile=probability), predictor.predict, predictor.interval)


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
        self._profiles = {
            slug: self._job.profile(one.device) for slug, one in self.context.require(LATENCY).devices.items()
        }
        self.quantities = {
            slug: load_quantities(place, self.predictors[slug], self._job.quantities_of(slug))
            for slug, place in _places_of(self.context).items()
        }
        """Those of the quantities beside the latency, by device and name."""
        if not self.folder.exists(_BEGAN):
            self._begin()
        for slug in read(self.folder, _BEGAN, _Began).fitted_again:
            self.load_refitted(slug, _BEFORE)

    def _begin(self) -> None:
        """Refit predictors whose scale differs from the table's by now; a killed search keeps to that."""
        again = [slug for slug in self.predictors if abs(self.scale(slug) - 1) > SCALE_TOLERANCE]
        for slug in again:
            log.warning(
                "%s: the table's rows moved by %.1f %% since its predictor was fitted: it is fitted again",
                slug,
                100 * (self.scale(slug) - 1),
            )
            self.refit(slug, _BEFORE)
        write(self.folder, _BEGAN, _Began(tuple(again)))

    def known(self) -> dict[str, DevicePredictions]:
        """Return the predictors in force as a search uses them."""
        return {slug: self._predictions(slug) for slug in self.predictors}

    def errors(self) -> dict[str, dict[str, float]]:
        """Return the mean relative held-out errors of learnt quantities beside the latency, by device and name."""
        return {
            slug: {name: one.quality.mape / 100 for name, one in learnt.items()}
            for slug, learnt in self.quantities.items()
        }

    def _predictions(self, device: str) -> DevicePredictions:
        names, profile = self._job.quantities_of(device), self._profiles[device]
        found = {LATENCY_MS: self.predictors[device], **quantity_predictions(names, profile, self.quantities[device])}
        probability = self.context.recipe.search.limit_confidence
        return {name: prediction(one, probability) for name, one in found.items()}

    def scale(self, device: str) -> float:
        """Return how many times as long the rows that a predictor was fitted to are taken to last by now."""
        then = self.predictors[device].held_out
        rows = rows_of_device(self._job, device)
        now = dict(zip(rows.names, rows.total_ms.tolist(), strict=True))
        ratios = [now[name] / ms for name, ms in zip(then.names, then.measured_ms.tolist(), strict=True) if name in now]
        return float(np.median(ratios)) if ratios else 1.0

    def measure(self, architectures: Sequence[Architecture]) -> Mapping[str, Measurements]:
        """Time architectures that the table lacks; the search continues without a device that is away."""
        return measure_on_devices(self.context, self._job, architectures, "the winners")

    def refit(self, device: str, round_: int) -> DevicePredictions:
        """Fit a device's predictor again and keep it in the search's folder."""
        recipe = self.context.recipe
        rows = table_rows(self._job, recipe.predictor, [device])
        own = rows.pop(device)
        others = source_predictors(self._job, rows, recipe.predictor, recipe.seed)
        predictor = fit_rows(self._job, device, own, recipe.predictor, recipe.seed, others)
        save_predictor(predictor, self._of_round(round_), device)
        log.info("predictor of %s, with the winners' rows: %s", device, predictor.quality)
        names = self._job.quantities_of(device)
        quantities = fit_quantities(self._job, predictor, names, recipe.predictor, recipe.seed)
        save_quantities(quantities, self._of_round(round_))
        return self._known(predictor, quantities)

    def load_refitted(self, device: str, round_: int) -> DevicePredictions:
        space, place = self.context.recipe.space.build(), self._of_round(round_)
        predictor = load_predictor(place, device, device, space.id)
        return self._known(predictor, load_quantities(place, predictor, self._job.quantities_of(device)))

    def _known(self, predictor: Predictor, quantities: dict[str, QuantityPredictor]) -> DevicePredictions:
        device = predictor.device
        self.learned[device] = self.predictors[device] = predictor
        self.quantities[device] = quantities
        return self._predictions(device)

    def _of_round(self, round_: int) -> Folder:
        return self.folder.child("rounds", str(round_))


SEARCH = Stage.of("search", SearchOutput, search)

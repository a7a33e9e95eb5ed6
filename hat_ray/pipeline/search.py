"""Stage `search`: evolve architectures under every device's limits, and time the winners on their devices.

SuperTransformer + validation set + predictors -> candidates, frontiers, winners, and predictors that learned from them
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from hat_ray.errors import LatencyError
from hat_ray.pipeline.execution import SearchPlan
from hat_ray.pipeline.fitting import donors_in, fit_device
from hat_ray.pipeline.inputs import PREDICTORS, devices_of, predictors_of, scorer_of, timed_of, timing_job
from hat_ray.pipeline.stage import Context
from hat_ray.predictor.model import Predictor
from hat_ray.predictor.store import load_predictor, save_predictor
from hat_ray.search.earlier import earlier_candidates
from hat_ray.search.files import describe_winner, write_files
from hat_ray.search.latency import DeviceLatency, Times
from hat_ray.search.limits import LatencyFunction, Limit, resolve_limits
from hat_ray.search.rounds import SearchInRounds, adopt
from hat_ray.search.session import Phase
from hat_ray.seeds import stream_seed
from hat_ray.space.architecture import Architecture
from hat_ray.storage import Folder

log = logging.getLogger(__name__)


def search(context: Context, folder: Folder) -> dict[str, Any]:
    """Evolve architectures under every device's limits."""
    recipe, space = context.recipe, context.recipe.space.build()
    predictors = predictors_of(context)
    known = {slug: device_latency(one, recipe.search.limit_probability) for slug, one in predictors.items()}
    limits = resolve_limits(space, {slug: one.bound_ms for slug, one in known.items()}, recipe.search)
    scorer = scorer_of(context)
    scored_by = scorer.fingerprint
    if recipe.search.warm_start:
        adopt(folder, earlier_candidates(recipe.search.warm_start, space, scored_by), known)
    plan = SearchPlan(space, {}, limits, recipe.search, folder, stream_seed(recipe.seed, "search"))

    def run_phase(latency_ms: Mapping[str, LatencyFunction], limits: Sequence[Limit], phase: Phase) -> None:
        label = "searching" if phase.number == 0 else f"searching on, after measurement {phase.number}"
        with context.progress(label) as progress:
            context.execution.search(replace(plan, latency_ms=latency_ms, limits=limits, phase=phase), scorer, progress)

    devices = RunDevices(context, folder)
    rounds = SearchInRounds(space, limits, recipe.search, folder, known, devices, run_phase, scored_by)
    outcome = rounds.run()
    winners = [describe_winner(winner, outcome.devices) for winner in outcome.result.winners]
    write_files(folder, outcome.result, winners)
    for slug, predictor in devices.learned.items():
        save_predictor(predictor, folder.child(PREDICTORS), slug)
    return {
        "limits": [asdict(limit) for limit in limits],
        "scored": len(outcome.result.candidates),
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

    def __post_init__(self) -> None:
        self.learned: dict[str, Predictor] = {}
        """The predictors that were fitted again, as they are by now."""
        self._job = timing_job(self.context, self.context.folder("latency"))

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

    def learn(self, device: str, round_: int) -> DeviceLatency:
        """Fit a device's predictor again and keep it in the search's folder."""
        recipe = self.context.recipe
        lent = [one for one in donors_in(self._job, recipe.predictor, recipe.seed) if one.device != device]
        predictor = fit_device(self._job, device, recipe.predictor, recipe.seed, lent)
        save_predictor(predictor, self._of_round(round_), device)
        log.info("predictor of %s, with the winners' rows: %s", device, predictor.quality)
        return self._known(predictor)

    def recall(self, device: str, round_: int) -> DeviceLatency:
        space = self.context.recipe.space.build()
        return self._known(load_predictor(self._of_round(round_), device, device, space.id))

    def _known(self, predictor: Predictor) -> DeviceLatency:
        self.learned[predictor.device] = predictor
        return device_latency(predictor, self.context.recipe.search.limit_probability)

    def _of_round(self, round_: int) -> Folder:
        return self.folder.child("rounds", str(round_))

"""Stage `predictor`: fit one predictor a device to the latency table's drift-corrected medians, and judge it.

latency table -> `<device>.json` and `<device>.ubj`, and for each quantity beside the latency `<device>.<quantity>.json`
"""

import logging
from collections.abc import Iterator
from dataclasses import replace

from hat_ray.latency.quantities import LATENCY
from hat_ray.latency.timing.job import TimingJob
from hat_ray.pipeline.context import timing_job
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.pipeline.stages.latency import devices_of
from hat_ray.predictor.assess import Assessment, PredictorOutput, assess
from hat_ray.predictor.fit import fit_rows, source_predictors, table_rows
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.quantities import QuantityQuality, assess_quantity, fit_quantity, quantity_rows, save_quantities
from hat_ray.predictor.store import save_predictor
from hat_ray.storage.folder import Folder

log = logging.getLogger(__name__)


def fit_predictors(context: Context, folder: Folder) -> PredictorOutput:
    """Fit and judge every device's predictor."""
    recipe, job, slugs = context.recipe, timing_job(context, context.folder("latency")), devices_of(context)
    rows = table_rows(job, recipe.predictor, slugs)
    sources = source_predictors(job, rows, recipe.predictor, recipe.seed) if len(rows) > 1 else []
    assessments: dict[str, Assessment] = {}
    for slug in slugs:
        others = [one for one in sources if one.device != slug]
        predictor = fit_rows(job, slug, rows[slug], recipe.predictor, recipe.seed, others)
        assessment = assess(predictor, rows[slug], recipe.predictor, others)
        save_predictor(predictor, folder)
        quantities = tuple(_fit_quantities(context, job, folder, predictor))
        assessments[slug] = replace(assessment, quantities=quantities)
        log.info("predictor of %s: %s", slug, predictor.quality)
        for reason in filter(None, predictor.extrapolation([job.space.smallest(), job.space.largest()])):
            log.warning("predictor of %s: the space reaches beyond the rows: %s", slug, reason)
    return PredictorOutput(assessments)


def _fit_quantities(context: Context, job: TimingJob, folder: Folder, latency: Predictor) -> Iterator[QuantityQuality]:
    """Fit the quantities beside the latency on one device, save their predictors, and yield how good each is."""
    recipe = context.recipe
    for name, rows in quantity_rows(job, latency.device, job.quantities_of(latency.device)).items():
        predictor = fit_quantity(name, rows, recipe.predictor, latency, recipe.seed)
        save_quantities({name: predictor}, folder)
        log.info("predictor of %s of %s: %s", name, latency.device, predictor.quality)
        yield assess_quantity(predictor, rows, recipe.predictor)


def _outside(context: Context) -> str | None:
    """Name the quantities beside the latency by device, where there are any."""
    recipe = context.recipe
    named = (("", recipe.latency.quantities), *recipe.search.bounded)
    found = [f"{key}:{name}" for key, names in named for name in names if name != LATENCY]
    return " ".join(found) or None


PREDICTOR = Stage.of("predictor", PredictorOutput, fit_predictors, outside=_outside)

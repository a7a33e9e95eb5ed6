"""Stage `predictor`: fit one predictor a device to the latency table's drift-corrected medians, and judge it.

latency table, each device's rows read once -> `<device>.json` and `<device>.ubj`
"""

import logging

from hat_ray.pipeline.context import timing_job
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.pipeline.stages.latency import devices_of
from hat_ray.predictor.assess import Assessment, PredictorOutput, assess
from hat_ray.predictor.fit import fit_rows, source_predictors, table_rows
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
        assessments[slug] = assess(predictor, rows[slug], recipe.predictor, others)
        save_predictor(predictor, folder)
        log.info("predictor of %s: %s", slug, predictor.quality)
        for reason in filter(None, predictor.extrapolation([job.space.smallest(), job.space.largest()])):
            log.warning("predictor of %s: the space reaches beyond the rows: %s", slug, reason)
    return PredictorOutput(assessments)


PREDICTOR = Stage.of("predictor", PredictorOutput, fit_predictors)

"""Predictors from a latency table: each device's own, with the help of the table's other devices."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from hat_ray.core.determinism import stream_seed
from hat_ray.errors import PredictorError
from hat_ray.latency.table.parts import partition_values, partitions
from hat_ray.latency.table.table import workloads_in
from hat_ray.latency.timing.job import TimingJob
from hat_ray.predictor.assess import Assessment, assess
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.rows import TimedRows, read_rows

log = logging.getLogger(__name__)


def rows_of_device(job: TimingJob, slug: str) -> TimedRows:
    """Read what the table holds of this job's spaces and workload on a device."""
    return read_rows(job.table, job.spaces, slug, asdict(job.workload_on(slug)))


def fit_device(
    job: TimingJob, slug: str, config: PredictorConfig, seed: int, source_predictors: Sequence[Predictor]
) -> Predictor:
    """Read a device's rows and fit its predictor to them, with the help of other devices'."""
    return fit_rows(job, slug, rows_of_device(job, slug), config, seed, source_predictors)


def fit_rows(
    job: TimingJob,
    slug: str,
    rows: TimedRows,
    config: PredictorConfig,
    seed: int,
    source_predictors: Sequence[Predictor],
) -> Predictor:
    """Fit one device's predictor to rows that were read before."""
    return Predictor.fit(rows, config, slug, job.space.id, stream_seed(seed, "predictor", slug), source_predictors)


def table_rows(job: TimingJob, config: PredictorConfig, slugs: Sequence[str] = ()) -> dict[str, TimedRows]:
    """Read each device's rows once: the named devices', and where settings want other devices, all of the table."""
    places = partitions(job.table_root, job.spaces) if config.use_other_devices else []
    devices = dict.fromkeys([*(partition_values(place)[1] for place in places), *slugs])
    return {slug: rows_of_device(job, slug) for slug in devices}


def source_predictors(
    job: TimingJob, rows: Mapping[str, TimedRows], config: PredictorConfig, seed: int
) -> list[Predictor]:
    """Fit each device that has rows enough, from its own rows alone; none where settings want none."""
    found: list[Predictor] = []
    for slug, own in rows.items() if config.use_other_devices else ():
        try:
            found.append(fit_rows(job, slug, own, config, seed, ()))
        except PredictorError as error:
            log.debug("%s does not help to predict other devices: %s", slug, error)
    return found


def assess_table(root: str, space_id: str | None = None, device: str | None = None) -> list[Assessment]:
    """Fit and judge a predictor of each space, device and workload of a latency table that has rows enough.

    Raises PredictorError when there is none.
    """
    config, found, reasons = PredictorConfig(), [], []
    for place in partitions(root, space_id, device):
        space, slug = partition_values(place)
        for workload in workloads_in(root, space, slug):
            rows = read_rows(root, space, slug, workload)
            try:
                predictor = Predictor.fit(rows, config, slug, space, stream_seed(1, "predictor", slug))
            except PredictorError as error:
                reasons.append(str(error))
            else:
                found.append(assess(predictor, rows, config))
    if not found:
        raise PredictorError("; ".join(reasons) or f"{root} holds no latency rows: time some, or name a run folder")
    return found

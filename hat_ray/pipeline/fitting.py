"""Predictors from a latency table: each device's own, with the help of the table's other devices."""

import logging
from collections.abc import Sequence
from dataclasses import asdict

from hat_ray.errors import PredictorError
from hat_ray.latency.measure import TimingJob
from hat_ray.latency.parts import partition_values, partitions
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.model import Predictor
from hat_ray.predictor.rows import TimedRows, read_rows
from hat_ray.seeds import stream_seed

log = logging.getLogger(__name__)


def rows_of_device(job: TimingJob, slug: str) -> TimedRows:
    """Read what the table holds of this job's space and workload on a device."""
    return read_rows(job.table_root, job.space.id, slug, asdict(job.protocol.workload))


def fit_device(job: TimingJob, slug: str, config: PredictorConfig, seed: int, donors: Sequence[Predictor]) -> Predictor:
    """Fit one device's predictor; `donors` are used unless the settings say not to."""
    rows, device_seed = rows_of_device(job, slug), stream_seed(seed, "predictor", slug)
    others = [donor for donor in donors if donor.device != slug] if config.use_other_devices else []
    return Predictor.fit(rows, config, slug, job.space.id, device_seed, others)


def donors_in(job: TimingJob, config: PredictorConfig, seed: int) -> list[Predictor]:
    """Fit each device that the table has rows enough of, from its own rows alone."""
    found = []
    for place in partitions(job.table_root, job.space.id):
        _, slug = partition_values(place)
        rows = rows_of_device(job, slug)
        try:
            found.append(Predictor.fit(rows, config, slug, job.space.id, stream_seed(seed, "predictor", slug)))
        except PredictorError as error:
            log.debug("%s lends nothing to other devices: %s", slug, error)
    return found

"""Time a device until its latency can be predicted: choose what tells most, time it, fit, and stop by itself."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.measure import TimingJob
from hat_ray.pipeline.fitting import donors_in, fit_device
from hat_ray.pipeline.stage import Context
from hat_ray.predictor.design import next_architectures
from hat_ray.predictor.model import Predictor
from hat_ray.seeds import stream_seed
from hat_ray.space.architecture import Architecture

log = logging.getLogger(__name__)

_GROWTH = 1.5  # a round begins with actors that start and canaries that are watched: few large ones cost least


@dataclass(frozen=True)
class Onboarded:
    """How one device was learned to be predicted."""

    rows: int
    """Rows of the table that its predictor was fitted to."""
    error: float
    """Mean relative error on architectures that the predictor had not seen, plus its standard error."""
    met: bool
    """Whether that is below the error that was asked for."""


def onboard(context: Context, job: TimingJob, error: float) -> tuple[list[DeviceInfo], dict[str, Onboarded]]:
    """Time architectures on every device until each one's predictor errs by less than `error`; `samples` at most.

    A killed call goes on where it was: what the table holds is not timed again.
    """
    recipe, most = context.recipe, job.config.samples
    seed = stream_seed(recipe.seed, "latency")
    lenders = donors_in(job, recipe.predictor, recipe.seed)
    architectures = next_architectures(job.space, [], min(recipe.predictor.min_rows, most), seed, lenders)
    while True:
        with context.progress(f"timing {len(architectures)} architectures") as progress:
            devices = context.execution.time(job, architectures, progress)
        fitted = [
            fit_device(job, slug, recipe.predictor, recipe.seed, [one for one in lenders if one.device != slug])
            for slug in (device.slug for device in devices)
        ]
        found = {one.device: _judge(one, error) for one in fitted}
        for slug, judged in found.items():
            log.info("%s: error %.1f %% after %d rows", slug, 100 * judged.error, judged.rows)
        unmet = [one for one in fitted if not found[one.device].met]
        if not unmet or len(architectures) >= most:
            break
        more = _next(job, architectures, most, seed, unmet)
        if not more:
            break
        architectures = architectures + more
    for one in unmet:
        log.warning(
            "%s: the error is %.1f %% after %d rows, above the %.1f %% asked for: time more with a larger "
            "latency.samples (%d), or ask for less",
            *(one.device, 100 * found[one.device].error, found[one.device].rows, 100 * error, most),
        )
    return devices, found


def _next(
    job: TimingJob, known: Sequence[Architecture], most: int, seed: int, unmet: Sequence[Predictor]
) -> list[Architecture]:
    count = min(math.ceil(_GROWTH * len(known)), most) - len(known)
    return next_architectures(job.space, known, count, seed, unmet)


def _judge(predictor: Predictor, error: float) -> Onboarded:
    quality = predictor.quality
    upper = (quality.mape + quality.mape_error) / 100
    return Onboarded(len(predictor.held_out.measured_ms), upper, upper < error)

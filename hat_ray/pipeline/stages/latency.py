"""Stages `latency` and `sweep`: time architectures on every device, into the latency table.

`latency` times a fixed number of architectures, or calibrates: it times the most informative architectures, fits, and
stops when every device can be predicted. `sweep` varies each single dimension of the space.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hat_ray.core.codec import read
from hat_ray.core.determinism import stream_seed
from hat_ray.core.progress import no_progress
from hat_ray.errors import LatencyError
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.effects import SweepResult, SweptDevice, TimedSweep, rate_device
from hat_ray.latency.lookup.devices import count_rows, device_of_table
from hat_ray.latency.output import Calibration, LatencyOutput, MeasuredDevice
from hat_ray.latency.quantity_rows import measured_names
from hat_ray.latency.sweep import Base, SweepPlan, plan_sweep
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.timing.session import TimingJob, choose_architectures
from hat_ray.pipeline.context import rows_of, timed_of, timing_job, workload_of
from hat_ray.pipeline.kept import FINISHED
from hat_ray.pipeline.run_folder import StageRecord
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.pipeline.timing import time_attached
from hat_ray.predictor.design import next_architectures
from hat_ray.predictor.fit import fit_device, source_predictors, table_rows
from hat_ray.predictor.predictor import Predictor
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder

log = logging.getLogger(__name__)

_GROWTH = 1.5  # a round begins with actors that start and canaries that are watched: few large ones cost least


def measure_latency(context: Context, folder: Folder) -> LatencyOutput:
    """Time architectures on every device: the number asked for, or until every device can be predicted."""
    if not context.recipe.latency.table:
        _adopt_rows(context)
    recipe, job = context.recipe, timing_job(context, folder)
    calibrations: dict[str, Calibration] = {}
    if recipe.latency.times_nothing:
        devices: list[DeviceInfo] = []
    elif recipe.latency.target_error is not None:
        devices, calibrations = calibrate(context, job, recipe.latency.target_error)
    else:
        architectures = choose_architectures(job.space, recipe.latency.samples, stream_seed(recipe.seed, "latency"))
        with context.progress("timing architectures") as progress:
            devices = time_attached(context, job, architectures, progress)
    found = {
        device.slug: MeasuredDevice(count_rows(job, device.slug), device, calibrations.get(device.slug))
        for device in devices
    }
    return LatencyOutput(job.table_root.uri, {**_devices_of_table(job), **found})


def _devices_of_table(job: TimingJob) -> dict[str, MeasuredDevice]:
    """Return the devices that only the table knows; raise LatencyError for one that it has no rows of."""
    found = {}
    for slug in (device.table for device in job.config.of_table):
        device = device_of_table(job, slug)
        found[slug] = MeasuredDevice(count_rows(job, slug), device, attached=False)
        log.info("%s is known from %d rows of the table: nothing is timed on it", slug, found[slug].rows)
    return found


def _adopt_rows(context: Context) -> None:
    """Copy the tables of kept results that other quantities were named for: nothing else of them is measured again."""
    run, stage = context.run, LATENCY
    settings, inputs = stage.settings_of(context), (*stage.reads, *stage.may_read)
    of_now = {name: record.id for name in inputs if (record := run.record(name))}
    for place in run.kept.finished(stage.name):
        kept = run.folder.child(*place.split("/"))
        record = read(kept, FINISHED, StageRecord)
        if (record.inputs, record.seed) == (of_now, run.recipe.seed) and _differ_in_quantities(
            record, settings, context
        ):
            table = kept.child("table")
            names = [info.path[len(table.root) + 1 :] for info in table.entries(recursive=True) if info.is_file]
            for name in (name for name in names if not run.folder.exists(f"{stage.name}/table/{name}")):
                run.folder.copy(f"{place}/table/{name}", f"{stage.name}/table/{name}")
            log.info(
                "%d files with rows of an earlier result, which differs in quantities alone, are taken", len(names)
            )


def _differ_in_quantities(record: StageRecord, settings: Mapping[str, Any], context: Context) -> bool:
    """Return whether a result was made with the same settings but for the quantities that are named."""
    workload, parts = repr(workload_of(context)), []
    for some in (record.settings, settings):
        outside = str(some.get("outside", ""))
        parts.append({**some, "outside": outside == workload or outside.startswith(f"{workload} ")})
    return json.dumps(parts[0], sort_keys=True) == json.dumps(parts[1], sort_keys=True) and parts[0]["outside"]


def devices_of(context: Context) -> list[str]:
    """Return the devices of the latency stage, by slug."""
    output = context.output(LATENCY)
    return list(output.devices) if output else []


def attached_of(context: Context) -> list[str]:
    """Return those of them that the run times on."""
    output = context.output(LATENCY)
    return [slug for slug, one in output.devices.items() if one.attached] if output else []


def sweep_latency(context: Context, folder: Folder) -> SweepResult:
    """Time what the sweep lacks in the latency table, and compare each dimension's choices."""
    recipe, job = context.recipe, timing_job(context, table_home(context, folder))
    plan = plan_sweep(job.space, recipe.sweep.base)
    with context.progress("timing the sweep") as progress:
        devices = time_attached(context, job, plan.architectures, progress)
    return rate(job, plan, devices, recipe.sweep.base, job.protocol.workload.target_length)


def table_home(context: Context, folder: Folder) -> Folder:
    """Return the stage folder whose table the rows go to, where the recipe names no shared one.

    It is that of the latency stage once this is finished: before, its table may still be thrown away with its folder.
    """
    own = folder.exists("table")  # begun before the latency stage was finished: resume there
    return folder if own or context.run.record("latency") is None else context.folder("latency")


def rate(job: TimingJob, plan: SweepPlan, devices: Sequence[DeviceInfo], base: Base, length: int) -> SweepResult:
    """Put the table's rows together; raises LatencyError when a device lacks some."""
    timed: list[TimedSweep] = []
    swept: list[SweptDevice] = []
    for device in devices:
        rows = _rows(job, plan, device.slug)
        swept.append(SweptDevice(device.slug, device.title, rows[plan.base].corrected_ms))
        timed += rate_device(plan, rows, device.slug, length)
    return SweepResult(job.space.name, plan.base, base, tuple(swept), tuple(timed))


def _rows(job: TimingJob, plan: SweepPlan, slug: str) -> dict[Architecture, LatencyRow]:
    rows = {row.architecture: row for row in rows_of(job, slug) if row.architecture is not None}
    missing = [architecture.id for architecture in plan.architectures if architecture not in rows]
    if missing:
        raise LatencyError(f"{slug} did not time {', '.join(missing)}: see the log, and run the sweep again")
    return rows


def calibrate(context: Context, job: TimingJob, error: float) -> tuple[list[DeviceInfo], dict[str, Calibration]]:
    """Time architectures on every device until each one's predictor errs by less than `error`; `samples` at most.

    Rows of the table count: a killed call resumes where it was, and a device that is known well enough is
    not timed at all.
    """
    recipe, most = context.recipe, job.config.samples
    lenders = source_predictors(job, table_rows(job, recipe.predictor), recipe.predictor, recipe.seed)
    devices = time_attached(context, job, [], no_progress)
    known = _timed_on_all(job, devices)
    if known and any(measured_names(job.quantities_of(device.slug)) for device in devices):
        with context.progress(f"measuring {len(known)} architectures") as progress:  # those whose rows lack some
            devices = time_attached(context, job, known, progress)
    enough = bool(devices) and min(_rows_to_fit(job, known, one.slug) for one in devices) >= recipe.predictor.min_rows
    unmet, found = _fit(context, job, devices, lenders, error) if enough else ([], {})
    while not found or (unmet and len(known) < most):
        more = _next(context, job, known, unmet or lenders)
        if not more:
            break
        known += more
        with context.progress(f"timing {len(known)} architectures") as progress:
            devices = time_attached(context, job, known, progress)
        unmet, found = _fit(context, job, devices, lenders, error)
    for one in unmet:
        log.warning(
            "%s: the error is %.1f %% after %d rows, above the %.1f %% asked for: time more with a larger "
            "latency.samples (%d), or ask for less",
            *(one.device, 100 * found[one.device].error, found[one.device].rows, 100 * error, most),
        )
    return devices, found


def _timed_on_all(job: TimingJob, devices: Sequence[DeviceInfo]) -> list[Architecture]:
    """Return the architectures that the table has on every device, in the order of timing on the first."""
    timed = [timed_of(job, device.slug) for device in devices]
    both = [one for one in timed[0] if all(one in other for other in timed)] if timed else []
    return both if len(job.spaces) == 1 else [one for one in both if job.space.contains(one)]


def _rows_to_fit(job: TimingJob, known: Sequence[Architecture], slug: str) -> int:
    """Return the number of rows that a predictor of a device is fitted to; rows of containing spaces are more."""
    return len(known) if len(job.spaces) == 1 else count_rows(job, slug)


def _fit(
    context: Context, job: TimingJob, devices: Sequence[DeviceInfo], lenders: Sequence[Predictor], error: float
) -> tuple[list[Predictor], dict[str, Calibration]]:
    """Fit every device; return the predictors that err too much, and how good each is."""
    recipe, found, unmet = context.recipe, {}, []
    for slug in (device.slug for device in devices):
        lent = [one for one in lenders if one.device != slug]
        predictor = fit_device(job, slug, recipe.predictor, recipe.seed, lent)
        found[slug] = _judge(predictor, error)
        log.info("%s: error %.1f %% after %d rows", slug, 100 * found[slug].error, found[slug].rows)
        if not found[slug].met:
            unmet.append(predictor)
    return unmet, found


def _next(
    context: Context, job: TimingJob, known: Sequence[Architecture], predictors: Sequence[Predictor]
) -> list[Architecture]:
    """Choose a round's architectures: first the fewest that can be fitted to, then half the number timed."""
    count = max(context.recipe.predictor.min_rows - len(known), math.ceil((_GROWTH - 1) * len(known)))
    seed = stream_seed(context.recipe.seed, "latency")
    return next_architectures(job.space, known, min(count, job.config.samples - len(known)), seed, predictors)


def _judge(predictor: Predictor, error: float) -> Calibration:
    quality = predictor.quality
    upper = (quality.mape + quality.mape_error) / 100
    return Calibration(len(predictor.held_out.measured_ms), upper, upper < error)


def _outside(context: Context) -> str:
    """Name the workload, and what is measured beside it by device."""
    recipe = context.recipe
    named = (("", recipe.latency.quantities), *recipe.search.bounded)
    measured = [f"{key}:{name}" for key, names in named for name in measured_names(names)]
    return " ".join([repr(workload_of(context)), *measured])


LATENCY = Stage.of(
    "latency",
    LatencyOutput,
    measure_latency,
    outside=_outside,
)
SWEEP = Stage.of("sweep", SweepResult, sweep_latency)

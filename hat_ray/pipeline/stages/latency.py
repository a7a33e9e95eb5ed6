"""Stages `latency` and `sweep`: time architectures on every device, into the latency table.

`latency` times the most informative architectures, fits, and stops when every device can be predicted; or a fixed
number of architectures. Both end when the stage's minutes are spent. `sweep` varies each dimension of the space.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from hat_ray.core.codec import read
from hat_ray.errors import LatencyError
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.effects import SweepResult, SweptDevice, TimedSweep, rate_device
from hat_ray.latency.lookup.devices import count_rows, device_of_table
from hat_ray.latency.output import Calibration, LatencyOutput, MeasuredDevice
from hat_ray.latency.quantity_rows import measured_names
from hat_ray.latency.sweep import Base, SweepPlan, plan_sweep
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.timing.job import TimingJob
from hat_ray.pipeline.calibration import Budget, FixedNumber, UntilPredicted
from hat_ray.pipeline.context import rows_of, timing_job, workload_of
from hat_ray.pipeline.kept import FINISHED
from hat_ray.pipeline.run_folder import StageRecord
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.pipeline.timing import time_attached, time_rounds
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder

log = logging.getLogger(__name__)


def measure_latency(context: Context, folder: Folder) -> LatencyOutput:
    """Time architectures on every device: the number asked for, or until every device can be predicted."""
    if not context.recipe.latency.table:
        _adopt_rows(context)
    recipe, job = context.recipe, timing_job(context, folder)
    budget, error = Budget(recipe.latency.max_minutes), recipe.latency.target_error
    devices: list[DeviceInfo] = []
    calibrations: dict[str, Calibration] = {}
    if not recipe.latency.times_nothing:
        with context.progress("timing architectures") as progress:
            if error is None:
                devices = time_rounds(context, job, FixedNumber(job, recipe, budget), progress)
            else:
                rounds = UntilPredicted(job, recipe, error, budget)
                devices, calibrations = time_rounds(context, job, rounds, progress), rounds.found
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

"""Stage `sweep`: latency against each single dimension of the space, on every device.

corpus + a few dozen architectures timed into the latency table -> `sweep/sweep.json`
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hat_ray.errors import LatencyError
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.influence import SweepResult, SweptDevice, TimedSweep, rate_device, sweep_to_json
from hat_ray.latency.measure import TimingJob
from hat_ray.latency.row import LatencyRow
from hat_ray.latency.sweep import Base, SweepPlan, plan_sweep
from hat_ray.pipeline.inputs import rows_of, timing_job
from hat_ray.pipeline.report_data import device_title
from hat_ray.pipeline.stage import Context
from hat_ray.space.architecture import Architecture
from hat_ray.storage import Folder

RESULT = "sweep.json"


def sweep_latency(context: Context, folder: Folder) -> dict[str, Any]:
    """Time what the sweep lacks in the latency table, and compare each dimension's choices."""
    recipe, job = context.recipe, timing_job(context, table_home(context, folder))
    plan = plan_sweep(job.space, recipe.sweep.base)
    with context.progress("timing the sweep") as progress:
        devices = context.execution.time(job, plan.architectures, progress)
    result = rate(job, plan, devices, recipe.sweep.base, job.protocol.workload.target_length)
    folder.write_json(RESULT, sweep_to_json(result))
    return {
        "table": job.table_root.uri,
        "architectures": len(plan.architectures),
        "devices": {
            device.slug: {one.dimension: one.influence.ratio for one in result.on(device.slug)}
            for device in result.devices
        },
    }


def table_home(context: Context, folder: Folder) -> Folder:
    """Return the stage folder whose table the rows go to, where the recipe names no shared one.

    It is that of the latency stage once this is finished: before, its table may still be thrown away with its folder.
    """
    own = folder.exists("table")  # begun before the latency stage was finished: go on there
    return folder if own or context.run.record("latency") is None else context.folder("latency")


def rate(job: TimingJob, plan: SweepPlan, devices: Sequence[DeviceInfo], base: Base, length: int) -> SweepResult:
    """Put the table's rows together; raises LatencyError when a device lacks some."""
    timed: list[TimedSweep] = []
    swept: list[SweptDevice] = []
    for device in devices:
        rows = _rows(job, plan, device.slug)
        swept.append(SweptDevice(device.slug, device_title(asdict(device)), rows[plan.base].corrected_ms))
        timed += rate_device(plan, rows, device.slug, length)
    return SweepResult(job.space.name, plan.base, base, tuple(swept), tuple(timed))


def _rows(job: TimingJob, plan: SweepPlan, slug: str) -> dict[Architecture, LatencyRow]:
    rows = {row.architecture: row for row in rows_of(job, slug) if row.architecture is not None}
    missing = [architecture.id for architecture in plan.architectures if architecture not in rows]
    if missing:
        raise LatencyError(f"{slug} did not time {', '.join(missing)}: see the log, and run the sweep again")
    return rows

"""Devices that only a latency table knows: what they are, and whether a search can use their rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields

import pyarrow as pa

from hat_ray.core.config import similar_names
from hat_ray.errors import LatencyError
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.lookup.covering import covering_spaces
from hat_ray.latency.table.parts import partition_values, partitions
from hat_ray.latency.table.row import from_table
from hat_ray.latency.table.table import scan_table, workloads_in
from hat_ray.latency.timing.job import TimingJob
from hat_ray.latency.timing.workload import Workload

_MOST_NAMED = 6
_WORKLOAD = tuple(field.name for field in fields(Workload))


def count_rows(job: TimingJob, slug: str) -> int:
    """Return the number of rows that the table has of a device for this job, of several of one thing the best."""
    return len(_rows(job, slug, ["utc_time"]))


def device_of_table(job: TimingJob, slug: str) -> DeviceInfo:
    """Describe a device by its latest row; raise LatencyError where the table has no row of it that serves this job."""
    if reason := why_no_device(job, slug) or why_no_workload(job, slug):
        raise LatencyError(reason)
    rows = _rows(job, slug, None).sort_by("utc_time")
    return from_table(rows.slice(len(rows) - 1))[0].device


def why_no_device(job: TimingJob, slug: str) -> str | None:
    """Return why the table has no row of a device in this job's spaces, in one line with the remedy, or None."""
    devices = {partition_values(place)[1] for place in partitions(job.table_root)}
    if slug not in devices:
        return (
            f"latency.devices must name devices of {job.table_root}, got table: {slug}, which is none of them: "
            f"{_named(slug, sorted(devices))}"
        )
    spaces = {partition_values(place)[0] for place in partitions(job.table_root, None, slug)}
    if not spaces & set(job.spaces):
        return f"{_without(job, slug)} of space {job.space.name} ({job.space.id}): {_of_spaces(job, spaces)}"
    return None


def why_no_workload(job: TimingJob, slug: str) -> str | None:
    """Return why no row of a device in this job's spaces has its workload, in one line with the remedy, or None."""
    if count_rows(job, slug):
        return None
    return f"{_without(job, slug)} of {_described(asdict(job.workload_on(slug)))}: {_of_workloads(job, slug)}"


def _rows(job: TimingJob, slug: str, columns: Sequence[str] | None) -> pa.Table:
    where = asdict(job.workload_on(slug))
    return scan_table(job.table, job.spaces, slug, columns, where=where, best_only=True)


def _without(job: TimingJob, slug: str) -> str:
    return f"{job.table_root} has no rows of {slug}"


def _named(slug: str, devices: Sequence[str]) -> str:
    if not devices:
        return "the table is empty, so name the root of another one in latency.table"
    near = similar_names(slug, list(devices)) or devices[:_MOST_NAMED]
    more = f" and {len(devices) - len(near)} more" if len(devices) > len(near) else ""
    return f"take {', '.join(near)}{more} (`hat-ray latency show` lists them)"


def _of_spaces(job: TimingJob, spaces: set[str]) -> str:
    covering = job.config.rows_of != "covering" and spaces & set(covering_spaces(job.table, job.space))
    if covering:
        return f"set latency.rows_of=covering to use those of {', '.join(sorted(covering))}, which contains it"
    which = f"its rows are of {', '.join(sorted(spaces))}"
    return f"{which}, and none is known to contain it; search a part of one of these, or time the device"


def _of_workloads(job: TimingJob, slug: str) -> str:
    """Name the workloads that a device's rows are of, the most frequent first, and the settings to change."""
    own, there = asdict(job.workload_on(slug)), workloads_in(job.table, job.spaces, slug)
    rest = f"; {len(there) - 1} other workloads" if len(there) > 1 else ""
    changes = ", ".join(_changes(own, there[0]))
    return f"they are of {_described(there[0])}{rest}; set {changes}"


def _changes(own: Mapping[str, object], there: Mapping[str, object]) -> Iterator[str]:
    for name in _WORKLOAD:
        if own[name] != there[name]:
            key = f"{name} of this entry of latency.devices" if name == "vocab_size" else f"latency.{name}"
            yield f"{key} to {there[name] or 0}"


def _described(workload: Mapping[str, object]) -> str:
    mix = workload["length_mix"]
    lengths = f"the lengths {mix}" if mix else f"{workload['source_length']} and {workload['target_length']} tokens"
    words = workload["vocab_size"] or "unknown"
    return f"batch {workload['batch']}, beam {workload['beam']}, {lengths}, vocabulary {words}"

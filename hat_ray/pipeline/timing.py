"""Timing within a pipeline: on the devices that a run can reach; those of a table alone are never timed."""

from collections.abc import Sequence
from dataclasses import replace

from hat_ray.core.progress import Progress
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.fleet import Rounds, once
from hat_ray.latency.timing.job import TimingJob
from hat_ray.pipeline.stage import Context
from hat_ray.space.architecture import Architecture


def time_attached(
    context: Context, job: TimingJob, architectures: Sequence[Architecture], progress: Progress
) -> list[DeviceInfo]:
    """Time architectures on every device of a run that is not of a table alone; return these devices."""
    return time_rounds(context, job, once(architectures), progress)


def time_rounds(context: Context, job: TimingJob, rounds: Rounds, progress: Progress) -> list[DeviceInfo]:
    """Time round after round on every device of a run that is not of a table alone; return these devices."""
    if job.config.times_nothing:
        return []
    return context.execution.time(replace(job, config=job.config.attached()), rounds, progress)

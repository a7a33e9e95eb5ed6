"""Timing within a pipeline: on the devices that a run can reach; those of a table alone are never timed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hat_ray.core.determinism import stream_seed
from hat_ray.core.progress import Progress, no_progress
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.fleet.plan import Rounds, once
from hat_ray.latency.kit.write import Kit, write_kit
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.pipeline.context import timing_job
from hat_ray.pipeline.execution import LocalExecution
from hat_ray.pipeline.run_folder import Run as RunFolder
from hat_ray.pipeline.stage import Context
from hat_ray.recipe import Recipe
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder


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


def write_kit_of(recipe: Recipe, place: str, out: Path, name: str = "", progress: Progress = no_progress) -> Kit:
    """Write a timing kit of the architectures that the latency stage of a run would draw at random.

    Where the recipe has a device of this name, its dtype and threads are the kit's.
    """
    context = Context(RunFolder(Folder.at(place), recipe), LocalExecution())
    named = next((one for one in recipe.latency.devices if name and one.name == name), None)
    job = timing_job(context, context.folder("latency")).on(named)
    architectures = choose_architectures(job.space, job.config.samples, stream_seed(recipe.seed, "latency"))
    return write_kit(job, architectures, out, name, progress)

"""Training as Ray tasks: several models side by side, or one model by several tasks of one machine.

Decisions
- A cluster that was started here is one machine, which loses and gains no nodes. Ray Train keeps nine processes beside
  its workers for those that do (seen: 2.60; 1.4 GB, as many imports of PyTorch to wait for). Here a worker is a task.
- The rest is as with Ray Train: the loop, its checkpoints, the lease. A lost worker ends the group, and another group
  resumes from the newest checkpoint; failures count without progress.
- Such a group meets in a file, and exchanges gradients over the loopback interface alone.
- Tasks import no Ray Train: that is a fifth of a worker's memory before its first update.
- The status actor lives on the driver's node: the loss of any other node leaves it alone.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import torch
import torch.distributed
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor

from hat_ray.cluster.metrics import show
from hat_ray.cluster.placement import ANYWHERE, Place
from hat_ray.cluster.session import leaves_here
from hat_ray.cluster.training.room import require_room
from hat_ray.cluster.training.status import JobStatus, TrainingStatus, samples
from hat_ray.core.lease import Lease
from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import HatRayError, in_one_line
from hat_ray.storage.folder import Folder
from hat_ray.train.checkpoints import STATE
from hat_ray.train.job import TrainJob, device_for
from hat_ray.train.metrics import Figures, MetricSink, run_name
from hat_ray.train.state import TrainResult
from hat_ray.train.workers import NodeLeavesError, OneWorker

log = logging.getLogger(__name__)

SECONDS_FOR_AN_ANSWER = 60
_SECONDS_BETWEEN_POLLS = 0.3
_SECONDS_TO_END = 10.0
_INTERFACE = "GLOO_SOCKET_IFNAME"


def train_many(
    jobs: Sequence[TrainJob], progress: Progress = no_progress, place: Place = ANYWHERE
) -> list[TrainResult]:
    """Train several models side by side, one task each, as many at a time as a place has CPUs (or GPUs) for.

    A task whose node is lost, or will be taken away, starts again from its newest checkpoint, on another node where
    there is one; failures count without progress. `progress` counts the updates of all jobs.
    """
    if not jobs:
        return []
    for job in jobs:
        require_room(job, 1, place)
    total = sum(job.config.updates for job in jobs)

    def show(statuses: Mapping[int, JobStatus]) -> None:
        reported = [each.latest for each in statuses.values() if each.latest is not None]
        figures = {"tokens_per_s": sum(latest[2].get("tokens_per_s", 0.0) for latest in reported)}
        progress(sum(latest[0] for latest in reported), total, figures)

    with status_actor() as status:
        lone = [_LoneTraining(job, index, status, place) for index, job in enumerate(jobs)]
        runs = [run_name(job.folder) for job in jobs]
        return follow([one.begin() for one in lone], status, runs, show, lambda index, error: lone[index].again(error))


class _LoneTraining:
    """One of several trainings, as the driver sees it."""

    def __init__(self, job: TrainJob, index: int, status: Any, place: Place) -> None:
        self._job, self._index, self._status, self._place = job, index, status, place
        self._newest: str | None = None
        self._failures = 0

    def begin(self) -> Any:
        """Start a task for it, which resumes from the newest checkpoint."""
        config, self._newest = self._job.config, newest_checkpoint(self._job)
        cpus, gpus = config.threads, int(config.use_gpu)
        task = _train_alone.options(num_cpus=cpus, num_gpus=gpus, max_retries=0, **self._place.options)
        return task.remote(self._job, self._index, self._status)

    def again(self, error: RayError) -> Any:
        """Start a task in the place of one that was lost; raises the error of one that would fail again."""
        left = isinstance(error, RayTaskError) and isinstance(error.cause, NodeLeavesError)
        if isinstance(error, RayTaskError) and not left:
            raise error
        progressed = newest_checkpoint(self._job) != self._newest
        self._failures = int(not left) if progressed else self._failures + 1  # one that left in time lost nothing
        if self._failures > self._job.config.max_failures:
            raise error
        log.warning("%s begins again from its newest checkpoint: %s", run_name(self._job.folder), one_line(error))
        return self.begin()


class _LoneWorker(OneWorker):
    """This task on a node that may be taken away; Ray then starts it again on another one."""

    def leaving(self) -> bool:
        return leaves_here()


@ray.remote
def _train_alone(job: TrainJob, index: int, status: Any) -> TrainResult:
    return job.run(progress_sender(status, index), _LoneWorker(device_for(job.config), MetricSender(status, index)))


def train_together(job: TrainJob, progress: Progress = no_progress) -> TrainResult:
    """Train one model with `job.config.workers` tasks of this machine, on CPUs; resumes what was interrupted."""
    result, failures = job.finished(), 0
    if result is None:
        require_room(job, job.config.workers)
        Lease.take(job.folder).release()  # an earlier driver that still trains there ends at its next checkpoint
    while result is None:
        newest = newest_checkpoint(job)
        failure = _train_as_a_group(job, progress)
        result = job.finished()
        if result is None:
            failures = failures + 1 if newest_checkpoint(job) == newest else 1
            if failures > job.config.max_failures:
                raise failure or RuntimeError("all workers returned, and rank 0 wrote no result")
            log.warning("training begins again from its newest checkpoint: %s", one_line(failure))
    return result


def _train_as_a_group(job: TrainJob, progress: Progress) -> Exception | None:
    """Train until the end, or until a worker is lost: returns why. Raises HatRayError for a user's mistake."""

    def show(statuses: Mapping[int, JobStatus]) -> None:
        if (latest := statuses.get(0, JobStatus()).latest) is not None:
            progress(*latest)

    with status_actor() as status, TemporaryDirectory(prefix="group-") as place:
        group = ray.get(status.begin.remote(job.config.workers), timeout=SECONDS_FOR_AN_ANSWER)
        tasks = [
            _in_a_group.options(num_cpus=job.config.threads).remote(job, status, group, rank, Path(place, "meeting"))
            for rank in range(job.config.workers)
        ]
        try:
            follow(tasks, status, [run_name(job.folder)], show)
        except RayError as failure:
            known: JobStatus = ray.get(status.job.remote(), timeout=SECONDS_FOR_AN_ANSWER)
            if known.mistake is not None:  # what the others met is its consequence
                raise known.mistake from None
            return failure
    return None


def train_in_a_group(job: TrainJob, status: Any, group: int, rank: int, meeting: Path) -> None:
    """Be one worker of a group."""
    os.environ.setdefault(_INTERFACE, _loopback())
    world_size = job.config.workers
    torch.distributed.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=world_size)
    workers = _GroupWorkers(rank, world_size, MetricSender(status, 0))
    try:
        job.run(progress_sender(status, 0) if rank == 0 else no_progress, workers)
    except HatRayError as error:
        ray.get(status.fail.remote(error, group), timeout=SECONDS_FOR_AN_ANSWER)
        raise
    finally:
        torch.distributed.destroy_process_group()  # the others may be waiting for this worker: they fail at once


_in_a_group: Any = ray.remote(max_retries=0, max_calls=1)(train_in_a_group)
"""By name, since PyTorch's modules do not travel; the process ends with it: timing that follows gets one of its own."""


def _loopback() -> str:
    """Return the name of the loopback interface: lo on Linux, lo0 on macOS."""
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")


class _GroupWorkers:
    """This task among its fellows, on CPUs."""

    device = torch.device("cpu")

    def __init__(self, rank: int, world_size: int, sink: MetricSink) -> None:
        self.rank, self.world_size, self.sink = rank, world_size, sink

    def all_reduce(self, values: Tensor) -> None:
        torch.distributed.all_reduce(values)

    def saved(self, checkpoint: Folder, figures: Figures, /) -> None:
        """Do nothing: a group resumes from the training's own checkpoints."""

    def leaving(self) -> bool:
        """Return False: there is no other machine."""
        return False


class MetricSender:
    """Sends the figures of a training to the status actor."""

    def __init__(self, status: Any, index: int) -> None:
        self._status, self._index = status, index

    def log(self, _update: int, figures: Figures, /) -> None:
        self._status.report_figures.remote(self._index, dict(figures))

    def close(self) -> None:
        """Leave the actor to the driver."""


def progress_sender(status: Any, index: int) -> Progress:
    """Return what sends the progress of one of several trainings to the status actor."""
    return lambda done, total, figures: status.report_progress.remote(index, (done, total, dict(figures)))


_StatusActor: Any = ray.remote(num_cpus=0)(TrainingStatus)


@contextmanager
def status_actor() -> Iterator[Any]:
    """Hold an actor of `TrainingStatus` on the driver's node until the block ends."""
    status = _StatusActor.options(scheduling_strategy=on_this_node()).remote()
    try:
        yield status
    finally:
        ray.kill(status)


def _no_more(_index: int, error: RayError) -> Any:
    raise error


def follow(
    tasks: Sequence[Any],
    status: Any,
    runs: Sequence[str],
    look: Callable[[Mapping[int, JobStatus]], None],
    again: Callable[[int, RayError], Any] = _no_more,
) -> list[Any]:
    """Show the status of the runs until the tasks are done; returns their results, or raises a user's mistake.

    `again` gets the number of a task that failed and its error: it returns the task that takes its place, or raises.
    Whatever a look raises ends the tasks, as Ctrl-C does.
    """
    numbers, results, began = {task: number for number, task in enumerate(tasks)}, dict[int, Any](), time.time()

    def look_on() -> None:
        with suppress(GetTimeoutError):
            statuses = ray.get(status.jobs.remote(), timeout=SECONDS_FOR_AN_ANSWER)
            for index, run in enumerate(runs):
                for sample in samples(statuses.get(index, JobStatus()), began, time.time()):
                    show(sample.metric, sample.value, run=run, model=sample.model)
            look(statuses)

    try:
        while numbers:
            done, _ = ray.wait(list(numbers), num_returns=len(numbers), timeout=_SECONDS_BETWEEN_POLLS)
            for task in done:
                number = numbers.pop(task)
                try:
                    results[number] = ray.get(task)
                except RayError as error:
                    numbers[again(number, error)] = number
            look_on()
        return [results[number] for number in range(len(tasks))]
    except RayTaskError as error:
        if isinstance(error.cause, HatRayError):
            raise error.cause from None
        raise
    finally:
        _end(list(numbers))


def _end(tasks: list[Any]) -> None:
    """Ask tasks to end; ends those that do not."""
    for task in tasks:
        ray.cancel(task)
    if tasks:
        _, tasks = ray.wait(tasks, num_returns=len(tasks), timeout=_SECONDS_TO_END)
    for task in tasks:
        ray.cancel(task, force=True)


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """Return the strategy that keeps a task or actor on the driver's node."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def one_line(error: Exception | None) -> str:
    """Return the kind of an error and its message in one line."""
    return in_one_line(f"{type(error).__name__}: {error}")


def newest_checkpoint(job: TrainJob) -> str | None:
    """Return the name of a training's newest whole checkpoint; None where there is none."""
    folder = job.folder.child("checkpoints")
    return next((name for name in reversed(folder.list()) if folder.child(name).exists(STATE)), None)

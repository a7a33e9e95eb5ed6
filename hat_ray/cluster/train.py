"""Training on a Ray cluster: one model by several workers (Ray Train), or several models side by side (Ray tasks).

Decisions
- The loop is the one that runs without Ray; here it gets workers that talk over gloo (CPU) or NCCL (GPU).
- Everybody resumes from the training's own checkpoints, in its own folder: a restarted worker group, a driver that is
  run again, another number of workers, a single process without Ray. They are not reported to Ray Train: it accepts
  only files in its own storage, where each would be written a second time.
  With several nodes the folder must lie on storage that all of them share.
- So a run of Ray Train has nothing worth keeping: each attempt is a run of its own (`max_failures=0`), and its folder
  is deleted at the end. Between attempts the driver logs the failure, waits for lost nodes up to `max_wait_s`, and
  chooses the number of workers anew. Ray Train itself would wait without end or message.
- A group grows at a checkpoint, by its own leave: Ray Train's elastic resize kills the workers where they stand.
- Each attempt takes the folder (`lease.py`), so that what outlives an attempt, or a driver, writes no more.
- Surviving workers may hang in an exchange with a dead one: Ray Train ends the whole group as soon as one is lost.
- A user's mistake reaches the driver and is not tried again; lost workers are.
- The status actor lives on the driver's node: the loss of any other node leaves it alone.
"""

import functools
import logging
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util.metrics import Gauge
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor

from hat_ray.cluster.train_status import METRICS, JobStatus, TrainingStatus, samples
from hat_ray.core.lease import Lease
from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import HatRayError
from hat_ray.train.capacity import Patience, fewest_workers, needs, too_small, workers_that_fit
from hat_ray.train.checkpoints import STATE
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import TrainJob, device_for
from hat_ray.train.metrics import Figures, MetricSink, run_name
from hat_ray.train.state import TrainResult
from hat_ray.train.workers import OneWorker

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 0.3
_SECONDS_BETWEEN_LOOKS_FOR_ROOM = 5.0
_SECONDS_FOR_AN_ANSWER = 60
_SECONDS_TO_BEGIN = 45.0
_SECONDS_TO_START = 60.0
"""Ray Train's own limit for a group of workers to start."""
_LONGEST_REASON = 200
_NODE_GROUP = "ray.io/node-group"


def train_on_cluster(job: TrainJob, progress: Progress = no_progress) -> TrainResult:
    """Train one model with `job.config.workers` workers of Ray Train; resumes what was interrupted."""
    result, patience = job.finished(), Patience(job.config)
    if result is None:
        _require_room(job, fewest_workers(job.config))
    while result is None:
        patience.progressed(_newest_checkpoint(job))
        workers = _wait_for_room(patience)
        lease = Lease.take(job.folder)
        try:
            failure = _attempt(job, workers, lease, progress)
        finally:
            lease.release()
        result = job.finished()
        if result is None and failure is not None:
            patience.progressed(_newest_checkpoint(job))
            _bear(failure, patience)
    job.folder.delete("ray")
    return result


def train_many(jobs: Sequence[TrainJob], progress: Progress = no_progress) -> list[TrainResult]:
    """Train several models side by side, one task each, as many at a time as the cluster has CPUs (or GPUs) for.

    A task whose node is lost starts again from its last checkpoint. `progress` counts the updates of all jobs.
    """
    if not jobs:
        return []
    for job in jobs:
        _require_room(job, workers=1)
    total = sum(job.config.updates for job in jobs)

    def show(statuses: Mapping[int, JobStatus], _status: Any) -> None:
        reported = [each.latest for each in statuses.values() if each.latest is not None]
        figures = {"tokens_per_s": sum(latest[2].get("tokens_per_s", 0.0) for latest in reported)}
        progress(sum(latest[0] for latest in reported), total, figures)

    with _shown([run_name(job.folder) for job in jobs], show) as status:
        tasks = [
            _train_alone.options(
                num_cpus=job.config.threads, num_gpus=int(job.config.use_gpu), max_retries=job.config.max_failures
            ).remote(job, index, status)
            for index, job in enumerate(jobs)
        ]
        try:
            return list(ray.get(tasks))
        except RayTaskError as error:
            for task in tasks:
                ray.cancel(task)
            if isinstance(error.cause, HatRayError):
                raise error.cause from None
            raise


def _attempt(job: TrainJob, workers: int, lease: Lease, progress: Progress) -> Exception | None:
    """Train with one group of workers until they are done or lost; returns what went wrong, raises a user's mistake."""
    config, scratch = job.config, job.folder.child("ray")
    settings = {"job": job, "lease": lease, "may_grow": workers < config.workers}
    with _shown([run_name(job.folder)], _ProgressDisplay(job, workers, progress)) as status:
        trainer = ray.train.torch.TorchTrainer(
            _work,
            train_loop_config={**settings, "status": status},
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers, use_gpu=config.use_gpu, resources_per_worker={"CPU": config.threads}
            ),
            run_config=ray.train.RunConfig(
                name=f"train-{uuid.uuid4().hex[:8]}",
                storage_path=scratch.root,
                storage_filesystem=None if scratch.is_local else scratch.file_system,
                # mypy reads the classes of Ray Train's first version, which the second one replaces under these names
                failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=0),  # type: ignore[call-arg]
                **_quiet(),
            ),
            torch_config=ray.train.torch.TorchConfig(backend="nccl" if config.use_gpu else "gloo"),
        )
        failure = _fit(trainer)
        mistake = ray.get(status.mistake.remote(), timeout=_SECONDS_FOR_AN_ANSWER)
        regroup = ray.get(status.is_asked_to_regroup.remote(), timeout=_SECONDS_FOR_AN_ANSWER)
    if mistake is not None:
        raise mistake
    if failure is None and not regroup and job.finished() is None:
        return RuntimeError("all workers returned, and rank 0 wrote no result")
    return failure


def _fit(trainer: Any) -> Exception | None:
    """Run a trainer; returns what lost workers, or too few free resources, raise."""
    before = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        return error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)  # the trainer leaves its own behind, which ends us with exit code 0
    return None


def _bear(failure: Exception, patience: Patience) -> None:
    """Tell of a failed attempt; raises it when no other one is allowed."""
    if isinstance(failure, ray.train.ControllerError):  # the group did not start: its nodes are lost, busy or to come
        _warn(patience.wait(_SECONDS_TO_START, _why_no_room(patience.config)))
        return
    reason = _reason(failure)
    if not patience.fail():
        log.error("training lost its workers %d times without a new checkpoint: %s", patience.failures, reason)
        raise failure
    log.warning(
        "training lost its workers (%s): it goes on from its newest checkpoint, try %d of %d without a new one",
        *(reason, patience.failures, patience.config.max_failures),
    )


def _why_no_room(config: TrainConfig) -> str:
    nodes, fewest = _nodes(), fewest_workers(config)
    if workers_that_fit(nodes, needs(config)) < fewest:
        return too_small(config, fewest, nodes)  # a node was lost, and is only now known to be
    need = " and ".join(f"{amount:g} {kind}" for kind, amount in needs(config).items())
    return f"training finds no room for its workers, of {need} each: the cluster is busy or still growing"


def _reason(failure: Exception) -> str:
    """Return the first line of why the first worker was lost."""
    causes = [*getattr(failure, "worker_failures", {}).values(), failure]
    lost = [cause for cause in causes if isinstance(cause, RayActorError)]  # the others' errors follow from theirs
    first = (lost or causes)[0]
    return f"{type(first).__name__}: {next(iter(str(first).splitlines()), '')}"[:_LONGEST_REASON]


def _warn(message: str | None) -> None:
    if message is not None:
        log.warning("%s", message)


def _newest_checkpoint(job: TrainJob) -> str | None:
    folder = job.folder.child("checkpoints")
    return next((name for name in reversed(folder.list()) if folder.child(name).exists(STATE)), None)


def _nodes() -> list[dict[str, float]]:
    """Return the resources of each node that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def may_grow() -> bool:
    """Report whether an autoscaler may add nodes: it labels those that it starts with their group.

    Ray has no public question for this. Where the answer is wrong, training waits for `max_wait_s`, or is refused.
    """
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return any(node["Alive"] and node.get("Labels", {}).get(_NODE_GROUP) for node in nodes)


def _require_room(job: TrainJob, workers: int) -> None:
    """Raise HatRayError when the cluster can never hold the workers, instead of waiting for them."""
    nodes = _nodes()
    room = workers_that_fit(nodes, needs(job.config))
    if room < workers and not may_grow():
        message = too_small(job.config, workers, nodes)
        raise HatRayError(f"{message}: lower train.workers or train.threads, or add nodes")


def _wait_for_room(patience: Patience) -> int:
    """Return the number of workers to begin with; waits while nodes are missing."""
    config = patience.config
    while True:
        nodes = _nodes()
        room = workers_that_fit(nodes, needs(config))
        if room >= fewest_workers(config):
            return min(room, config.workers)
        if may_grow():
            return config.workers  # asking for them is what makes the cluster grow
        _warn(patience.wait(_SECONDS_BETWEEN_LOOKS_FOR_ROOM, too_small(config, fewest_workers(config), nodes)))
        time.sleep(_SECONDS_BETWEEN_LOOKS_FOR_ROOM)


class _ProgressDisplay:
    """Shows the progress of an attempt, warns when it does not begin, and asks for a larger group where one fits."""

    def __init__(self, job: TrainJob, workers: int, progress: Progress) -> None:
        self._job, self._workers, self._progress = job, workers, progress
        self._next_warning = time.monotonic() + _SECONDS_TO_BEGIN
        self._next_look = time.monotonic() + _SECONDS_BETWEEN_LOOKS_FOR_ROOM

    def __call__(self, statuses: Mapping[int, JobStatus], status: Any) -> None:
        now, config = time.monotonic(), self._job.config
        latest = statuses[0].latest if 0 in statuses else None
        if latest is not None:
            self._progress(*latest)
        elif now > self._next_warning:
            self._next_warning = now + _SECONDS_TO_START
            log.warning("%s waits for %d workers to start", self._job.folder, self._workers)
        if latest is not None and self._workers < config.workers and now > self._next_look:
            self._next_look = now + _SECONDS_BETWEEN_LOOKS_FOR_ROOM
            if workers_that_fit([ray.available_resources()], needs(config)) >= 1:  # type: ignore[no-untyped-call]
                status.ask_to_regroup.remote()


class _Regroup(Exception):  # noqa: N818 (not an error)
    """Workers end at a checkpoint, all together, to make place for a larger group."""


class _MetricSender:
    """Sends the figures of a training to the status actor."""

    def __init__(self, status: Any, index: int) -> None:
        self._status, self._index = status, index

    def log(self, _update: int, figures: Figures, /) -> None:
        self._status.report_figures.remote(self._index, dict(figures))

    def close(self) -> None:
        """Leave the actor to the driver."""


class _RayWorkers:
    """This Ray Train worker among its fellows."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world_size: int = context.get_world_size()
        self.device: torch.device = ray.train.torch.get_device()
        self.lease: Lease | None = settings["lease"]
        self.sink: MetricSink = _MetricSender(settings["status"], 0)
        self._status, self._may_grow = settings["status"], settings["may_grow"]

    def all_reduce(self, values: Tensor) -> None:
        torch.distributed.all_reduce(values)

    def saved(self) -> None:
        """Make place for a larger group, if the driver asks for one."""
        if not self._may_grow:
            return
        asked = self.rank == 0 and ray.get(self._status.is_asked_to_regroup.remote(), timeout=_SECONDS_FOR_AN_ANSWER)
        flag = torch.tensor([float(asked)], device=self.device)
        self.all_reduce(flag)
        if flag.item() > 0:
            raise _Regroup


def _work(settings: dict[str, Any]) -> None:
    """Be one worker of Ray Train."""
    workers, status = _RayWorkers(settings), settings["status"]
    try:
        settings["job"].run(_progress_sender(status, 0) if workers.rank == 0 else no_progress, workers)
    except _Regroup:
        return
    except HatRayError as error:
        ray.get(status.fail.remote(error), timeout=_SECONDS_FOR_AN_ANSWER)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()  # the others may be waiting for this worker: they fail at once
        raise


@ray.remote
def _train_alone(job: TrainJob, index: int, status: Any) -> TrainResult:
    return job.run(_progress_sender(status, index), OneWorker(device_for(job.config), _MetricSender(status, index)))


def _progress_sender(status: Any, index: int) -> Progress:
    return lambda done, total, figures: status.report_progress.remote(index, (done, total, dict(figures)))


_StatusActor: Any = ray.remote(num_cpus=0)(TrainingStatus)


@contextmanager
def _shown(runs: Sequence[str], show: Callable[[Mapping[int, JobStatus], Any], None]) -> Iterator[Any]:
    """Start a status actor for the runs; a thread shows it, here and as metrics, until the work is over."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    status = _StatusActor.options(scheduling_strategy=here).remote()
    over, began = threading.Event(), time.time()

    def look() -> None:
        statuses = ray.get(status.jobs.remote(), timeout=_SECONDS_FOR_AN_ANSWER)
        show(statuses, status)
        for index, run in enumerate(runs):
            for sample in samples(statuses.get(index, JobStatus()), began, time.time()):
                _gauge(sample.metric).set(sample.value, tags={"run": run, "model": sample.model})

    def keep_looking() -> None:
        while not over.wait(_SECONDS_BETWEEN_LOOKS):
            with suppress(GetTimeoutError):
                look()

    watcher = threading.Thread(target=keep_looking, daemon=True)
    watcher.start()
    try:
        yield status
        with suppress(GetTimeoutError):
            look()
    finally:
        over.set()
        watcher.join(timeout=_SECONDS_FOR_AN_ANSWER)
        ray.kill(status)


@functools.cache
def _gauge(metric: str) -> Gauge:
    return Gauge(metric, METRICS[metric], tag_keys=("run", "model"))


def _quiet() -> dict[str, Any]:
    """Return the option that silences Ray Train's own log below errors; nothing where this version of Ray has none."""
    logging_config = getattr(ray.train, "LoggingConfig", None)
    return {"logging_config": logging_config(log_level="ERROR")} if logging_config else {}

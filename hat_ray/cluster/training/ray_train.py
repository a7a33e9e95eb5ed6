"""Training of one model on a Ray cluster of several machines, by workers of Ray Train (elsewhere: `tasks.py`).

Decisions
- The loop is the one that runs without Ray; here it gets workers that talk over gloo (CPU) or NCCL (GPU).
- Ray Train replaces lost workers, and the group shrinks and grows with the cluster (`ScalingConfig`, `FailureConfig`).
  Growing kills the workers where they stand: the updates since the newest checkpoint are made again, to the same bits.
- Every group resumes from the training's own checkpoints, which have checksums and outlive Ray's run. So does a driver
  that is run again, another number of workers, and a process without Ray. Ray Train gets pointers to them.
  With several nodes the folder must lie on storage that all of them share; Ray Train's files in it go at the end.
- `fit` is called again when its failures are used up and there is a newer checkpoint than before: failures count
  without progress.
- `fit` runs in a process of its own, which the driver can end: at Ctrl-C, of which Ray Train would make exit code 0,
  and after `max_wait_s` with too few nodes. An elastic `fit` waits for them without end or message, one core busy
  (seen: 2.60), so the first wait is the driver's own. Ray Train is asked to end by itself: a killed one may leave a
  placement group behind, which holds its CPUs until the driver ends (seen: 2.60).
- An elastic `fit` counts the CPUs of every node, also of those where labels let no worker start, and waits for them
  (read: 2.60). So where labels choose nodes the driver counts, and begins a new `fit` for another number of workers.
- A user's mistake ends a group; the next one that Ray Train starts sees it on the status actor and returns at once.
- Rank 0 of each group takes the folder (`lease.py`), so that what outlives a group, or a driver, writes no more.
- Surviving workers may hang in an exchange with a dead one: Ray Train ends the whole group as soon as one is lost.
- A group of which a node will be taken away (Ray drains it) saves its weights and ends: the next `fit` resumes without
  that node. Ray Train alone would let it work until the node is gone, and lose the updates since.
"""

import functools
import json
import logging
import math
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.exceptions import RayError
from torch import Tensor

from hat_ray.cluster.growth import SECONDS_BETWEEN_LOOKS
from hat_ray.cluster.placement import ANYWHERE, Place
from hat_ray.cluster.training.room import missing, no_room, remind, require_room, room_for, wait_for_room
from hat_ray.cluster.training.status import JobStatus
from hat_ray.cluster.training.tasks import (
    SECONDS_FOR_AN_ANSWER,
    MetricSender,
    follow,
    newest_checkpoint,
    on_this_node,
    one_line,
    progress_sender,
    status_actor,
)
from hat_ray.core.lease import Lease
from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import HatRayError
from hat_ray.storage.folder import Folder
from hat_ray.train.capacity import Patience, fewest_workers, needs
from hat_ray.train.checkpoints import STATE
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import TrainJob
from hat_ray.train.metrics import Figures, MetricSink, run_name
from hat_ray.train.state import TrainResult
from hat_ray.train.workers import NodeLeavesError

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_RESIZES = 20.0
"""Ray itself looks at the nodes this often."""
_SECONDS_TO_BEGIN = 45.0
_SECONDS_BETWEEN_WARNINGS = 60.0
_START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
_SETTINGS_OF_RAY = {
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # the dashboard shows the run
    _START_TIMEOUT: "20",  # until a group that waits for a lost node is tried with another size
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a report waits until the one before was polled: 2 s otherwise
}


def train_on_cluster(job: TrainJob, progress: Progress = no_progress, place: Place = ANYWHERE) -> TrainResult:
    """Train one model with `job.config.workers` workers of Ray Train; resumes what was interrupted."""
    result, patience = job.finished(), Patience(job.config)
    if result is None:
        require_room(job, fewest_workers(job.config), place)
        Lease.take(job.folder).release()  # an earlier driver that still trains there ends at its next checkpoint
    while result is None:
        wait_for_room(patience, place)
        newest = newest_checkpoint(job)
        try:
            failure = _Fit(job, patience, progress, place).run()
        except _ResizeError as reason:
            log.info("%s", reason)
            continue
        result = job.finished()
        if failure is not None and result is None and newest_checkpoint(job) == newest:
            raise failure
        if failure is not None and result is None:
            log.warning("training begins again from its newest checkpoint: %s", one_line(failure))
    job.folder.delete("ray")
    return result


class _ResizeError(Exception):
    """A group whose size the driver chose should have another one."""


@dataclass(frozen=True)
class _Group:
    """The workers of one `fit`, and where they run."""

    fewest: int
    most: int
    place: Place
    fixed: bool
    """Whether the driver chose the size, of a training that may have fewer workers."""

    @classmethod
    def of(cls, config: TrainConfig, place: Place) -> "_Group":
        """Choose the size of the next group; Ray Train does it where no labels choose nodes."""
        fewest, most = fewest_workers(config), config.workers
        if fewest == most or not place.rule.labels:
            return cls(fewest, most, place, fixed=False)
        size = max(fewest, min(most, room_for(config, place)))
        return cls(size, size, place, fixed=True)


class _Fit:
    """One call of Ray Train's `fit`, in a process of its own, as the driver sees it."""

    def __init__(self, job: TrainJob, patience: Patience, progress: Progress, place: Place) -> None:
        self._job, self._patience, self._progress, self._place = job, patience, progress, place
        self._group = _Group.of(job.config, place)
        self._task: Any = None
        self._larger: int | None = None
        """The number of workers that the next group is to have, where this one was asked to end."""
        self._status = JobStatus()
        self._quiet_since = self._larger_since = time.monotonic()
        self._next_warning = self._quiet_since + _SECONDS_TO_BEGIN
        self._next_look = self._quiet_since + SECONDS_BETWEEN_LOOKS

    def run(self) -> Exception | None:
        """Train until the end, or until Ray Train gives up: returns why. Raises HatRayError for a user's mistake."""
        settings = {**_SETTINGS_OF_RAY, **{k: v for k, v in os.environ.items() if k.startswith("RAY_TRAIN_")}}
        with status_actor() as status:
            self._task = _fit.options(scheduling_strategy=on_this_node(), runtime_env={"env_vars": settings}).remote(
                self._job, status, float(settings[_START_TIMEOUT]), self._group
            )
            failure = self._follow(status)
        if self._status.mistake is not None:
            raise self._status.mistake
        if self._status.left:
            log.warning("%s: a node of its workers will be taken away, others resume", self._job.folder)
            return None
        if self._larger is not None and self._job.finished() is None:
            raise _ResizeError(f"there is room for {self._larger} workers") from failure
        if isinstance(failure, ray.train.ControllerError):
            quiet = time.monotonic() - self._quiet_since
            if self._group.fixed:
                self._patience.progressed(newest_checkpoint(self._job))
                self._patience.wait(quiet, no_room(self._job.config))
                raise _ResizeError(f"{self._group.most} workers find no room") from failure
            if quiet > self._job.config.max_wait_s:  # what Ray Train waits for in vain is room
                self._patience.wait(quiet, no_room(self._job.config))
        if failure is None and self._job.finished() is None:
            return RuntimeError("all workers returned, and rank 0 wrote no result")
        return failure

    def _follow(self, status: Any) -> Exception | None:
        """Return what Ray Train gave up for, or how it ended where it was asked to."""
        try:
            failure: Exception | None = follow([self._task], status, [run_name(self._job.folder)], self._look)[0]
        except RayError as error:
            if self._larger is None:
                raise
            return error
        return failure

    def _look(self, statuses: Mapping[int, JobStatus]) -> None:
        """Show the progress, and what hinders it; raises HatRayError when nodes are missing for too long."""
        before, now = self._status, statuses.get(0, JobStatus())
        self._status = now
        for reason in now.losses[len(before.losses) :]:
            log.warning("training lost its workers (%s): others resume from its newest checkpoint", reason)
        if now.group != before.group:
            log.info("%s is trained by %d workers", self._job.folder, now.workers)
        if now.latest is not None:
            self._quiet_since = time.monotonic()
            self._next_warning = self._quiet_since + _SECONDS_TO_BEGIN
            self._progress(*now.latest)
        elif now.mistake is None and time.monotonic() > self._next_warning:
            self._next_warning = time.monotonic() + _SECONDS_BETWEEN_WARNINGS
            log.warning("%s waits for its workers to start: %s", self._job.folder, no_room(self._job.config))
        if time.monotonic() > self._next_look:
            self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
            self._look_for_room()

    def _look_for_room(self) -> None:
        what = missing(self._job.config, self._place)
        if what is not None:
            self._patience.progressed(newest_checkpoint(self._job))
            remind(self._patience, what)
        elif self._group.fixed:
            self._grow()

    def _grow(self) -> None:
        """Ask Ray Train to end once there has been room for more workers for as long as it would wait itself."""
        now, config = time.monotonic(), self._job.config
        size = min(config.workers, room_for(config, self._place))
        if size <= self._group.most:
            self._larger_since = now
        elif self._larger is None and now - self._larger_since > _SECONDS_BETWEEN_RESIZES:
            self._larger = size
            ray.cancel(self._task)  # not by force: its placement group would hold the CPUs


@ray.remote(num_cpus=0, max_retries=0, max_calls=1)
def _fit(job: TrainJob, status: Any, start_timeout_s: float, group: _Group) -> Exception | None:
    """Run Ray Train; returns what it gave up for."""
    config, scratch, rule = job.config, job.folder.child("ray"), group.place.rule
    waits_s = 2 * start_timeout_s if group.fixed else config.max_wait_s
    trainer = ray.train.torch.TorchTrainer(
        functools.partial(_work, job, status),
        train_loop_config=config.model_dump(mode="json"),  # for the dashboard
        # mypy reads the classes of Ray Train's first version, which the second one replaces under these names
        scaling_config=ray.train.ScalingConfig(
            num_workers=group.most if group.fewest == group.most else (group.fewest, group.most),  # type: ignore[arg-type]
            elastic_resize_monitor_interval_s=_SECONDS_BETWEEN_RESIZES,  # type: ignore[call-arg]
            use_gpu=config.use_gpu,
            resources_per_worker={**needs(config), **rule.amounts},
            label_selector=dict(rule.labels) or None,
        ),
        run_config=ray.train.RunConfig(
            name=f"{run_name(job.folder).replace('/', '-')}-{uuid.uuid4().hex[:8]}",
            storage_path=scratch.root,
            storage_filesystem=None if scratch.is_local else scratch.file_system,
            failure_config=ray.train.FailureConfig(
                max_failures=config.max_failures,
                controller_failure_limit=math.ceil(waits_s / start_timeout_s),  # type: ignore[call-arg]
            ),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
            callbacks=[_LossReporter(status)],  # type: ignore[list-item]
            **_quiet(),
        ),
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if config.use_gpu else "gloo"),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        return error
    return None


class _LossReporter(ray.train.UserCallback):
    """Sends the status actor what workers were lost for."""

    def __init__(self, status: Any) -> None:
        self._status = status

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        errors = list(worker_exceptions.values())
        lost = [error for error in errors if not isinstance(error, RuntimeError)]  # exchanges with a lost worker
        if not any(isinstance(error, HatRayError) for error in errors):
            self._status.lose.remote(one_line((lost or errors)[0]))


class _RayWorkers:
    """This Ray Train worker among its fellows."""

    def __init__(self, status: Any) -> None:
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world_size: int = context.get_world_size()
        self.device: torch.device = ray.train.torch.get_device()
        self.sink: MetricSink = MetricSender(status, 0)

    def all_reduce(self, values: Tensor) -> None:
        torch.distributed.all_reduce(values)

    def saved(self, checkpoint: Folder, figures: Figures, /) -> None:
        """Report a checkpoint to Ray Train, which all workers wait for; rank 0 names the checkpoint."""
        if self.rank != 0 or not checkpoint.exists(STATE):
            ray.train.report(dict(figures))
            return
        with TemporaryDirectory(prefix="pointer-") as pointer:
            Path(pointer, "pointer.json").write_text(json.dumps({"checkpoint": checkpoint.uri}), encoding="utf-8")
            ray.train.report(dict(figures), checkpoint=ray.train.Checkpoint.from_directory(pointer))

    def leaving(self) -> bool:
        """Return what Ray Train knows, for all workers the same; its first versions here know of nothing."""
        look = getattr(ray.train, "get_preemption_info", None)
        return look is not None and look() is not None


def _work(job: TrainJob, status: Any, _settings: dict[str, Any]) -> None:
    """Be one worker of Ray Train."""
    workers = _RayWorkers(status)
    known = ray.get(status.job.remote(), timeout=SECONDS_FOR_AN_ANSWER)
    if known.mistake is not None:
        return  # it would be met again
    group = torch.zeros(1, dtype=torch.int64, device=workers.device)
    if workers.rank == 0:
        group += ray.get(status.begin.remote(workers.world_size), timeout=SECONDS_FOR_AN_ANSWER)
    workers.all_reduce(group)
    try:
        job.run(progress_sender(status, 0) if workers.rank == 0 else no_progress, workers)
    except NodeLeavesError:
        ray.get(status.leave.remote(), timeout=SECONDS_FOR_AN_ANSWER)
    except HatRayError as error:
        ray.get(status.fail.remote(error, int(group)), timeout=SECONDS_FOR_AN_ANSWER)
        torch.distributed.destroy_process_group()  # the others may be waiting for this worker: they fail at once
        raise


def _quiet() -> dict[str, Any]:
    """Return the option that silences Ray Train's own log below errors; nothing where this version of Ray has none."""
    logging_config = getattr(ray.train, "LoggingConfig", None)
    return {"logging_config": logging_config(log_level="ERROR")} if logging_config else {}

"""Training on a Ray cluster: one model by several workers (Ray Train), or several models side by side (Ray tasks).

Decisions
- The loop is the one that runs without Ray; here it gets workers that talk over gloo (CPU) or NCCL (GPU).
- The training's own checkpoints, in its own folder, are what everybody resumes from: a restarted worker group, a
  driver that is run again, another number of workers, a single process without Ray. Ray Train is told the figures
  and not the checkpoints: it takes only what lies in its own storage, where each would be written a second time.
  With several nodes the folder must lie on storage that all of them share.
- So a run of Ray Train has nothing worth keeping: each has a name of its own, and its folder is deleted at the end.
- A user's mistake is told to the driver and not retried; lost workers are, up to `max_failures` times.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.exceptions import RayTaskError
from ray.train.v2.api import config as ray_config
from torch import Tensor

from hat_ray.errors import HatRayError
from hat_ray.progress import Progress, silent
from hat_ray.storage import Folder
from hat_ray.train.board import Board, Latest
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import TrainJob
from hat_ray.train.result import TrainResult

_SECONDS_BETWEEN_LOOKS = 0.3
_SECONDS_FOR_AN_ANSWER = 60


def train_on_cluster(job: TrainJob, progress: Progress = silent) -> TrainResult:
    """Train one model with `job.config.workers` workers of Ray Train; resumes what was interrupted."""
    config, done = job.config, job.finished()
    if done is not None:
        return done
    _require_room(config.workers, config)
    storage = job.folder.child("ray")
    with _watched(lambda latest: progress(*latest[0]) if 0 in latest else None) as board:
        trainer = ray.train.torch.TorchTrainer(
            _work,
            train_loop_config={"job": job, "board": board},
            scaling_config=ray.train.ScalingConfig(
                num_workers=config.workers, use_gpu=config.use_gpu, resources_per_worker={"CPU": config.threads}
            ),
            run_config=ray_config.RunConfig(  # type: ignore[arg-type]  # typed as the class of Ray Train's first version
                name=f"train-{uuid.uuid4().hex[:8]}",
                storage_path=storage.uri,
                failure_config=ray_config.FailureConfig(max_failures=config.max_failures),
                **_quiet(),
            ),
            torch_config=ray.train.torch.TorchConfig(backend="nccl" if config.use_gpu else "gloo"),
        )
        trainer.fit()
        mistake = ray.get(board.mistake.remote(), timeout=_SECONDS_FOR_AN_ANSWER)
    storage.delete()
    if mistake is not None:
        raise mistake
    result = job.finished()
    assert result is not None, "all workers returned, and rank 0 wrote no result"
    return result


def train_many(jobs: Sequence[TrainJob], progress: Progress = silent) -> list[TrainResult]:
    """Train several models side by side, one task each, as many at a time as the cluster has CPUs (or GPUs) for.

    A task whose node is lost starts again from its last checkpoint. `progress` counts the updates of all jobs.
    """
    if not jobs:
        return []
    for job in jobs:
        _require_room(1, job.config)
    total = sum(job.config.updates for job in jobs)

    def show(latest: Mapping[int, Latest]) -> None:
        figures = {"tokens_per_s": sum(told[2].get("tokens_per_s", 0.0) for told in latest.values())}
        progress(sum(told[0] for told in latest.values()), total, figures)

    with _watched(show) as board:
        tasks = [
            _train_alone.options(
                num_cpus=job.config.threads, num_gpus=int(job.config.use_gpu), max_retries=job.config.max_failures
            ).remote(job, index, board)
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


class _RayWorkers:
    """This Ray Train worker among its fellows."""

    def __init__(self) -> None:
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world_size: int = context.get_world_size()
        self.device: torch.device = ray.train.torch.get_device()

    def all_reduce(self, values: Tensor) -> None:
        torch.distributed.all_reduce(values)

    def saved(self, place: Folder, figures: Mapping[str, float]) -> None:
        """Tell Ray Train, which shows the figures on its dashboard."""
        ray.train.report(dict(figures))


def _work(settings: dict[str, Any]) -> None:
    """Be one worker of Ray Train."""
    logging.getLogger("ray.train").setLevel(logging.ERROR)  # it tells of every report
    workers, board = _RayWorkers(), settings["board"]
    try:
        settings["job"].run(_teller(board, 0) if workers.rank == 0 else silent, workers)
    except HatRayError as error:
        ray.get(board.fail.remote(error), timeout=_SECONDS_FOR_AN_ANSWER)


@ray.remote
def _train_alone(job: TrainJob, index: int, board: Any) -> TrainResult:
    return job.run(_teller(board, index))


def _teller(board: Any, index: int) -> Progress:
    return lambda done, total, figures: board.tell.remote(index, (done, total, dict(figures)))


_BoardActor: Any = ray.remote(num_cpus=0)(Board)


@contextmanager
def _watched(show: Callable[[Mapping[int, Latest]], None]) -> Iterator[Any]:
    """Start a board and show what it holds, in a thread, until the work is over."""
    board = _BoardActor.remote()
    over = threading.Event()

    def look() -> None:
        while not over.wait(_SECONDS_BETWEEN_LOOKS):
            show(ray.get(board.latest.remote(), timeout=_SECONDS_FOR_AN_ANSWER))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield board
        show(ray.get(board.latest.remote(), timeout=_SECONDS_FOR_AN_ANSWER))
    finally:
        over.set()
        watcher.join(timeout=_SECONDS_FOR_AN_ANSWER)
        ray.kill(board)


def _quiet() -> dict[str, Any]:
    """Silence Ray Train's own log below errors, where this version of Ray can."""
    logging_config = getattr(ray_config, "LoggingConfig", None)
    return {"logging_config": logging_config(log_level="ERROR")} if logging_config else {}


def _require_room(workers: int, config: TrainConfig) -> None:
    """Raise HatRayError when the cluster can never hold the workers, instead of waiting for ever."""
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    needs = {"CPU": workers * config.threads, **({"GPU": workers} if config.use_gpu else {})}
    for kind, need in needs.items():
        if resources.get(kind, 0) < need:
            raise HatRayError(
                f"training needs {need} {kind}s ({workers} workers), the cluster has {resources.get(kind, 0):g}: "
                "lower train.workers or train.threads, or add nodes"
            )

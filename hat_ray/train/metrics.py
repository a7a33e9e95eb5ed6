"""Sinks of a training's metrics, beside the progress bar: TensorBoard files and MLflow.

Decisions
- A sink logs numbers by name; it never delays or ends a training. A thread writes to files and servers; a sink that
  fails is named in one warning and gets nothing more.
- The worker of rank 0 logs, with and without a cluster, so that `--local` and Ray write the same files. Ray Train's own
  `UserCallback.after_report` is called only at reports of all workers, and its TensorBoard logger is of version 1.
- A resumed training continues the same TensorBoard folder and the same MLflow run, from the update that it resumes at:
  TensorBoard hides what the interrupted one wrote after that (`purge_step`).
"""

import importlib
import importlib.util
import logging
import math
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from tensorboardX import SummaryWriter
from torch import Tensor

from hat_ray.core.codec import read, write
from hat_ray.core.progress import Progress
from hat_ray.errors import HatRayError, StorageError
from hat_ray.storage.folder import Folder

log = logging.getLogger(__name__)

Figures = Mapping[str, float]
"""By name: `train/loss_bits`, `train/tokens_per_s`, `train/lr`, `train/grad_norm`, `valid/loss_bits/<model>` (bits a
target token), `valid/bleu/<model>`, `checkpoint/update`."""


@dataclass(frozen=True)
class _MlFlowRun:
    """Content of `mlflow.json`."""

    run_id: str


_SECONDS_BETWEEN_REPORTS = 0.5
_SECONDS_BETWEEN_FLUSHES = 10.0
_SECONDS_TO_END = 30.0
_MOST_WAITING = 10_000


class MetricSink(Protocol):
    """A destination of metrics."""

    def log(self, update: int, figures: Figures, /) -> None:
        """Log the figures of an update."""

    def close(self) -> None:
        """Finish: the training has ended or failed."""


class NullSink:
    """Log nothing."""

    def log(self, update: int, figures: Figures, /) -> None:
        """Drop the figures."""

    def close(self) -> None:
        """Nothing is open."""


class CompositeSink:
    """Several sinks as one."""

    def __init__(self, sinks: Sequence[MetricSink]) -> None:
        self._sinks = sinks

    def log(self, update: int, figures: Figures, /) -> None:
        for sink in self._sinks:
            sink.log(update, figures)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()


class TensorBoard:
    """Event files in a folder; on storage that is not a local disk they are copied there at intervals."""

    def __init__(self, folder: Folder, first_update: int) -> None:
        self._folder, self._flushed = folder, time.monotonic()
        self._local = None if folder.is_local else TemporaryDirectory(prefix="tensorboard-")
        place = folder.uri if self._local is None else self._local.name
        self._writer = SummaryWriter(
            place,
            purge_step=first_update,
            flush_secs=int(_SECONDS_BETWEEN_FLUSHES),
            filename_suffix=f".{uuid.uuid4().hex[:8]}",  # its own names count seconds: two in one would be one file
        )

    def log(self, update: int, figures: Figures, /) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, update)
        if time.monotonic() - self._flushed >= _SECONDS_BETWEEN_FLUSHES:
            self.flush()

    def flush(self) -> None:
        """Write the logged figures, except the latest, which another thread may still hold."""
        self._flushed = time.monotonic()
        self._writer.flush()
        self._copy()

    def close(self) -> None:
        self._writer.close()
        self._copy()
        if self._local is not None:
            self._local.cleanup()

    def _copy(self) -> None:
        if self._local is None:
            return
        try:
            for file in Path(self._local.name).iterdir():
                self._folder.write_bytes(file.name, file.read_bytes())
        except StorageError as error:  # a training must not end for its figures
            log.warning("figures are not copied this time: %s", error)


class MlFlow:
    """One run of an MLflow experiment; its id is kept in `mlflow.json`, so that a resumed training continues it."""

    def __init__(self, experiment: str, folder: Folder) -> None:
        self._client: Any = importlib.import_module("mlflow").MlflowClient()
        known = read(folder, "mlflow.json", _MlFlowRun).run_id if folder.exists("mlflow.json") else None
        self._run = known or self._begin(experiment, folder)

    def _begin(self, experiment: str, folder: Folder) -> str:
        found = self._client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self._client.create_experiment(experiment)
        run = str(self._client.create_run(number, run_name=run_name(folder)).info.run_id)
        write(folder, "mlflow.json", _MlFlowRun(run))
        return run

    def log(self, update: int, figures: Figures, /) -> None:
        for name, value in figures.items():
            self._client.log_metric(self._run, name, value, step=update)

    def close(self) -> None:
        self._client.set_terminated(self._run)


class AsyncSink:
    """A sink that a thread opens at the first logged update, writes to, and closes."""

    def __init__(self, name: str, open_sink: Callable[[int], MetricSink]) -> None:
        self._name, self._open = name, open_sink
        self._waiting: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None

    def log(self, update: int, figures: Figures, /) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(update,), name=self._name, daemon=True)
            self._thread.start()
        if not self._waiting.full():  # else the writer is stuck
            self._waiting.put_nowait((update, dict(figures)))

    def close(self) -> None:
        if self._thread is not None:
            with suppress(queue.Full):
                self._waiting.put(None, timeout=_SECONDS_TO_END)
            self._thread.join(_SECONDS_TO_END)

    def _work(self, first_update: int) -> None:
        try:
            sink = self._open(first_update)
            while (figures := self._waiting.get()) is not None:
                sink.log(*figures)
            sink.close()
        except Exception as error:  # of any kind: a training must not end for its figures
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            log.warning("%s gets no more figures, training continues: %s", self._name, reason)
            while self._waiting.get() is not None:
                pass


def sinks_of(folder: Folder, tensorboard: bool, mlflow: str | None) -> list[MetricSink]:
    """Return the sinks that the settings ask for; they write nothing before the first update."""
    found: list[MetricSink] = []
    if tensorboard:
        found.append(AsyncSink("TensorBoard", lambda first: TensorBoard(folder.child("tensorboard"), first)))
    if mlflow is not None:
        if importlib.util.find_spec("mlflow") is None:
            raise HatRayError("train.mlflow needs the package mlflow, which is not installed here: install or unset it")
        found.append(AsyncSink("MLflow", lambda _first: MlFlow(mlflow, folder)))
    return found


def run_name(folder: Folder) -> str:
    """Name a training after the last two parts of its folder, such as `demo/supernet`."""
    return folder.label


class Meter:
    """Calls the progress callback at intervals, so that a device is seldom asked for numbers."""

    def __init__(self, progress: Progress, total: int, update: int, tokens: float) -> None:
        self._progress, self._total = progress, total
        self._update, self._tokens = update, tokens
        self._time = self._shown = time.perf_counter()

    def show(self, update: int, sums: Tensor, lr: float, last: bool) -> None:
        now = time.perf_counter()
        if not last and now - self._shown < _SECONDS_BETWEEN_REPORTS:
            return
        self._shown = now
        self._progress(update, self._total, self.figures(sums, lr))

    def figures(self, sums: Tensor, lr: float) -> dict[str, float]:
        """Return speed since the beginning or resumption, learning rate, and loss since the validation before."""
        loss, since, tokens = sums.tolist()
        figures = {"tokens_per_s": (tokens - self._tokens) / (time.perf_counter() - self._time), "lr": lr}
        return figures | ({"loss_bits": loss / since / math.log(2)} if since else {})

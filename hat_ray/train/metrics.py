"""Where the figures of a training go while it runs, beside the progress bar: TensorBoard files, MLflow.

Decisions
- A watcher hears numbers by name; it never holds up or ends a training. Files and servers are written to by a thread,
  and one that fails is named in one warning and then left alone.
- The worker of rank 0 writes, whether there is a cluster or not, so that `--local` and Ray give the same files. Ray
  Train's own `UserCallback.after_report` hears only what all workers stop to report, and its TensorBoard logger is of
  its first version.
- A resumed training goes on in the same TensorBoard folder and the same MLflow run. It tells of the same updates as the
  killed one would have: TensorBoard hides what that one had written from the first of them on (`purge_step`).
"""

import importlib
import importlib.util
import logging
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

from hat_ray.core.codec import read, write
from hat_ray.errors import HatRayError, StorageError
from hat_ray.storage.folder import Folder

log = logging.getLogger(__name__)

Figures = Mapping[str, float]
"""By name: `train/loss_bits`, `train/tokens_per_s`, `train/lr`, `train/grad_norm`, `valid/loss_bits/<model>` (bits a
target token), `checkpoint/update`."""


@dataclass(frozen=True)
class _MlFlowRun:
    """What `mlflow.json` holds."""

    run_id: str


_SECONDS_BETWEEN_FLUSHES = 10.0
_SECONDS_TO_END = 30.0
_MOST_WAITING = 10_000


class Watcher(Protocol):
    """Somebody who looks on."""

    def tell(self, update: int, figures: Figures, /) -> None:
        """Hear the figures after an update."""

    def close(self) -> None:
        """Hear that the training is over, or has failed."""


class Nobody:
    """A watcher who does not look."""

    def tell(self, update: int, figures: Figures, /) -> None:
        """Forget it."""

    def close(self) -> None:
        """Nothing is open."""


class Everybody:
    """Several watchers as one."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = watchers

    def tell(self, update: int, figures: Figures, /) -> None:
        for watcher in self._watchers:
            watcher.tell(update, figures)

    def close(self) -> None:
        for watcher in self._watchers:
            watcher.close()


class TensorBoard:
    """Event files in a folder; on storage that is not a local disk they are copied there now and then."""

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

    def tell(self, update: int, figures: Figures, /) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, update)
        if time.monotonic() - self._flushed >= _SECONDS_BETWEEN_FLUSHES:
            self.flush()

    def flush(self) -> None:
        """Make visible what was told, but for the latest, which another thread may still hold."""
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
        except StorageError as error:  # figures on the way are worth no training
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

    def tell(self, update: int, figures: Figures, /) -> None:
        for name, value in figures.items():
            self._client.log_metric(self._run, name, value, step=update)

    def close(self) -> None:
        self._client.set_terminated(self._run)


class Background:
    """A watcher that a thread opens at the first update that is told of, tells, and closes."""

    def __init__(self, what: str, opened: Callable[[int], Watcher]) -> None:
        self._what, self._opened = what, opened
        self._waiting: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None

    def tell(self, update: int, figures: Figures, /) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(update,), name=self._what, daemon=True)
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
            watcher = self._opened(first_update)
            while (told := self._waiting.get()) is not None:
                watcher.tell(*told)
            watcher.close()
        except Exception as error:  # whatever it is: figures are not worth a training
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            log.warning("%s gets no more figures, training goes on: %s", self._what, reason)
            while self._waiting.get() is not None:
                pass


def writers(folder: Folder, tensorboard: bool, mlflow: str | None) -> list[Watcher]:
    """Return the writers that the settings ask for; nothing is written before they are told something."""
    found: list[Watcher] = []
    if tensorboard:
        found.append(Background("TensorBoard", lambda first: TensorBoard(folder.child("tensorboard"), first)))
    if mlflow is not None:
        if importlib.util.find_spec("mlflow") is None:
            raise HatRayError("train.mlflow needs the package mlflow, which is not installed here: install or unset it")
        found.append(Background("MLflow", lambda _first: MlFlow(mlflow, folder)))
    return found


def run_name(folder: Folder) -> str:
    """Name a training after the last two parts of its folder, such as `demo/supernet`."""
    return folder.label

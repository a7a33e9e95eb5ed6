"""Checkpoints of a training: safetensors and JSON, no code inside, whole or not at all.

A checkpoint is a folder `update-00000500` with `state.safetensors` (weights and Adam's moments) and `state.json`.

Decisions
- `state.json` is written last and holds the SHA-256 of the tensors and its own: a checkpoint without it, or with
  another sum, is half-written or damaged. It is named in a warning, and the one before is used.
- A thread writes, from a copy that is taken at once, and training continues. So a crash costs at most the updates since
  the last checkpoint that was begun before the newest one was whole.
- A periodic checkpoint that cannot be written (disk full) is named in a warning and left out: the whole ones stay, and
  training continues. Only the last one must succeed.
- One that the storage does not hand out is not damaged: reading it stops the training, and none is made anew.
- Beside the newest, those with the best validations are kept: best among the checkpoints, as fairseq's
  `checkpoint_best.pt`.
- A checkpoint belongs to one training: its fingerprint covers everything that decides the weights.
- Number of workers, threads and device are not part of it: a run may be resumed elsewhere.

Write tensors as a safetensors file, piece by piece.

Decisions
- The library builds the whole file in memory first (seen: 2.9 s for 420 MB, with the interpreter held, beside a
  training that needs it). Here each tensor goes to the file and into the checksum as it lies in memory.
- Reading stays the library's.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pyarrow as pa
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from hat_ray.core.lease import Lease
from hat_ray.errors import CheckpointError, StorageError
from hat_ray.storage.folder import Folder

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(stream: pa.NativeFile, tensors: Mapping[str, Tensor]) -> str:
    """Write CPU tensors to an open file; returns the SHA-256 of what was written, in hex."""
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))  # aligned, as the library's
    checksum = hashlib.sha256()
    for piece in (_header(ordered), *(_bytes(tensor) for _, tensor in ordered)):
        checksum.update(piece)
        stream.write(piece)
    return checksum.hexdigest()


def _header(ordered: list[tuple[str, Tensor]]) -> memoryview:
    entries, offset = {}, 0
    for name, tensor in ordered:
        end = offset + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return memoryview(len(text).to_bytes(8, "little") + text)


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]


log = logging.getLogger(__name__)

TENSORS, STATE = "state.safetensors", "state.json"
_DAMAGE = (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError)
"""Exceptions of a half-written or damaged checkpoint; a storage that fails raises others."""
MODEL = "model/"
"""Prefix of the weights' names, among a checkpoint's tensors."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: the update that it was made after, its tensors, and its other values as plain JSON."""

    update: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]
    score: float | None = None
    """Validation loss, or negative BLEU, at this update: the lower the better; None when it was not validated."""


@dataclass(frozen=True)
class Mean:
    """The mean of several checkpoints' tensors, and the updates that those were made after."""

    tensors: dict[str, Tensor]
    updates: tuple[int, ...]


def fingerprint(parts: Mapping[str, object]) -> str:
    """Return a short hash of plain JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class CheckpointStore:
    """The checkpoints of one training in one folder; only the worker that holds the folder may save."""

    def __init__(
        self, folder: Folder, fingerprint: str, keep_last: int, keep_best: int = 0, lease: Lease | None = None
    ) -> None:
        self.folder, self._fingerprint, self._keep_last, self._keep_best = folder, fingerprint, keep_last, keep_best
        self._lease = lease
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Begin to write a checkpoint; waits for the one before. Raises TakenOverError."""
        self.wait()
        self._require_lease()
        tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in checkpoint.tensors.items()}
        self._writing = self._thread.submit(self._write, replace(checkpoint, tensors=tensors))

    def wait(self, must_succeed: bool = False) -> None:
        """Return when nothing is being written; a failure is a warning, or an error if it `must_succeed`."""
        writing, self._writing = self._writing, None
        try:
            if writing is not None:
                writing.result()
        except StorageError as error:
            if must_succeed:
                raise
            log.warning("a checkpoint was not saved: %s; earlier ones stay, and training continues", error)

    def _write(self, checkpoint: Checkpoint) -> None:
        place = self.place(checkpoint.update)
        self.folder.delete(place.name)  # what a killed process left
        with place.writing(TENSORS) as stream:
            checksum = write_tensors(stream, checkpoint.tensors)
        self._require_lease()
        state = {
            "update": checkpoint.update,
            "fingerprint": self._fingerprint,
            "score": checkpoint.score,
            "tensors_sha256": checksum,
            "values": checkpoint.values,
        }
        place.write_json(STATE, {**state, "sha256": _checksum(state)})
        self._tidy()

    def _tidy(self) -> None:
        """Delete all but the newest written ones and the best ones."""
        written = [name for name in self._names() if self.folder.child(name).exists(STATE)]
        kept = {*written[-self._keep_last :], *self._ranked(written)[: self._keep_best]}
        self._require_lease()
        for name in self._names():
            if name not in kept and name < written[-1]:
                self.folder.delete(name)

    def _require_lease(self) -> None:
        if self._lease is not None:
            self._lease.check()

    def place(self, update: int) -> Folder:
        """Return the folder of the checkpoint that is made after an update."""
        return self.folder.child(f"update-{update:08d}")

    def latest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, or None; warns of each damaged one on the way.

        Raises CheckpointError when the checkpoints are another training's.
        """
        return next(self._whole(), None)

    def at(self, update: int) -> Checkpoint | None:
        """Return the checkpoint of an update, or None when it is not there or damaged."""
        return self._read(self.place(update).name)

    def average(self, count: int, prefix: str, best: bool = False) -> Mean:
        """Return the mean of the tensors under `prefix` over `count` whole checkpoints at most.

        They are the newest, or the `best` of those with a score, the earlier of equals; damaged ones are left out.
        """
        total: dict[str, Tensor] = {}
        updates = []
        for checkpoint in islice(self._best() if best else self._whole(), count):
            updates.append(checkpoint.update)
            for name, tensor in checkpoint.tensors.items():
                if name.startswith(prefix):
                    total[name] = tensor.double() + total.get(name, 0)
        mean = {name: (tensor / len(updates)).float() for name, tensor in total.items()}
        return Mean(mean, tuple(sorted(updates)))

    def _best(self) -> Iterator[Checkpoint]:
        """Yield the whole checkpoints that have a score, the best first."""
        whole = (self._read(name) for name in self._ranked(self._names()))
        return (checkpoint for checkpoint in whole if checkpoint is not None)

    def _whole(self) -> Iterator[Checkpoint]:
        for name in reversed(self._names()):
            checkpoint = self._read(name)
            if checkpoint is not None:
                yield checkpoint

    def _names(self) -> list[str]:
        return [name for name in self.folder.list() if name.startswith("update-")]

    def _ranked(self, names: list[str]) -> list[str]:
        """Return those that have a score, the best one first."""
        scores = {}
        for name in names:
            try:
                scores[name] = self.folder.child(name).read_json(STATE)["score"]
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                continue  # half-written or damaged: reading it raises
        scored = {name: score for name, score in scores.items() if isinstance(score, int | float)}
        return sorted(scored, key=lambda name: (scored[name], name))

    def _read(self, name: str) -> Checkpoint | None:
        place = self.folder.child(name)
        try:
            state = place.read_json(STATE)
            if state.pop("sha256") != _checksum(state):
                raise ValueError("its state does not have the checksum that it was written with")
            content = place.read_bytes(TENSORS)
            if hashlib.sha256(content).hexdigest() != state["tensors_sha256"]:
                raise ValueError("its tensors do not have the checksum that they were written with")
            self._require_ours(state["fingerprint"])
            return Checkpoint(state["update"], safetensors.torch.load(content), state["values"], state["score"])
        except _DAMAGE as error:
            log.warning("checkpoint %s is damaged or half-written and is skipped: %s", place, _first_line(error))
            return None

    def _require_ours(self, found: str) -> None:
        if found != self._fingerprint:
            raise CheckpointError(
                f"{self.folder} holds checkpoints of another training (fingerprint {found}, this one is "
                f"{self._fingerprint}): choose another folder or delete it"
            )


def _checksum(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)

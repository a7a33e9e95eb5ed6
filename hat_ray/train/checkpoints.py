"""Checkpoints of a training: safetensors and JSON, no code inside, whole or not at all.

A checkpoint is a folder `update-00000500` with `state.safetensors` (weights and Adam's moments) and `state.json`.

Decisions
- `state.json` is written last and holds the SHA-256 of the tensors: a checkpoint without it, or with another sum, is
  half-written or damaged. It is named in a warning, and the one before is used.
- A checkpoint belongs to one training: its fingerprint covers everything that decides the weights.
- Number of workers, threads and device are not part of it: a run may be resumed elsewhere.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from hat_ray.errors import CheckpointError
from hat_ray.storage import Folder

log = logging.getLogger(__name__)

TENSORS, STATE = "state.safetensors", "state.json"
MODEL = "model/"
"""What the names of weights begin with, among a checkpoint's tensors."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: the update that it was made after, its tensors, and its other values as plain JSON."""

    update: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]


def fingerprint(parts: Mapping[str, object]) -> str:
    """Return a short hash of plain JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class CheckpointStore:
    """The checkpoints of one training in one folder."""

    def __init__(self, folder: Folder, fingerprint: str, keep_last: int) -> None:
        self.folder, self._fingerprint, self._keep_last = folder, fingerprint, keep_last

    def save(self, checkpoint: Checkpoint) -> Folder:
        """Write a checkpoint, then delete those past `keep_last`."""
        content = safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in checkpoint.tensors.items()})
        place = self.place(checkpoint.update)
        place.delete(STATE)
        place.write_bytes(TENSORS, content)
        head = {
            "update": checkpoint.update,
            "fingerprint": self._fingerprint,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        place.write_json(STATE, {**head, "values": checkpoint.values})
        for name in self._names()[: -self._keep_last]:
            self.folder.delete(name)
        return place

    def place(self, update: int) -> Folder:
        """Return the folder of the checkpoint that is made after an update."""
        return self.folder.child(f"update-{update:08d}")

    def latest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, or None; warns of each damaged one on the way.

        Raises CheckpointError when the checkpoints are another training's.
        """
        return next(self._whole(), None)

    def average(self, count: int, prefix: str) -> dict[str, Tensor]:
        """Return the mean of the tensors under `prefix` over the newest `count` whole checkpoints."""
        total: dict[str, Tensor] = {}
        found = 0
        for found, checkpoint in enumerate(islice(self._whole(), count), start=1):  # noqa: B007 (used after the loop)
            for name, tensor in checkpoint.tensors.items():
                if name.startswith(prefix):
                    total[name] = tensor.double() + total.get(name, 0)
        return {name: (tensor / found).float() for name, tensor in total.items()}

    def _whole(self) -> Iterator[Checkpoint]:
        for name in reversed(self._names()):
            checkpoint = self._read(name)
            if checkpoint is not None:
                yield checkpoint

    def _names(self) -> list[str]:
        return [name for name in self.folder.list() if name.startswith("update-")]

    def _read(self, name: str) -> Checkpoint | None:
        place = self.folder.child(name)
        try:
            state = place.read_json(STATE)
            content = place.read_bytes(TENSORS)
            if hashlib.sha256(content).hexdigest() != state["sha256"]:
                raise ValueError("its tensors do not have the checksum that they were written with")
            self._require_ours(state["fingerprint"])
            return Checkpoint(state["update"], safetensors.torch.load(content), state["values"])
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            reason = str(error).splitlines()[0]
            log.warning("checkpoint %s is damaged or half-written and is skipped: %s", place, reason)
            return None

    def _require_ours(self, found: str) -> None:
        if found != self._fingerprint:
            raise CheckpointError(
                f"{self.folder} holds checkpoints of another training (fingerprint {found}, this one is "
                f"{self._fingerprint}): choose another folder or delete it"
            )

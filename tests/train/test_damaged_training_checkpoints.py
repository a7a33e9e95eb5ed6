"""Checkpoints of a training that are cut, changed or of other types: the one before is taken, whatever the damage."""

import logging
import random
from pathlib import Path

import pytest
import torch

from hat_ray.storage.folder import Folder
from hat_ray.train.checkpoints import STATE, TENSORS, Checkpoint, CheckpointStore
from tests.bounded import bounded
from tests.damage import damaged


def made(update: int) -> Checkpoint:
    tensors = {"model/w": torch.full((5, 3), float(update)), "step/w": torch.tensor(float(update))}
    return Checkpoint(update, tensors, {"seconds": update / 3, "history": [update]}, 1.0 / update)


@pytest.mark.parametrize("file", [STATE, TENSORS])
@pytest.mark.parametrize("seeds", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_the_one_before_is_taken_unless_the_damage_changes_nothing(tmp_path: Path, file: str, seeds: int) -> None:
    folder = Folder.at(tmp_path)
    store = CheckpointStore(folder, "fingerprint", keep_last=3)
    for update in (1, 2):
        store.save(made(update))
    store.wait(must_succeed=True)
    newest = store.place(2)
    whole = newest.read_bytes(file)

    def read_all() -> list[int]:
        logging.disable(logging.WARNING)
        kept = 0
        for seed in range(seeds):
            newest.write_bytes(file, damaged(whole, random.Random(seed)), durable=False)
            try:
                again = CheckpointStore(folder, "fingerprint", keep_last=3)
                latest, best = again.latest(), again.average(1, "model/", best=True)
                mean = again.average(2, "model/").tensors["model/w"]
            except BaseException as error:
                raise AssertionError(f"seed {seed}") from error
            assert latest is not None, seed
            kept += latest.update == 2
            expected = made(latest.update)
            assert (latest.update, latest.values, latest.score) == (expected.update, expected.values, expected.score)
            assert torch.equal(latest.tensors["model/w"], expected.tensors["model/w"]), seed
            assert best.updates == (latest.update,), seed
            assert torch.equal(mean, torch.full((5, 3), 1.5 if latest.update == 2 else 1.0)), seed
        return [kept]

    [kept] = bounded(read_all, more_bytes=1 << 29, seconds=30 + seeds // 4)
    assert kept < seeds / 10

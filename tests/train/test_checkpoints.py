"""Checkpoints: whole or not at all, whatever happens to the files, the disk or the process."""

import logging
import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch

from hat_ray.core.lease import Lease, TakenOverError
from hat_ray.errors import HatRayError, NoRoomError
from hat_ray.model.checkpoints.native import load_super
from hat_ray.model.config import ModelConfig
from hat_ray.storage.folder import Folder
from hat_ray.train.checkpoints import STATE, TENSORS, Checkpoint, CheckpointStore
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import train_super


def made(update: int, score: float | None = None) -> Checkpoint:
    """A checkpoint whose every number follows from its update."""
    tensors = {"model/w": torch.full((5, 3), float(update)), "step/w": torch.tensor(float(update))}
    return Checkpoint(update, tensors, {"seconds": update / 3, "history": [update]}, score)


def same(a: Checkpoint | None, b: Checkpoint) -> bool:
    return (
        a is not None
        and (a.update, a.values, a.score) == (b.update, b.values, b.score)
        and a.tensors.keys() == b.tensors.keys()
        and all(torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
    )


def saved(store: CheckpointStore, *checkpoints: Checkpoint) -> None:
    for checkpoint in checkpoints:
        store.save(checkpoint)
    store.wait(must_succeed=True)


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder.at(tmp_path / "checkpoints")


def test_tensors_read_back_as_they_were_with_the_library(folder):
    tensors = {
        "a": torch.randn(3, 4).t(),
        "half": torch.randn(7).to(torch.bfloat16),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "long": torch.arange(5),
        "double": torch.randn(2, dtype=torch.float64),
    }
    saved(CheckpointStore(folder, "f", 1), Checkpoint(1, tensors, {}))
    read = safetensors.torch.load(folder.child("update-00000001").read_bytes(TENSORS))
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(read[name], tensor), name
        assert read[name].dtype == tensor.dtype


def test_what_is_saved_is_the_moment_of_saving(folder):
    store, weight = CheckpointStore(folder, "f", 1), torch.zeros(1_000_000)
    store.save(Checkpoint(1, {"w": weight}, {}))
    weight += 1  # training goes on while the file is written
    store.wait()
    assert not store.latest().tensors["w"].any()


@pytest.mark.parametrize("file", [TENSORS, STATE])
def test_whatever_bit_is_flipped_the_one_before_is_used_and_one_line_says_so(file, folder, caplog):
    store = CheckpointStore(folder, "f", keep_last=2)
    saved(store, made(1), made(2))
    place, rng = folder.child("update-00000002"), random.Random(1)
    content = place.read_bytes(file)
    for _ in range(60):
        index, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        place.write_bytes(file, content[:index] + bytes([content[index] ^ bit]) + content[index + 1 :])
        caplog.clear()
        found = store.latest()
        if found.update == 2:  # white space between the values of the JSON
            assert same(found, made(2))
        else:
            assert same(found, made(1))
            assert len(caplog.messages) == 1
            assert "update-00000002 is damaged or half-written and is skipped" in caplog.text
            assert "\n" not in caplog.messages[0]


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{}", b"\xff\xfe", b'{"sha256": 3}', b"{" * 5000])
def test_a_state_of_garbage_is_skipped(content, folder, caplog):
    store = CheckpointStore(folder, "f", keep_last=2)
    saved(store, made(1), made(2))
    folder.child("update-00000002").write_bytes(STATE, content)
    assert same(store.latest(), made(1))
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("file", [TENSORS, STATE])
@pytest.mark.parametrize("left", [None, 0, 10, -1])
def test_a_cut_or_missing_file_is_skipped(file, left, folder):
    store = CheckpointStore(folder, "f", keep_last=2)
    saved(store, made(1), made(2))
    place = folder.child("update-00000002")
    content = place.read_bytes(file)
    place.delete(file)
    if left is not None:
        place.write_bytes(file, content[:left].rstrip(b"\n}"))
    assert same(store.latest(), made(1))
    saved(store, made(2))
    assert same(store.latest(), made(2))


def test_half_written_ones_do_not_push_whole_ones_out(folder):
    store = CheckpointStore(folder, "f", keep_last=2)
    saved(store, made(1), made(2))
    for update in (3, 4):
        folder.child(f"update-{update:08d}").write_bytes(TENSORS, b"half")
    saved(store, made(5))
    assert folder.list() == ["update-00000002", "update-00000005"]


def test_a_full_disk_leaves_the_whole_ones_alone_and_only_the_last_one_must_succeed(folder, caplog):
    store = CheckpointStore(folder, "f", keep_last=2)
    saved(store, made(1), made(2))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))  # what a file can hold, for a disk that is full
        store.save(made(3))
        store.save(made(4))  # training goes on
        with pytest.raises(
            NoRoomError, match=r"update-00000004/.* cannot be written .* MB free\): make room"
        ) as caught:
            store.wait(must_succeed=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "earlier ones stay, and training continues" in warnings[0]
    assert same(store.latest(), made(2))
    saved(store, made(5))
    assert folder.list() == ["update-00000002", "update-00000005"]


def test_the_best_is_kept_beside_the_newest_and_found_again(folder):
    store = CheckpointStore(folder, "f", keep_last=2, keep_best=1)
    saved(store, made(1, 5.0), made(2, 3.0), made(3), made(4, 3.0), made(5, 4.0), made(6))
    assert folder.list() == ["update-00000002", "update-00000005", "update-00000006"]
    again = CheckpointStore(folder, "f", keep_last=2, keep_best=1)
    assert again.average(1, "", best=True).updates == (2,)
    saved(again, made(7, 2.0), made(8, 2.5), made(9, 2.6))
    assert folder.list() == ["update-00000007", "update-00000008", "update-00000009"]
    again.folder.child("update-00000007").write_bytes(TENSORS, b"damaged")
    assert again.average(1, "", best=True).updates == (8,)


def test_several_of_the_best_are_kept_and_averaged(folder):
    store = CheckpointStore(folder, "f", keep_last=1, keep_best=3)
    saved(store, made(1, 5.0), made(2, 3.0), made(3), made(4, 3.5), made(5, 2.0), made(6, 9.0), made(7))
    assert folder.list() == [f"update-0000000{n}" for n in (2, 4, 5, 7)]
    name = "model/w"
    mean = store.average(3, name, best=True)
    assert mean.updates == (2, 4, 5)
    expected = torch.stack([made(n).tensors[name] for n in (2, 4, 5)]).double().mean(0).float()
    assert torch.equal(mean.tensors[name], expected)
    folder.child("update-00000005").write_bytes(TENSORS, b"damaged")
    assert store.average(3, name, best=True).updates == (2, 4)
    assert store.average(2, name, best=True).updates == (2, 4)
    assert store.average(2, name).updates == (4, 7)


def test_weights_in_half_precision_are_averaged_without_its_rounding(folder):
    store = CheckpointStore(folder, "f", keep_last=2)
    values = (torch.tensor([256.0]), torch.tensor([258.0]))  # bf16 has no 257
    saved(store, *(Checkpoint(n, {"model/w": value.bfloat16()}, {}) for n, value in enumerate(values, 1)))
    mean = store.average(2, "model/").tensors["model/w"]
    assert (mean.dtype, mean.tolist()) == (torch.float32, [257.0])


def test_whoever_was_taken_over_neither_saves_nor_deletes(folder, tmp_path):
    home = Folder.at(tmp_path)
    old, new = (CheckpointStore(folder, "f", 1, lease=Lease.take(home)) for _ in range(2))
    saved(new, made(1))
    with pytest.raises(
        TakenOverError, match=r"one process at a time .* taken over by process .*: this one ends"
    ) as caught:
        old.save(made(2))
    assert "\n" not in str(caught.value)
    assert folder.list() == ["update-00000001"]
    assert same(new.latest(), made(1))


MODEL = ModelConfig(dropout=0.1)
CONFIG = TrainConfig(updates=24, max_tokens=400, lr=3e-3, warmup_updates=5, validate_every=6, checkpoint_every=6)


def test_a_training_that_is_taken_over_ends_and_the_newer_one_goes_on_from_it(tiny_space, corpus, tmp_path):
    whole, home = Folder.at(tmp_path / "whole"), Folder.at(tmp_path / "home")
    expected = train_super(tiny_space, corpus, MODEL, CONFIG, whole, 1)
    newer = []

    def take_over(done, total, figures):
        if not newer and home.child("checkpoints").list():
            newer.append(Lease.take(home))

    patch = pytest.MonkeyPatch()
    patch.setattr("hat_ray.train.metrics._SECONDS_BETWEEN_REPORTS", 0.0)
    with patch.context(), pytest.raises(TakenOverError):
        train_super(tiny_space, corpus, MODEL, CONFIG, home, 1, take_over)
    patch.undo()
    newer[0].check()  # the older one has left the newer one's lease alone
    assert not home.exists("train.json")
    resumed = train_super(tiny_space, corpus, MODEL, CONFIG, home, 1)
    assert resumed.valid_loss_bits == expected.valid_loss_bits
    assert home.read_bytes("supernet.safetensors") == whole.read_bytes("supernet.safetensors")
    with pytest.raises(TakenOverError):
        newer[0].check()


def test_the_final_model_can_be_the_best_checkpoint(tiny_space, corpus, tmp_path):
    """A learning rate that rises until it does harm: the best checkpoint is an early one."""
    config = CONFIG.model_copy(
        update={"lr": 5.0, "warmup_updates": 24, "warmup_init_lr": 3e-3, "final": "best", "best_check": "smallest"}
    )
    result = train_super(tiny_space, corpus, MODEL, config, Folder.at(tmp_path), 1)
    losses = {point.update: point.valid_loss_bits["smallest"] for point in result.history}
    best = min(losses, key=losses.get)
    assert best < config.updates
    store = Folder.at(tmp_path).child("checkpoints", f"update-{best:08d}")
    content = safetensors.torch.load(store.read_bytes(TENSORS))
    assert result.valid_loss_bits["smallest"] == losses[best]
    for name, weight in load_super(Folder.at(tmp_path), "supernet").weights().items():
        assert torch.equal(weight, content[f"model/{name}"])


def test_a_best_check_that_this_training_has_not_is_refused(tiny_space, corpus, tmp_path):
    config = CONFIG.model_copy(update={"best_check": "model"})
    with pytest.raises(
        HatRayError, match="best_check must be a validation of this training, one of largest, smallest, got"
    ):
        train_super(tiny_space, corpus, MODEL, config, Folder.at(tmp_path), 1)


SAVING = """
import sys, torch
from hat_ray.storage.folder import Folder
from hat_ray.train.checkpoints import Checkpoint, CheckpointStore
store = CheckpointStore(Folder.at(sys.argv[1]), "f", keep_last=2)
newest = store.latest()
update = newest.update if newest else 0
print("go", flush=True)
while True:
    update += 1
    store.save(Checkpoint(update, {f"w{i}": torch.full((300_000,), float(update)) for i in range(10)}, {"u": update}))
"""


@pytest.mark.slow
def test_a_process_killed_while_it_saves_leaves_a_whole_checkpoint(folder):
    """Twelve SIGKILLs at random moments of a process that does nothing but save 12 MB at a time."""
    rng, before = random.Random(3), 0
    for _ in range(12):
        with subprocess.Popen([sys.executable, "-c", SAVING, folder.uri], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout.readline() == "go\n"
            time.sleep(rng.uniform(0.2, 1.0))
            os.kill(child.pid, signal.SIGKILL)
        found = CheckpointStore(folder, "f", keep_last=2).latest()
        if found is None:
            assert before == 0
            continue
        assert found.update >= before
        assert found.values == {"u": found.update}
        assert all((tensor == found.update).all() for tensor in found.tensors.values())
        before = found.update
    assert before > 12
    assert len(folder.list()) <= 4

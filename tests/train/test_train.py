import itertools
import logging
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from hat_ray.core.codec import from_json, to_json
from hat_ray.corpus.batches import collate, make_batches
from hat_ray.errors import CheckpointError, HatRayError
from hat_ray.model.checkpoints.native import load_sub, load_super
from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.storage.folder import Folder
from hat_ray.train.checkpoints import CheckpointStore
from hat_ray.train.config import TrainConfig
from hat_ray.train.data import Position, UpdateBatches, ValidationLoss
from hat_ray.train.job import super_task, train_sub, train_super
from hat_ray.train.loop import Training
from hat_ray.train.sampling import Uniform
from hat_ray.train.state import TrainResult
from hat_ray.train.workers import NodeLeavesError, OneWorker

MODEL = ModelConfig(dropout=0.1)
CONFIG = TrainConfig(updates=24, max_tokens=400, lr=3e-3, warmup_updates=5, validate_every=8, checkpoint_every=6)


def super_weights(folder: Folder) -> dict[str, torch.Tensor]:
    return load_super(folder, "supernet").weights()


def curve(result) -> list[dict]:
    """The history and the curves without the clock."""
    points = [asdict(replace(point, seconds=0.0, tokens_per_s=0.0)) for point in result.curve]
    return [*points, *(asdict(replace(point, seconds=0.0)) for point in result.history)]


def test_training_lowers_the_loss_of_largest_and_smallest(tiny_space, corpus, tmp_path):
    config = CONFIG.model_copy(
        update={"updates": 150, "validate_every": 50, "lr": 2e-2, "warmup_updates": 20, "max_tokens": 800}
    )
    shown = []
    result = train_super(
        tiny_space, corpus, MODEL, config, Folder.at(tmp_path), 1, lambda *progress: shown.append(progress)
    )
    first, last = result.history[0], result.history[-1]
    for name in ("largest", "smallest"):
        assert last.valid_loss_bits[name] < first.valid_loss_bits[name] - 0.15
        assert result.valid_loss_bits[name] == last.valid_loss_bits[name]
    assert last.train_loss_bits < first.train_loss_bits
    assert [point.update for point in result.history] == [50, 100, 150]
    done, total, figures = shown[-1]
    assert (done, total) == (150, 150)
    assert figures["tokens_per_s"] > 0
    assert result.tokens == last.tokens > 150 * 200


def test_a_finished_training_is_read_back_and_another_one_is_refused(tiny_space, corpus, tmp_path):
    folder = Folder.at(tmp_path)
    config = CONFIG.model_copy(update={"updates": 6})
    result = train_super(tiny_space, corpus, MODEL, config, folder, 1)
    folder.delete("checkpoints")  # what a training that begins again would write, and would have to begin with
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    told = []
    threads = config.model_copy(update={"threads": 2})
    assert train_super(tiny_space, corpus, MODEL, threads, folder, 1, lambda *steps: told.append(steps)) == result
    assert told == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    with pytest.raises(CheckpointError, match="result of another training"):
        train_super(tiny_space, corpus, MODEL, config, folder, 2)


def test_one_architecture_trains_from_scratch_in_the_same_loop(tiny_space, corpus, tmp_path):
    folder, architecture = Folder.at(tmp_path), tiny_space.smallest()
    config = CONFIG.model_copy(update={"updates": 60, "lr": 1e-2, "validate_every": 20})
    result = train_sub(architecture, tiny_space, corpus, MODEL, config, folder, 1)
    losses = [point.valid_loss_bits["model"] for point in result.history]
    assert losses == sorted(losses, reverse=True)
    model = load_sub(folder, "model")
    assert model.architecture == architecture
    check = ValidationLoss(corpus.valid, 4096).sums(model, lambda batch: model.output(batch.source, batch.target_in))
    assert check.loss_bits == pytest.approx(result.valid_loss_bits["model"], rel=1e-6)


def test_two_accumulated_batches_equal_one_of_twice_the_size(tiny_space, corpus, tmp_path):
    """With dropout off, cutting an update's pairs into batches of unlike size changes only the rounding."""

    class Cut:
        def __init__(self, parts):
            self.parts = parts

        def update(self, position):
            indices = make_batches(corpus.train, 600, 1, 0)[position.batch]
            cuts = [indices[:3], indices[3:]] if self.parts == 2 else [indices]
            batches = [(number, collate(corpus.train, cut)) for number, cut in enumerate(cuts)]
            return batches, Position(0, position.batch + 1)

    def train(parts):
        model = SuperTransformer(tiny_space, corpus.vocabularies.sizes[0], ModelConfig(dropout=0.0), seed=4)
        store = _store(tmp_path / str(parts))
        config = CONFIG.model_copy(update={"updates": 5, "lr": 1e-3})
        task = super_task(model, Uniform(tiny_space, 1))
        training = Training(task, Cut(parts), ValidationLoss(corpus.valid, 500), config, store, OneWorker(), seed=1)
        training.run(lambda *_: None)
        return model.weights()

    one, two = train(1), train(2)
    for name, weight in one.items():
        if not name.endswith("in_proj_bias"):  # see test_hat_trajectory: a key's bias has only noise for a gradient
            torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_skipped_layers_keep_no_gradient_and_adam_leaves_them_alone(tiny_space, corpus, tmp_path):
    model = SuperTransformer(tiny_space, corpus.vocabularies.sizes[0], MODEL, seed=4)
    before = {name: weight.clone() for name, weight in model.weights().items()}
    store = _store(tmp_path)
    task = super_task(model, lambda _update: (tiny_space.smallest(),))
    feed = UpdateBatches(corpus.train, 400, 1, 1, OneWorker())
    config = CONFIG.model_copy(update={"updates": 2, "weight_decay": 0.1, "warmup_init_lr": 1e-3})
    Training(task, feed, ValidationLoss(corpus.valid, 500), config, store, OneWorker(), seed=1).run(lambda *_: None)
    state = store.latest().tensors
    for name, weight in model.weights().items():
        skipped = ".layers.1." in name
        assert torch.equal(weight, before[name]) == skipped, name
        assert (f"step/{name}" in state) != skipped
    unsampled = model.weights()["encoder.layers.0.fc1.weight"][16:]
    assert not torch.equal(unsampled, before["encoder.layers.0.fc1.weight"][16:])  # zeros, not none: decay moves them


def test_gradients_are_clipped_to_the_norm(tiny_space, corpus, tmp_path):
    """Adam cancels a constant scale, so clipping shows in its moments."""
    norms = {}
    for clip in (0.0, 0.01):
        folder = Folder.at(tmp_path / str(clip))
        train_super(tiny_space, corpus, MODEL, CONFIG.model_copy(update={"updates": 1, "clip_norm": clip}), folder, 1)
        content = folder.child("checkpoints", "update-00000001").read_bytes("state.safetensors")
        moments = {k: v for k, v in _load(content).items() if k.startswith("exp_avg/")}
        norms[clip] = torch.stack([moment.norm() for moment in moments.values()]).norm().item() / (1 - 0.9)
    assert norms[0.01] == pytest.approx(0.01, rel=1e-3)
    assert norms[0.0] > 0.1


def test_the_final_model_is_the_mean_of_the_last_checkpoints(tiny_space, corpus, tmp_path):
    folder = Folder.at(tmp_path)
    result = train_super(tiny_space, corpus, MODEL, CONFIG.model_copy(update={"average_last": 3}), folder, 1)
    checkpoints = folder.child("checkpoints")
    assert checkpoints.list() == ["update-00000012", "update-00000018", "update-00000024"]
    states = [_load(checkpoints.child(name).read_bytes("state.safetensors")) for name in checkpoints.list()]
    for name, weight in super_weights(folder).items():
        mean = torch.stack([state[f"model/{name}"] for state in states]).mean(0)
        torch.testing.assert_close(weight, mean, rtol=1e-6, atol=1e-7)
    assert result.valid_loss_bits != result.history[-1].valid_loss_bits


def test_time_limit_ends_a_training_validated_and_saved(tiny_space, corpus, tmp_path, monkeypatch):
    folder, seconds = Folder.at(tmp_path), itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(seconds)))  # each look at the clock is a second later
    config = CONFIG.model_copy(update={"updates": 100_000, "max_seconds": 30.0})
    result = train_super(tiny_space, corpus, MODEL, config, folder, 1)
    assert 30 <= result.seconds <= 40
    assert 1 <= result.updates <= 30
    assert result.history[-1].update == result.updates
    assert folder.child("checkpoints").list()[-1] == f"update-{result.updates:08d}"


def test_a_loss_that_runs_away_is_told_and_nothing_is_saved(tiny_space, corpus, tmp_path):
    config = CONFIG.model_copy(update={"lr": 1e30, "warmup_updates": 0})
    with pytest.raises(HatRayError, match="training loss must stay finite, it is nan by update 6: lower"):
        train_super(tiny_space, corpus, MODEL, config, Folder.at(tmp_path), 1)
    assert Folder.at(tmp_path).list() == ["lease"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_gpu_that_is_not_there_is_told(tiny_space, corpus, tmp_path):
    with pytest.raises(HatRayError, match="sees no CUDA device"):
        train_super(tiny_space, corpus, MODEL, CONFIG.model_copy(update={"use_gpu": True}), Folder.at(tmp_path), 1)


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from conftest import SPACE
from test_train import CONFIG, MODEL
from hat_ray.corpus.corpus import Corpus
from hat_ray.storage.folder import Folder
from hat_ray.train import metrics
from hat_ray.train.job import train_super

metrics._SECONDS_BETWEEN_REPORTS = 0

def progress(done, total, figures):
    if done == {kill_after}:
        os.kill(os.getpid(), signal.SIGKILL)

train_super(SPACE, Corpus.load(Folder.at({corpus!r})), MODEL, CONFIG, Folder.at({folder!r}), 1, progress)
"""


@pytest.mark.parametrize("kill_after", [3, pytest.param(15, marks=pytest.mark.slow)])
def test_a_killed_training_equals_an_unkilled_one_bit_by_bit(kill_after, tiny_space, corpus, tmp_path):
    whole, killed = Folder.at(tmp_path / "whole"), Folder.at(tmp_path / "killed")
    expected = train_super(tiny_space, corpus, MODEL, CONFIG, whole, 1)
    script = KILLED.format(
        tests=str(Path(__file__).parent), kill_after=kill_after, corpus=corpus.folder.uri, folder=killed.uri
    )
    child = subprocess.run([sys.executable, "-c", script], timeout=240, check=False, env=dict(os.environ))
    assert child.returncode == -signal.SIGKILL
    assert not killed.exists("train.json")
    resumed = train_super(tiny_space, corpus, MODEL, CONFIG, killed, 1)
    assert curve(resumed) == curve(expected)
    for name, weight in super_weights(whole).items():
        assert torch.equal(super_weights(killed)[name], weight), name


class OnALeavingNode(OneWorker):
    def leaving(self) -> bool:
        return True


def test_a_training_whose_node_will_be_taken_away_saves_its_weights_and_ends(tiny_space, corpus, tmp_path):
    config = CONFIG.model_copy(update={"checkpoint_every": 24})
    whole, left = Folder.at(tmp_path / "whole"), Folder.at(tmp_path / "left")
    expected = train_super(tiny_space, corpus, MODEL, config, whole, 1)
    with pytest.raises(NodeLeavesError, match="update 10"):
        train_super(tiny_space, corpus, MODEL, config, left, 1, workers=OnALeavingNode())
    assert left.child("checkpoints").list() == ["update-00000010"]
    assert curve(train_super(tiny_space, corpus, MODEL, config, left, 1)) == curve(expected)
    for name, weight in super_weights(whole).items():
        assert torch.equal(super_weights(left)[name], weight), name


@pytest.mark.parametrize("damage", ["cut tensors", "flipped bit", "no json", "half a json"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning(damage, tiny_space, corpus, tmp_path, caplog):
    folder = Folder.at(tmp_path)
    expected = train_super(tiny_space, corpus, MODEL, CONFIG, folder, 1)
    weights = super_weights(folder)
    folder.delete("train.json")
    newest = folder.child("checkpoints", "update-00000024")
    content = newest.read_bytes("state.safetensors")
    match damage:
        case "cut tensors":
            newest.write_bytes("state.safetensors", content[: len(content) // 2])
        case "flipped bit":
            newest.write_bytes("state.safetensors", content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
        case "no json":
            newest.delete("state.json")
        case "half a json":
            newest.write_text("state.json", newest.read_text("state.json")[:100])
    with caplog.at_level(logging.WARNING):
        resumed = train_super(tiny_space, corpus, MODEL, CONFIG, folder, 1)
    assert "update-00000024 is damaged or half-written and is skipped" in caplog.text
    assert curve(resumed) == curve(expected)
    for name, weight in weights.items():
        assert torch.equal(super_weights(folder)[name], weight)


def test_checkpoints_of_another_training_are_refused(tiny_space, corpus, tmp_path):
    folder = Folder.at(tmp_path)
    train_super(tiny_space, corpus, MODEL, CONFIG, folder, 1)
    folder.delete("train.json")
    with pytest.raises(CheckpointError, match="holds checkpoints of another training"):
        train_super(tiny_space, corpus, MODEL, CONFIG, folder, 2)


class Fellow(OneWorker):
    """One of two workers, for the feed alone."""

    world_size = 2

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank


def test_the_feed_gives_every_pair_once_an_epoch_whatever_the_number_of_workers(corpus):
    epoch = make_batches(corpus.train, 400, 1, 0)
    updates = len(epoch) // 3 + 1  # the last one reaches into the second epoch
    workers: list[list[OneWorker]] = [[OneWorker()], [Fellow(0), Fellow(1)]]
    sequences = []
    for group in workers:
        numbered = []
        for worker in group:
            feed, position = UpdateBatches(corpus.train, 400, 3, 1, worker), Position()
            for update in range(updates):
                batches, position = feed.update(position)
                numbered += [((update, number), batch.target_out) for number, batch in batches]
        sequences.append(sorted(numbered, key=lambda item: item[0]))
        assert position == Position(1, 3 * updates - len(epoch))
    one, two = sequences
    assert [place for place, _ in one] == [place for place, _ in two]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(one, two, strict=True))
    assert sum(len(batch) for _, batch in one[: len(epoch)]) == len(corpus.train)


def test_results_survive_the_way_through_json(tiny_space, corpus, tmp_path):
    folder = Folder.at(tmp_path)
    result = train_super(tiny_space, corpus, MODEL, CONFIG.model_copy(update={"updates": 3}), folder, 1)
    assert from_json(TrainResult, to_json(result), "the result") == result


def _load(content: bytes) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(content)


def _store(place: Path):
    return CheckpointStore(Folder.at(place), "test", keep_last=1)

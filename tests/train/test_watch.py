"""TensorBoard files and MLflow runs of real trainings, read back."""

import importlib.util
import logging
import struct
import threading

import pytest
from tensorboardX.proto.event_pb2 import Event

from hat_ray.errors import HatRayError
from hat_ray.model.config import ModelConfig
from hat_ray.storage.folder import Folder
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import train_super
from hat_ray.train.metrics import AsyncSink, TensorBoard, run_name

MODEL = ModelConfig(dropout=0.1)
CONFIG = TrainConfig(
    updates=24, max_tokens=400, warmup_updates=5, validate_every=8, checkpoint_every=6, log_every=4, tensorboard=True
)
HAS_MLFLOW = importlib.util.find_spec("mlflow") is not None


def events(folder: Folder) -> list[Event]:
    """Read all event files: records of length, checksum, content, checksum."""
    found = []
    for name in folder.list():
        content = folder.read_bytes(name)
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def scalars(folder: Folder) -> dict[str, dict[int, float]]:
    """Return name -> update -> value as TensorBoard shows them: a restart hides what was told from its step on."""
    shown: dict[str, dict[int, float]] = {}
    for event in sorted(events(folder), key=lambda event: event.wall_time):
        if event.HasField("session_log"):
            shown = {name: {s: v for s, v in told.items() if s < event.step} for name, told in shown.items()}
        for value in event.summary.value:
            shown.setdefault(value.tag, {})[event.step] = value.simple_value
    return shown


def test_event_files_hold_the_history_and_every_logged_update(tiny_space, corpus, tmp_path):
    folder = Folder.at(tmp_path)
    result = train_super(tiny_space, corpus, MODEL, CONFIG, folder, 1)
    shown = scalars(folder.child("tensorboard"))
    for model in ("largest", "smallest"):
        expected = {point.update: pytest.approx(point.valid_loss_bits[model], rel=1e-6) for point in result.history}
        assert shown[f"valid/loss_bits/{model}"] == expected
    every = list(range(4, 25, 4))
    for name in ("train/loss_bits", "train/tokens_per_s", "train/lr", "train/grad_norm"):
        assert sorted(shown[name]) == every, name
        assert all(value > 0 for value in shown[name].values())
    for point in result.history:
        assert shown["train/loss_bits"][point.update] == pytest.approx(point.train_loss_bits, rel=1e-6)
    assert sorted(shown["checkpoint/update"]) == [6, 12, 18, 24]


def test_a_resumed_training_shows_each_update_once_and_as_an_unbroken_one(tiny_space, corpus, tmp_path):
    class StopError(Exception):
        pass

    def stop(done, total, figures):
        if done >= 15:
            raise StopError

    whole, broken = Folder.at(tmp_path / "whole"), Folder.at(tmp_path / "broken")
    train_super(tiny_space, corpus, MODEL, CONFIG, whole, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hat_ray.train.metrics._SECONDS_BETWEEN_REPORTS", 0.0)
        with pytest.raises(StopError):
            train_super(tiny_space, corpus, MODEL, CONFIG, broken, 1, stop)
    train_super(tiny_space, corpus, MODEL, CONFIG, broken, 1)
    assert len(broken.child("tensorboard").list()) == 2
    timeless = ("valid/loss_bits/largest", "valid/loss_bits/smallest", "train/loss_bits", "train/lr", "train/grad_norm")
    expected, shown = scalars(whole.child("tensorboard")), scalars(broken.child("tensorboard"))
    assert {name: shown[name] for name in timeless} == {name: expected[name] for name in timeless}


def test_nothing_is_written_when_it_is_switched_off(tiny_space, corpus, tmp_path):
    config = CONFIG.model_copy(update={"tensorboard": False, "updates": 4})
    train_super(tiny_space, corpus, MODEL, config, Folder.at(tmp_path), 1)
    assert not Folder.at(tmp_path).exists("tensorboard")


def test_storage_by_uri_gets_the_event_files_too(tmp_path):
    board = TensorBoard(Folder.at(f"fsspec+file://{tmp_path}/x/tensorboard"), 1)
    board.log(3, {"a": 2.0})
    board.close()
    assert scalars(Folder.at(tmp_path / "x" / "tensorboard")) == {"a": {3: 2.0}}


def test_a_writer_that_fails_is_named_once_and_holds_nothing_up(tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("a file where a folder should be")
    sink = AsyncSink("TensorBoard", lambda first: TensorBoard(Folder.at(tmp_path / "tensorboard"), first))
    with caplog.at_level(logging.WARNING):
        for update in range(20_000):
            sink.log(update, {"a": 1.0})
        sink.close()
    told = [record.getMessage() for record in caplog.records if record.name == "hat_ray.train.metrics"]
    assert len(told) == 1
    assert told[0].startswith("TensorBoard gets no more figures, training continues: ")
    assert "TensorBoard" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.skipif(HAS_MLFLOW, reason="MLflow is installed")
def test_mlflow_that_is_not_installed_is_told_before_anything_is_trained(tiny_space, corpus, tmp_path):
    config = CONFIG.model_copy(update={"mlflow": "hat-ray"})
    with pytest.raises(HatRayError, match=r"train\.mlflow needs the package mlflow, which is not installed here"):
        train_super(tiny_space, corpus, MODEL, config, Folder.at(tmp_path), 1)
    assert Folder.at(tmp_path).list() == ["lease"]


@pytest.mark.skipif(not HAS_MLFLOW, reason="MLflow is not installed")
def test_mlflow_gets_the_figures_and_a_resumed_training_continues_its_run(tiny_space, corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    folder = Folder.at(tmp_path / "demo" / "supernet")
    config = CONFIG.model_copy(update={"mlflow": "hat-ray"})
    result = train_super(tiny_space, corpus, MODEL, config, folder, 1)
    client = importlib.import_module("mlflow").MlflowClient()
    run = folder.read_json("mlflow.json")["run_id"]
    history = client.get_metric_history(run, "valid/loss_bits/largest")
    assert {m.step: m.value for m in history} == {p.update: p.valid_loss_bits["largest"] for p in result.history}
    assert client.get_run(run).info.status == "FINISHED"
    folder.delete("train.json")
    folder.child("checkpoints").delete("update-00000024")
    train_super(tiny_space, corpus, MODEL, config, folder, 1)
    assert folder.read_json("mlflow.json")["run_id"] == run
    assert client.get_run(run).info.run_name == "demo/supernet"


def test_a_training_is_named_after_the_end_of_its_folder():
    assert run_name(Folder("s3://bucket/runs/demo/supernet")) == "demo/supernet"

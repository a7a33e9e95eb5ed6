"""A whole run on a real S3 server that refuses half of what is asked for a while: nothing lost, nothing else made."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hat_ray.api import run_recipe
from hat_ray.model.checkpoints.native import load_super
from hat_ray.recipe import Recipe, load_recipe
from hat_ray.report.render import read_report
from hat_ray.storage.folder import Folder
from tests.s3 import S3, Faults
from tests.waiting import wait_for

TINY = str(Path(__file__).parent / "tiny.yaml")
SETTINGS = ["supernet.updates=60", "supernet.checkpoint_every=6", "search.limits_ms=[1000]"]
SECONDS_OF_REFUSALS = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def recipe() -> Recipe:
    return load_recipe(TINY, SETTINGS)


def train(place: str, cache: Path) -> "subprocess.Popen[str]":
    changes = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [
        sys.executable,
        "-c",
        "from hat_ray.cli import main; main()",
        "train",
        "super",
        TINY,
        "--run",
        place,
        "--local",
        *changes,
    ]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "HAT_RAY_CACHE": str(cache)})


def weights(run: Folder) -> dict[str, torch.Tensor]:
    return load_super(run.child("supernet"), "supernet").weights()


def files(folder: Folder) -> dict[str, bytes]:
    names = [info.path[len(folder.root) + 1 :] for info in folder.entries(recursive=True) if info.is_file]
    return {name: folder.read_bytes(name) for name in names}


def test_a_training_that_is_killed_and_then_refused_half_of_all_gets_loses_nothing(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HAT_RAY_CACHE", str(tmp_path / "cache"))
    undisturbed = Folder.at(tmp_path / "undisturbed")
    for stage in ("corpus", "supernet"):
        run_recipe(recipe(), str(undisturbed), local=True, only=stage)

    place = s3.place("runs/tiny run")
    run = Folder.at(place)
    run_recipe(recipe(), place, local=True, only="corpus")
    first = train(place, tmp_path / "cache")
    checkpoints = run.child("supernet", "checkpoints")
    wait_for(lambda: first.poll() is not None or len(checkpoints.list()) >= 2)
    assert first.poll() is None
    first.kill()
    first.communicate(timeout=240)
    whole = [name for name in checkpoints.list() if checkpoints.exists(f"{name}/state.json")]
    assert whole
    assert not run.exists("supernet/stage.json")

    with s3.going_wrong(Faults("refuse", share=0.5, seed=16), seconds=SECONDS_OF_REFUSALS) as faults:
        second = train(place, tmp_path / "cache")
        said = second.communicate(timeout=600)[1]
    assert second.returncode == 0, said
    assert faults.count > 10
    assert "trying again" in said
    assert not [name for name in whole if f"{name} is damaged" in said]
    assert f"after update {int(whole[-1].removeprefix('update-'))}\n" in said  # it resumed there

    expected, found = weights(undisturbed), weights(run)
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    here, there = files(undisturbed.child("corpus")), files(run.child("corpus"))
    same = {name for name in here if not name.endswith(".json")}
    assert same == {name for name in there if not name.endswith(".json")}
    assert all(here[name] == there[name] for name in same)

    run_recipe(recipe(), place, local=True)
    report = read_report(run.child("report"))
    assert [model.kind for model in report.chosen] == ["winner", "random", "largest"]
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in expected.items())


def without_seconds(model: dict[str, Any]) -> dict[str, Any]:
    trainings = [{name: value for name, value in one.items() if name != "seconds"} for one in model["trainings"]]
    return {**model, "trainings": trainings}


def test_a_whole_run_on_a_ray_cluster_of_its_own_makes_on_s3_what_it_makes_on_a_disk(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HAT_RAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    place, disk = s3.place("runs/tiny run"), Folder.at(tmp_path / "disk")
    limit = "search.limits_ms=[1000]"
    command = [sys.executable, "-c", "from hat_ray.cli import main; main()", "run", TINY, "--run", place, "--json"]
    done = subprocess.run([*command, "--set", limit], capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)["stages"]
    expected = {one.stage: one.output for one in run_recipe(load_recipe(TINY, [limit]), str(disk.uri), local=True)}
    assert list(made) == list(expected)
    assert made["corpus"] == expected["corpus"]

    run = Folder.at(place)
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in weights(disk).items())
    data, at_disk = read_report(run.child("report")), read_report(disk.child("report"))
    kinds = [model.kind for model in data.chosen]
    assert kinds == [model.kind for model in at_disk.chosen] == ["winner", "random", "largest"]
    largest = load_recipe(TINY).space.build().largest().id
    here, there = (without_seconds(one["retrain"]["models"][largest]) for one in (made, expected))
    assert here == there
    assert run.read_text("report/report.html").startswith("<!doctype html>")
    assert s3.requests["PUT"] > 50

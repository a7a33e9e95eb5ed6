"""Two drivers want one run folder and are killed again and again: the result is that of an undisturbed run."""

import json
import os
import random
import shutil
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from hat_ray.api import run_recipe
from hat_ray.recipe import load_recipe
from hat_ray.search.candidates import CandidateTable
from hat_ray.storage.folder import Folder
from tests.pipeline.competing import drive
from tests.pipeline.conftest import TINY
from tests.processes import SERVER
from tests.s3 import CREDENTIALS, S3
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
SMALL = (
    *("search.workers=1", "search.refine_rounds=0", "search.evaluations=12", "search.limits_fraction=[0.5]"),
    *("retrain.baselines=[random]", "supernet.checkpoint_every=3"),
    *("retrain.checkpoint_every=4", "corpus.toy.test_pairs=8", "latency.budget_s=0.1", "evaluate.beam=1"),
)


class Drivers:
    """Starts drivers of one run, which has a latency table of its own."""

    def __init__(self, home: Path, timed: Path, run: str = "") -> None:
        shutil.copytree(timed, home / "table")
        changes = [*SMALL, f"latency.table={home}/table"]
        self.arguments = ["run", TINY, "--run", run or str(home / "r"), "--local"]
        self.arguments += [word for change in changes for word in ("--set", change)]
        self.home, self.started = home, 0
        self.environment = {**CREDENTIALS, "HAT_RAY_CACHE": str(home / "cache")}

    def start(self, *more: str, changes: int | None = None, insist: bool = False) -> tuple[BaseProcess, Path]:
        said = self.home / f"said-{self.started}.txt"
        said.touch()
        self.started += 1
        process = SERVER.Process(target=drive, args=([*self.arguments, *more], said, changes, insist, self.environment))
        process.start()
        return process, said


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latency table that holds all that will be asked: what is timed again is never the same."""
    home = tmp_path_factory.mktemp("timed")
    run_recipe(
        load_recipe(TINY, [*SMALL, f"latency.table={home / 'table'}"]), str(home / "r"), local=True, only="latency"
    )
    return home / "table"


@pytest.mark.parametrize(("where", "deaths"), [("disk", 24), ("s3", 12)])
def test_two_drivers_that_are_killed_again_and_again_end_as_one_that_is_not(
    where: str, deaths: int, timed: Path, tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HAT_RAY_CACHE", str(tmp_path / "cache-of-this-process"))
    run = Folder.at(tmp_path / "r" if where == "disk" else s3.place("team/r"))
    shutil.copytree(timed, tmp_path / "whole-table")  # models are timed again into it when they are evaluated
    recipe = load_recipe(TINY, [*SMALL, f"latency.table={tmp_path}/whole-table"])
    run_recipe(recipe, str(tmp_path / "whole"), local=True)
    drivers = Drivers(tmp_path, timed, run.uri)
    chance, kills, refused, done = random.Random(1), 0, 0, False
    while not done:
        lives = [chance.randint(2, 12) if kills < deaths else None for _ in range(2)]
        pair = [drivers.start(changes=life, insist=place == 1) for place, life in enumerate(lives)]
        for process, said in pair:
            process.join(600)
            text = said.read_text(encoding="utf-8")
            assert process.exitcode in (0, 2, -signal.SIGKILL), text
            assert "Traceback" not in text
            kills += process.exitcode == -signal.SIGKILL
            refused += process.exitcode == 2
            done |= process.exitcode == 0
            if process.exitcode == 2:
                assert "one process at a time may work in" in text
                assert text.count("hat-ray: error:") == 1
    assert kills >= deaths, f"the run was over after {kills} kills"
    print(f"{where}: {kills} kills, {refused} refusals, {drivers.started} drivers")
    assert result_of(here(run, tmp_path / "fetched")) == result_of(tmp_path / "whole")


def test_a_driver_that_was_asleep_while_another_took_over_ends_in_one_line(timed: Path, tmp_path: Path):
    drivers = Drivers(tmp_path, timed)
    older, said = drivers.start()
    wait_for(lambda: not older.is_alive() or list(tmp_path.glob("r/supernet/checkpoints/*/state.json")), every_s=0.02)
    assert older.is_alive(), said.read_text(encoding="utf-8")
    os.kill(older.pid, signal.SIGSTOP)
    try:
        newer, _ = drivers.start("--take-over")
        newer.join(600)
        assert newer.exitcode == 0
        before = files_of(tmp_path / "r")
    finally:  # pytest itself would wait for it at its end
        os.kill(older.pid, signal.SIGCONT)
        older.join(240)
    text = said.read_text(encoding="utf-8")
    assert older.exitcode == 2, text
    errors = [line for line in text.splitlines() if line.startswith("hat-ray: error:")]
    assert len(errors) == 1
    assert f"was taken over by process {newer.pid} on " in errors[0]
    assert files_of(tmp_path / "r") == before


def here(run: Folder, place: Path) -> Path:
    """Return a run as a folder of this machine."""
    if run.is_local:
        return Path(run.uri)
    for info in run.entries(recursive=True):
        if info.is_file:
            name = info.path[len(run.root) + 1 :]
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(run.read_bytes(name))
    return place


def files_of(place: Path) -> dict[Path, bytes]:
    """Return all files of a run but the figures for TensorBoard: each driver adds to one of its own."""
    files = [path for path in place.rglob("*") if path.is_file() and "tensorboard" not in path.parts]
    return {path: path.read_bytes() for path in files}


def result_of(place: Path) -> dict[str, object]:
    """Return what a run found, without times of day and durations."""
    rows = CandidateTable(Folder.at(place / "search")).read()
    retrained = json.loads((place / "retrain" / "stage.json").read_bytes())["output"]
    found: dict[str, object] = {
        "selected": retrained["selected"],
        "candidates": [
            (c.architecture, c.loss_bits, c.latency_ms, c.order, c.origin, c.parents, c.low_ms) for c in rows
        ],
    }
    for pattern in (
        *("corpus/tokens-*/*", "supernet/supernet.*", "retrain/*/model.*"),
        *("predictor/*-fp32.json", "search/winners.json", "search/frontier.csv"),
    ):
        files = sorted(file for file in place.glob(pattern) if not file.name.startswith("."))  # not of killed writers
        assert files, f"{place} has no {pattern}"
        found |= {str(file.relative_to(place)): file.read_bytes() for file in files}
    for file in sorted(place.glob("evaluate/*.json")):
        if file.name not in ("begun.json", "stage.json", "session.json"):
            found[file.name] = json.loads(file.read_bytes())
    return found

"""Run folders: what is finished is known, what changed is noticed, strangers are refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hat_ray.errors import RunError, SearchError
from hat_ray.pipeline.execution import LocalExecution
from hat_ray.pipeline.stage import Context, Stage, run_stages
from hat_ray.recipe import load_recipe
from hat_ray.run import Run
from hat_ray.storage import Folder


def worker(calls: list[str], name: str, fail: bool = False):
    def work(context: Context, folder: Folder) -> dict[str, Any]:
        calls.append(name)
        folder.write_text(f"partial-{len(folder.list())}", "x")
        if fail:
            raise KeyboardInterrupt
        return {"files": len(folder.list())}

    return work


def stages(calls: list[str]) -> list[Stage]:
    return [
        Stage("a", ("corpus",), (), worker(calls, "a")),
        Stage("b", ("search",), ("a",), worker(calls, "b")),
        Stage("c", ("evaluate",), ("b",), worker(calls, "c")),
    ]


def context(place: Path, *changes: str) -> Context:
    return Context(Run.open(place, load_recipe("toy", list(changes))), LocalExecution())


def test_finished_stages_are_skipped(tmp_path: Path):
    calls: list[str] = []
    run_stages(context(tmp_path / "r"), stages(calls))
    run_stages(context(tmp_path / "r"), stages(calls))
    assert calls == ["a", "b", "c"]


def test_a_changed_setting_redoes_its_stage_and_what_reads_from_it(tmp_path: Path):
    calls: list[str] = []
    run_stages(context(tmp_path / "r"), stages(calls))
    run_stages(context(tmp_path / "r", "search.evaluations=7"), stages(calls))
    assert calls == ["a", "b", "c", "b", "c"]


def test_an_operational_setting_redoes_nothing(tmp_path: Path):
    calls: list[str] = []
    run_stages(context(tmp_path / "r"), stages(calls))
    run_stages(context(tmp_path / "r", "search.workers=1"), stages(calls))
    assert calls == ["a", "b", "c"]


def test_a_stage_that_is_made_again_is_noticed_downstream(tmp_path: Path):
    calls: list[str] = []
    run_stages(context(tmp_path / "r"), stages(calls))
    Folder.at(tmp_path / "r" / "a").delete()
    run_stages(context(tmp_path / "r"), stages(calls))
    assert calls == ["a", "b", "c", "a", "b", "c"]


def test_an_interrupted_stage_is_resumed_with_what_it_left(tmp_path: Path):
    calls: list[str] = []
    broken = [Stage("a", ("corpus",), (), worker(calls, "a", fail=True))]
    with pytest.raises(KeyboardInterrupt):
        run_stages(context(tmp_path / "r"), broken)
    records = run_stages(context(tmp_path / "r"), stages(calls)[:1])
    assert records[0].summary["files"] == 3  # begun.json, and a partial file of each attempt
    with pytest.raises(KeyboardInterrupt):
        run_stages(context(tmp_path / "r", "corpus.vocab_size=600"), broken)
    records = run_stages(context(tmp_path / "r", "corpus.vocab_size=601"), stages(calls)[:1])
    assert records[0].summary["files"] == 2  # other settings: afresh


def test_one_stage_needs_the_ones_before(tmp_path: Path):
    calls: list[str] = []
    with pytest.raises(RunError, match=r"stage b reads from a, which .* does not have yet"):
        run_stages(context(tmp_path / "r"), stages(calls), only="b")
    run_stages(context(tmp_path / "r"), stages(calls), only="a")
    run_stages(context(tmp_path / "r"), stages(calls), only="b")
    assert calls == ["a", "b"]


def test_a_folder_of_another_recipe_or_with_other_files_is_refused(tmp_path: Path):
    context(tmp_path / "r")
    other = load_recipe("toy", ["name=other"])
    with pytest.raises(RunError, match="belongs to recipe 'toy', this one is 'other'"):
        Run.open(tmp_path / "r", other)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match="is not empty and is not a run folder"):
        Run.open(tmp_path / "mine", other)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path):
    code = """
import sys, time
from hat_ray.recipe import load_recipe
from hat_ray.run import Run
with Run.open(sys.argv[1], load_recipe("toy")).lock():
    print("locked", flush=True)
    time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "r")], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline().strip() == "locked"
        with pytest.raises(RunError, match="another process is working"):
            run_stages(context(tmp_path / "r"), [])
    finally:
        other.kill()
        other.wait(timeout=30)
    run_stages(context(tmp_path / "r"), [])  # a killed process leaves no lock behind


def test_a_users_mistake_in_new_settings_loses_nothing_that_was_finished(tmp_path: Path):
    calls: list[str] = []
    run_stages(context(tmp_path / "r"), stages(calls))
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*.json")}
    kept = (tmp_path / "r" / "recipe.yaml").read_text()

    def mistaken(_context: Context, folder: Folder) -> dict[str, Any]:
        folder.write_text("half", "x")
        raise SearchError("no architecture keeps it")

    wrong = [stages(calls)[0], Stage("b", ("search",), ("a",), mistaken), stages(calls)[2]]
    with pytest.raises(SearchError):
        run_stages(context(tmp_path / "r", "search.evaluations=9"), wrong)
    assert {path: path.read_bytes() for path in (tmp_path / "r").rglob("*.json")} == before
    assert (tmp_path / "r" / "recipe.yaml").read_text() == kept
    run_stages(context(tmp_path / "r"), stages(calls))
    assert calls == ["a", "b", "c"]

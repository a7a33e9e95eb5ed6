"""Run folders: what is finished is known, what changed is noticed, strangers are refused."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.core.lease import InUseError, Lease, held
from hat_ray.errors import DamagedError, RunError, SearchError
from hat_ray.pipeline.execution import LocalExecution
from hat_ray.pipeline.kept import Kept, disk_line
from hat_ray.pipeline.outline import COMMANDS
from hat_ray.pipeline.run_folder import Run, clean_run
from hat_ray.pipeline.stage import Context, Stage, run_stages
from hat_ray.recipe import Recipe, load_recipe
from hat_ray.storage.folder import Folder


def worker(calls: list[str], name: str, fail: bool = False):
    def work(context: Context, folder: Folder) -> dict[str, Any]:
        calls.append(name)
        folder.write_text(f"partial-{len(folder.list())}", "x")
        if fail:
            raise KeyboardInterrupt
        return {"files": len(folder.list())}

    return work


def stages(calls: list[str]) -> list[Stage[Any]]:
    return [
        Stage("a", dict, ("corpus",), (), worker(calls, "a")),
        Stage("b", dict, ("search",), ("a",), worker(calls, "b")),
        Stage("c", dict, ("evaluate",), ("b",), worker(calls, "c")),
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
    Folder.at(tmp_path / "r").delete("a")
    run_stages(context(tmp_path / "r"), stages(calls))
    assert calls == ["a", "b", "c", "a", "b", "c"]


def test_an_interrupted_stage_is_resumed_with_what_it_left(tmp_path: Path):
    calls: list[str] = []
    broken = [Stage("a", dict, ("corpus",), (), worker(calls, "a", fail=True))]
    with pytest.raises(KeyboardInterrupt):
        run_stages(context(tmp_path / "r"), broken)
    records = run_stages(context(tmp_path / "r"), stages(calls)[:1])
    assert records[0].output["files"] == 3  # begun.json, and a partial file of each attempt
    with pytest.raises(KeyboardInterrupt):
        run_stages(context(tmp_path / "r", "corpus.vocab_size=600"), broken)
    records = run_stages(context(tmp_path / "r", "corpus.vocab_size=601"), stages(calls)[:1])
    assert records[0].output["files"] == 2  # other settings: afresh


def test_one_stage_needs_the_ones_before(tmp_path: Path):
    calls: list[str] = []
    with pytest.raises(RunError, match=r"stage b reads from a, which .* does not have yet"):
        run_stages(context(tmp_path / "r"), stages(calls), only="b")
    run_stages(context(tmp_path / "r"), stages(calls), only="a")
    run_stages(context(tmp_path / "r"), stages(calls), only="b")
    assert calls == ["a", "b"]


def test_a_stage_that_is_missing_is_named_with_its_command(tmp_path: Path) -> None:
    (tmp_path / "my text").mkdir()
    place = tmp_path / "r"
    options = ["multi30k.en-de", "--data", str(tmp_path / "my text"), "--run", str(place), "--local", "--skip-checks"]
    for command, stage, missing in (
        (["train", "super"], "supernet reads from corpus", "corpus"),
        (["predict", "fit"], "predictor reads from latency", "latency measure"),
    ):
        done = CliRunner().invoke(app, [*command, *options])
        told = f"do `hat-ray {missing} RECIPE --data '{tmp_path / 'my text'}' --run {place}` first"
        assert str(done.exception) == f"stage {stage}, which {place} does not have yet: {told}"
    for name, words in COMMANDS.items():
        assert CliRunner().invoke(app, [*words.split(), "--help"]).exit_code == 0, name


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


def test_a_folder_where_a_run_was_killed_as_it_began_is_a_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    recipe, place = load_recipe("toy"), tmp_path / "r"
    with monkeypatch.context() as change:
        change.setattr("os.link", killed)
        change.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            Run.open(place, recipe)
    [left] = place.iterdir()
    assert left.name.startswith(".run.json.")
    assert Run.open(place, recipe).recipe == recipe
    assert left.exists(), "it may belong to a process that lives"


def test_a_folder_that_another_process_begins_while_it_is_opened_is_a_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe, place, looked = load_recipe("toy"), tmp_path / "r", Folder.exists

    def exists(folder: Folder, *parts: str) -> bool:
        found = looked(folder, *parts)
        if parts == ("run.json",) and not found:
            monkeypatch.setattr(Folder, "exists", looked)
            Run.open(place, recipe)  # the other process, after this one has looked
        return found

    monkeypatch.setattr(Folder, "exists", exists)
    assert Run.open(place, recipe).folder == Folder.at(place)
    assert [path.name for path in place.iterdir()] == ["run.json"]


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path):
    code = """
import sys, time
from hat_ray.recipe import Recipe, load_recipe
from hat_ray.pipeline.run_folder import Run
with Run.open(sys.argv[1], load_recipe("toy")).held():
    print("locked", flush=True)
    time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "r")], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline().strip() == "locked"
        with pytest.raises(InUseError, match=rf"in use by process {other.pid} on .*, since 20"):
            run_stages(context(tmp_path / "r"), [])
    finally:
        other.kill()
        other.wait(timeout=240)
    run_stages(context(tmp_path / "r"), [])  # a killed process leaves no lock behind


def test_a_users_mistake_in_new_settings_loses_nothing_that_was_finished(tmp_path: Path):
    calls: list[str] = []
    run_stages(context(tmp_path / "r"), stages(calls))
    before = {path: path.read_bytes() for path in (tmp_path / "r").glob("[abc]/*.json")}
    kept = (tmp_path / "r" / "recipe.yaml").read_text()

    def mistaken(_context: Context, folder: Folder) -> dict[str, Any]:
        folder.write_text("half", "x")
        raise SearchError("no architecture keeps it")

    wrong = [stages(calls)[0], Stage("b", dict, ("search",), ("a",), mistaken), stages(calls)[2]]
    with pytest.raises(SearchError):
        run_stages(context(tmp_path / "r", "search.evaluations=9"), wrong)
    assert {path: path.read_bytes() for path in (tmp_path / "r").glob("[abc]/*.json")} == before
    assert (tmp_path / "r" / "recipe.yaml").read_text() == kept
    run_stages(context(tmp_path / "r"), stages(calls))
    assert calls == ["a", "b", "c"]


def test_a_finished_result_survives_a_change_of_mind(tmp_path: Path):
    """A finished, B begun and killed, A again: nothing is redone, downstream neither; and B goes on where it was."""
    calls: list[str] = []
    run_stages(context(tmp_path / "r"), stages(calls))
    before = {path.name: path.read_bytes() for path in (tmp_path / "r").glob("[abc]/*.json")}
    killed = [Stage("a", dict, ("corpus",), (), worker(calls, "B", fail=True))]
    with pytest.raises(KeyboardInterrupt):
        run_stages(context(tmp_path / "r", "corpus.vocab_size=600"), killed)
    run_stages(context(tmp_path / "r"), stages(calls))
    assert calls == ["a", "b", "c", "B"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "r").glob("[abc]/*.json")} == before
    records = run_stages(context(tmp_path / "r", "corpus.vocab_size=600"), stages(calls))
    assert calls == ["a", "b", "c", "B", "a", "b", "c"]
    assert records[0].output["files"] == 3  # begun.json, what the killed one left, and its own
    run_stages(context(tmp_path / "r"), stages(calls))
    run_stages(context(tmp_path / "r", "corpus.vocab_size=600"), stages(calls))
    assert calls == ["a", "b", "c", "B", "a", "b", "c"]


def test_what_is_kept_is_shown_with_its_size_and_freed_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    calls: list[str] = []
    run_stages(context(tmp_path / "r"), stages(calls))
    assert disk_line(Kept(Folder.at(tmp_path / "r")).results(), "r") is None
    run_stages(context(tmp_path / "r", "search.evaluations=7"), stages(calls))
    kept = Kept(Folder.at(tmp_path / "r")).results()
    assert [(one.stage, one.finished) for one in kept] == [("b", True), ("c", True)]
    files = [path for path in (tmp_path / "r" / "kept").rglob("*") if path.is_file()]
    assert sum(one.bytes for one in kept) == sum(path.stat().st_size for path in files)
    assert clean_run(str(tmp_path / "r"), delete=False) == kept == clean_run(str(tmp_path / "r"), delete=True)
    assert clean_run(str(tmp_path / "r"), delete=False) == []
    run_stages(context(tmp_path / "r", "search.evaluations=7"), stages(calls))
    assert calls == ["a", "b", "c", "b", "c"]  # what is current stays
    with pytest.raises(RunError, match="not a run folder"):
        clean_run(str(tmp_path), delete=True)
    with held(Folder.at(tmp_path / "r")), pytest.raises(InUseError):
        clean_run(str(tmp_path / "r"), delete=True)


class Killed(BaseException):
    """A process that ends between two steps."""


@pytest.mark.parametrize(
    "renames", [pytest.param(True, id="disk"), pytest.param(False, id="object store", marks=pytest.mark.slow)]
)
def test_a_change_of_mind_survives_a_kill_between_any_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: bool
):
    """Before each change of the storage the process dies; with the settings back, A's result is there, whole."""
    if not renames:
        monkeypatch.setattr("hat_ray.pipeline.kept._RENAMES_FOLDERS", ())
    one, other = load_recipe("toy"), load_recipe("toy", ["corpus.vocab_size=600"])

    def tree(place: Path) -> dict[str, bytes]:
        files = [file for stage in "ab" for file in (place / stage).rglob("*") if file.is_file()]
        return {str(file.relative_to(place)): file.read_bytes() for file in files}

    def do(place: Path, recipe: Recipe, take_over: bool = False) -> None:
        run_stages(Context(Run.open(place, recipe), LocalExecution()), stages(calls)[:2], take_over=take_over)

    steps, whole = 0, False
    while not whole:
        place, calls = tmp_path / str(steps), []
        do(place, one)
        before = tree(place)
        with dying_after(steps, monkeypatch) as left, suppress(Killed):
            do(place, other)
            do(place, one)
            whole = left[0] > 0
        made = len(calls)
        do(place, one, take_over=True)
        assert len(calls) == made, f"after {steps} changes, {calls[made:]} was made again"
        assert tree(place) == before, f"after {steps} changes"
        steps += 1
    assert steps > 20


@contextmanager
def dying_after(changes: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Let the process end before its change of the storage with this number, counted from 0."""
    left, check = [changes], Lease.check

    def check_or_die(lease: Lease) -> None:
        if left[0] <= 0:
            raise Killed
        left[0] -= 1
        check(lease)

    with monkeypatch.context() as patch:
        patch.setattr(Lease, "check", check_or_die)
        yield left


def test_a_resumed_stage_is_rid_of_what_killed_writers_left_and_of_nothing_else(tmp_path: Path):
    calls: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_stages(context(tmp_path / "r"), [Stage("a", dict, ("corpus",), (), worker(calls, "a", fail=True))])
    writer = (
        "import os, sys; from hat_ray.storage.folder import Folder\n"
        "with Folder.at(sys.argv[1]).writing(sys.argv[2]) as stream: stream.write(b'half'); stream.flush(); os._exit(9)"
    )
    for name in ("weights", "deep/er/weights", "table/part-1"):
        killed = subprocess.run([sys.executable, "-c", writer, tmp_path / "r" / "a", name], timeout=240, check=False)
        assert killed.returncode == 9
    for name in ("a/.notes.tmp", "a/x.1234abcd.tmp", ".recipe.yaml.1234abcd.tmp"):
        (tmp_path / "r" / name).write_text("somebody's")
    left = {str(path.relative_to(tmp_path / "r").parent) for path in (tmp_path / "r").rglob(".*.????????.tmp")}
    assert left == {"a", "a/deep/er", "a/table", "."}

    def look(_context: Context, folder: Folder) -> dict[str, Any]:
        return {"files": len([info for info in folder.entries(recursive=True) if info.base_name.endswith(".tmp")])}

    [record] = run_stages(context(tmp_path / "r"), [Stage("a", dict, ("corpus",), (), look)])
    assert record.output == {"files": 3}  # somebody's two, and the table's
    left = {str(path.relative_to(tmp_path / "r").parent) for path in (tmp_path / "r").rglob(".*.????????.tmp")}
    assert left == {"a/table", "."}


@pytest.mark.parametrize("damaged", ["run.json", "b/stage.json", "b/begun.json"])
def test_nothing_is_cleaned_in_a_run_whose_records_are_damaged(tmp_path: Path, damaged: str):
    """A kept result may be all that is left of a stage."""
    calls: list[str] = []
    run_stages(context(tmp_path / "r"), stages(calls))
    run_stages(context(tmp_path / "r", "search.evaluations=7"), stages(calls))
    before = set((tmp_path / "r" / "kept").rglob("*"))
    assert before
    content = (tmp_path / "r" / damaged).read_bytes()
    for wrong in (b"", content[: len(content) // 2], b"[1]"):
        (tmp_path / "r" / damaged).write_bytes(wrong)
        for delete in (False, True):
            with pytest.raises(DamagedError, match=rf"{damaged} is damaged") as refusal:
                clean_run(str(tmp_path / "r"), delete=delete)
            assert "\n" not in str(refusal.value)
            assert set((tmp_path / "r" / "kept").rglob("*")) == before

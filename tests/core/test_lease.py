"""Leases: one process works in a folder; whoever lost it writes nothing more there."""

import json
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hat_ray.core import lease
from hat_ray.core.lease import Holder, InUseError, Lease, TakenOverError, held
from hat_ray.storage.folder import Folder

ELSEWHERE = "board 1234 pid:[1]"


def stranger(folder: Folder, number: int = 1, **changes: object) -> None:
    """Let a process of another machine hold the folder."""
    holder = replace(Holder.this_process("t"), machine=ELSEWHERE, host="board", process=77, **changes)
    assert folder.create(f"lease/{number:08d}.json", json.dumps(asdict(holder)).encode())


def test_a_number_is_given_to_one_of_many(tmp_path: Path):
    folder = Folder.at(tmp_path)
    for number in range(1, 40):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda who: folder.create(f"{number}", str(who).encode()), range(8)))  # noqa: B023
        assert sum(won) == 1
        assert folder.read_text(f"{number}") == str(won.index(True))
    assert [name for name in folder.list() if name.endswith(".tmp")] == []


def test_who_lost_a_folder_changes_nothing_in_it(tmp_path: Path):
    folder = Folder.at(tmp_path)
    first = folder.fenced(Lease.take(folder)).child("stage")
    first.write_text("kept", "first")
    first.write_text("half", "first")
    travelled: Folder = pickle.loads(pickle.dumps(first))  # noqa: S301
    travelled.write_text("kept", "first, from a worker")
    second = folder.fenced(Lease.take(folder)).child("stage")
    for lost in (first, travelled):
        for change in (
            lambda lost=lost: lost.write_text("kept", "late"),
            lambda lost=lost: lost.write_json("new/x.json", {}),
            lambda lost=lost: lost.rename("half", "whole"),
            lambda lost=lost: lost.copy("half", "whole"),
            lambda lost=lost: lost.delete("kept"),
        ):
            with pytest.raises(TakenOverError, match=r"one process at a time .* was taken over by process \d+ on "):
                change()
    assert second.list() == ["half", "kept"]
    assert second.read_text("kept") == "first, from a worker"
    second.write_text("kept", "second")


def test_who_loses_a_folder_while_it_writes_leaves_the_file_as_it_was(tmp_path: Path):
    folder = Folder.at(tmp_path)
    first = folder.fenced(Lease.take(folder))
    first.write_text("x", "before")

    def write() -> None:
        with first.writing("x") as stream:
            stream.write(b"half")
            Lease.take(folder)

    with pytest.raises(TakenOverError):
        write()
    assert folder.read_text("x") == "before"
    assert folder.list() == ["lease", "x"]


def test_a_folder_that_was_deleted_is_not_made_again(tmp_path: Path):
    folder = Folder.at(tmp_path / "r")
    mine = folder.fenced(Lease.take(folder))
    Folder.at(tmp_path).delete("r")
    with pytest.raises(TakenOverError, match="was deleted or moved"):
        mine.write_text("x", "x")
    assert not folder.exists()


def test_a_live_process_of_this_machine_is_named(tmp_path: Path):
    folder = Folder.at(tmp_path)
    with held(folder) as mine, pytest.raises(InUseError) as told, held(folder):
        pass
    holder = Holder.this_process("t")
    assert f"in use by process {holder.process} on {holder.host}, since 20" in str(told.value)
    assert "\n" not in str(told.value)
    with held(folder) as next_one:
        assert next_one.number == mine.number + 1


@pytest.mark.parametrize("kill", [False, True])
def test_a_process_that_ended_is_gone_at_once(tmp_path: Path, kill: bool):
    code = "import sys, time; from hat_ray.core.lease import Lease; from hat_ray.storage.folder import Folder\n"
    code += "Lease.take(Folder.at(sys.argv[1])); print(flush=True); sys.stdin.read()"
    folder = Folder.at(tmp_path)
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=-1, stdout=-1)
    assert other.stdout
    assert other.stdin
    other.stdout.readline()
    with pytest.raises(InUseError), held(folder):
        pass
    if kill:
        other.kill()  # and not waited for: a process that is only still listed has ended too
        while lease._started(other.pid) != "ended":
            time.sleep(0.01)
    else:
        other.communicate(timeout=240)
    with held(folder) as mine:
        assert mine.number == 2
    other.communicate(timeout=240)


def test_an_id_that_another_process_has_by_now_is_not_the_holder(tmp_path: Path):
    folder = Folder.at(tmp_path)
    recycled = replace(Holder.this_process("t"), started="1")
    folder.create("lease/00000001.json", json.dumps(asdict(recycled)).encode())
    with held(folder) as mine:
        assert mine.number == 2


def test_a_process_elsewhere_is_alive_while_it_renews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = Folder.at(tmp_path)
    stranger(folder)
    theirs = Lease(folder, 1, json.loads(folder.read_bytes("lease/00000001.json"))["token"])
    monkeypatch.setattr(time, "sleep", lambda _seconds: theirs.renew())
    with pytest.raises(InUseError, match="in use by process 77 on board"), held(folder):
        pass


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"token": 1}'])
def test_a_process_elsewhere_that_is_silent_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
):
    """By this machine's own clock; a damaged lease counts as one that nobody renews."""
    folder, now = Folder.at(tmp_path), [1000.0]
    stranger(folder, since="2099-01-01T00:00:00+00:00")  # its clock is wrong, which must not matter
    if content is not None:
        folder.write_bytes("lease/00000001.json", content)

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(lease, "time", type("Clock", (), {"monotonic": lambda: now[0], "sleep": sleep}))
    with held(folder) as mine:
        assert mine.number == 2
    assert lease.SILENCE_S <= now[0] - 1000 <= lease.SILENCE_S + 3


def test_a_folder_is_taken_over_when_that_is_asked_for(tmp_path: Path):
    folder = Folder.at(tmp_path)
    with held(folder) as first:
        fenced = folder.fenced(first)
        with held(folder, take_over=True), pytest.raises(TakenOverError):
            fenced.write_text("x", "x")
        with pytest.raises(InUseError), held(folder), held(folder):
            pass
    assert folder.list() == ["lease"]


def test_a_lease_that_is_taken_while_it_is_renewed_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = Folder.at(tmp_path)
    older, write = Lease.take(folder), Lease._write

    def late(one: Lease, holder: Holder) -> None:
        Lease.take(folder)
        write(one, holder)

    monkeypatch.setattr(Lease, "_write", late)
    with pytest.raises(TakenOverError):
        older.renew()
    assert folder.child("lease").list() == ["00000002.json"]


def test_a_holder_renews_and_notices_what_it_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lease, "RENEW_S", 0.01)
    folder = Folder.at(tmp_path)
    with held(folder) as mine:
        name = f"lease/{mine.number:08d}.json"
        while folder.read_json(name)["renewals"] < 3:
            time.sleep(0.01)
        Lease.take(folder)
    assert folder.child("lease").list() == ["00000002.json"]  # the older one did not come back
    assert not folder.read_json("lease/00000002.json")["released"]

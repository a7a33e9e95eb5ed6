"""Run folders on a real S3 server: one process at a time, and results of other settings, without renames and locks."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hat_ray.core.lease import InUseError, Lease, TakenOverError, held
from hat_ray.pipeline.execution import LocalExecution
from hat_ray.pipeline.kept import Kept
from hat_ray.pipeline.run_folder import Run, clean_run
from hat_ray.pipeline.stage import Context, Stage, run_stages
from hat_ray.recipe import load_recipe
from hat_ray.storage.folder import Folder
from tests.s3 import S3


def test_of_many_that_want_a_number_one_has_it(s3: S3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hat_ray.core.lease._LOOK_S", 0.2)
    place = s3.place("r")

    def take(_: int) -> Lease:
        return Lease.take(Folder.at(place))

    with ThreadPoolExecutor(6) as pool:
        leases = list(pool.map(take, range(8)))
    assert len({lease.number for lease in leases}) == 8
    last = max(leases, key=lambda lease: lease.number)
    last.check()
    for lease in leases:
        if lease is not last:
            with pytest.raises(TakenOverError):
                Folder.at(place).fenced(lease).write_text("x", "x")
    assert Folder.at(place).list() == ["lease"]
    assert len(Folder.at(place).child("lease").list()) == 1


def test_a_second_process_is_told_of_the_first(s3: S3):
    folder = Folder.at(s3.place("r"))
    with held(folder), pytest.raises(InUseError, match=r"in use by process \d+ on .*, since 20"), held(folder):
        pass
    with held(folder) as next_one:
        assert next_one.number == 2


@pytest.mark.slow
def test_a_change_of_mind_keeps_results_on_an_object_store(s3: S3):
    place, calls = s3.place("team/r"), []

    def worker(name: str) -> Any:
        def work(_context: Context, folder: Folder) -> dict[str, Any]:
            calls.append(name)
            folder.write_text("deep/in/result", f"{name} {len(calls)}")
            return {"made": len(calls)}

        return work

    def do(*changes: str) -> list[int]:
        stages = [Stage("a", dict, ("corpus",), (), worker("a")), Stage("b", dict, ("search",), ("a",), worker("b"))]
        context = Context(Run.open(place, load_recipe("toy", list(changes))), LocalExecution())
        return [record.output["made"] for record in run_stages(context, stages)]

    assert do() == [1, 2]
    assert do("corpus.vocab_size=600") == [3, 4]
    assert do() == [1, 2]
    folder = Folder.at(place)
    assert folder.read_text("b/deep/in/result") == "b 2"
    assert [(one.stage, one.finished) for one in Kept(folder).results()] == [("a", True), ("b", True)]
    assert all(one.bytes > 500 for one in clean_run(place, delete=True))
    assert Kept(folder).results() == []
    assert do() == [1, 2]

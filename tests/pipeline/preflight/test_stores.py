"""Places that a run writes to: what they refuse is told by its true cause, before anything is begun."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.errors import CheckError, HatRayError
from hat_ray.pipeline.preflight.stores import try_run_folder
from hat_ray.storage.folder import Folder
from tests.s3 import S3, Faults

TINY = str(Path(__file__).parents[1] / "tiny.yaml")


def refused(*arguments: str) -> str:
    """Return why a run is refused."""
    result = CliRunner().invoke(app, ["run", TINY, "--local", *arguments])
    assert isinstance(result.exception, CheckError), result.exception
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_a_bucket_that_is_not_there(s3: S3, tmp_path: Path):
    missing = f"s3://nobody-made-this/run?{s3.query}"
    told = refused("--run", missing)
    assert told.startswith("cannot use the run folder s3://nobody-made-this/run")
    assert "--run names" in told
    assert "The specified bucket does not exist" in told
    told = refused("--run", str(tmp_path / "run"), "--set", f"latency.table={missing}")
    assert told.startswith("cannot use the latency table s3://nobody-made-this/run")
    assert not (tmp_path / "run").exists()


def test_credentials_that_are_refused(s3: S3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hat_ray.pipeline.preflight.stores.PATIENCE_S", 0.2)
    place = s3.place("run")
    with s3.going_wrong(Faults("refuse", share=1.0, methods=("GET", "HEAD", "PUT", "POST"))):
        told = refused("--run", place)
    assert "access to s3://" in told
    assert "is refused" in told
    assert "renew the credentials" in told
    assert Folder.at(place).list() == []


def test_a_store_that_may_be_read_and_not_written(s3: S3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hat_ray.pipeline.preflight.stores.PATIENCE_S", 0.2)
    place = s3.place("run")
    with s3.going_wrong(Faults("refuse", share=1.0, methods=("PUT", "POST"))):
        assert "is refused" in refused("--run", place)


def test_a_probe_leaves_nothing(s3: S3, tmp_path: Path):
    place, table = s3.place("run"), tmp_path / "table"
    table.mkdir()
    command = ["recipe", "check", TINY, "--run", place, "--set", f"latency.table={table}"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stdout
    assert Folder.at(place).list() == []
    assert not list(table.iterdir())


def test_a_probe_deletes_nothing_that_another_process_writes_meanwhile(s3: S3):
    moment, last = 0, False
    while not last:  # at each of its requests in turn
        place = s3.place("run")
        with s3.meanwhile(moment, f"/{place.split('/')[2]}/run/run.json", b"{}") as written:
            assert [result.text for result in try_run_folder(place)] == [""]
        last = not written
        assert last or Folder.at(place).list() == ["run.json"], f"written before request {moment}"
        moment += 1
    assert moment > 5


def test_a_file_where_a_folder_should_be(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    told = refused("--run", str(tmp_path / "file" / "run"))
    assert told.startswith(f"cannot use the run folder {tmp_path}/file/run")
    assert "a file stands where a folder should be" in told
    told = refused("--run", str(tmp_path / "run"), "--set", f"latency.table={tmp_path}/file")
    assert told.startswith(f"cannot use the latency table {tmp_path}/file")


def test_an_earlier_search_that_has_no_candidates(s3: S3, tmp_path: Path):
    told = refused("--run", str(tmp_path / "run"), "--set", f"search.warm_start=[{tmp_path}]")
    assert told == f"search.warm_start: {tmp_path} holds no candidates: name a run folder whose search was begun"
    missing = f"s3://nobody-made-this/run?{s3.query}"
    assert "ucket" in refused("--run", str(tmp_path / "run"), "--set", f'search.warm_start=["{missing}"]')


def test_a_cache_that_cannot_be_written(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("HAT_RAY_CACHE", str(tmp_path / "file" / "cache"))
    told = refused("--run", s3.place("run"))
    assert told.startswith(f"cannot use the cache folder {tmp_path}/file/cache")
    assert "HAT_RAY_CACHE" in told


def test_a_place_that_takes_no_files_is_named_and_the_probe_is_not(tmp_path: Path):
    told = refused("--run", "/proc/x")
    assert told.startswith("cannot use the run folder /proc/x, which --run names (")
    told += refused("--run", str(tmp_path / "run"), "--set", "latency.table=/proc/x")
    assert ".hat-ray" not in told
    assert "probe" not in told
    assert "Errno" not in told


@pytest.mark.parametrize("command", [["run", TINY, "--local"], ["recipe", "check", TINY], ["search", "run", TINY]])
def test_an_empty_run_folder_is_not_the_default_one(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*command, "--run", ""])
    assert isinstance(result.exception, HatRayError), result.exception
    assert "empty" in str(result.exception)
    assert not list(tmp_path.iterdir())

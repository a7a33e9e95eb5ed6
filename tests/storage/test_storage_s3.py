"""Folders on a real S3 server: whole files, answers that fail for a while, and one of many that create a file."""

import json
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hat_ray.errors import DamagedError, DeniedError, NotFoundError, StorageError
from hat_ray.storage.folder import Folder
from hat_ray.storage.patience import PATIENCE
from tests.s3 import S3, Faults


def test_files_come_back_as_they_were_written(s3: S3):
    folder = Folder.at(s3.place("a b/ü"))
    assert folder.list() == []
    assert not folder.exists()
    folder.write_bytes("x/y%20?#.bin", b"\x00\xff")
    folder.write_json("v.json", {"k": [1, "ü"]})
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    folder.write_table("t.parquet", table)
    assert folder.child("x").read_bytes("y%20?#.bin") == b"\x00\xff"
    assert folder.read_json("v.json") == {"k": [1, "ü"]}
    assert folder.read_table("t.parquet").equals(table)
    with folder.reading("t.parquet") as file:
        assert pq.ParquetFile(file).read(columns=["b"]).equals(table.select(["b"]))
    assert folder.list() == ["t.parquet", "v.json", "x"]
    assert folder.size("x/y%20?#.bin") == 2
    folder.copy("v.json", "w.json")
    folder.delete("x")
    folder.delete("x")
    assert folder.list() == ["t.parquet", "v.json", "w.json"]
    assert folder.read_json("w.json") == {"k": [1, "ü"]}


def test_no_bucket_is_told_apart_from_an_empty_folder(s3: S3):
    there = Folder.at(s3.place("new"))
    assert there.list() == []
    with pytest.raises(NotFoundError, match="name a folder that does"):
        there.require()
    missing = Folder.at(f"s3://nobody-made-this/x?{s3.query}")
    for action in (
        missing.list,
        missing.require,
        lambda: missing.write_text("a", "b"),
    ):
        with pytest.raises(NotFoundError, match=r"s3://nobody-made-this/x.* does not exist .*bucket") as caught:
            action()
        assert "\n" not in str(caught.value)
    with pytest.raises(NotFoundError, match=r"/new/a\?.* does not exist"):
        there.read_bytes("a")


@pytest.mark.parametrize(
    "kind",
    [pytest.param("refuse", marks=pytest.mark.slow), pytest.param("busy", marks=pytest.mark.slow), "fail", "cut"],
)
def test_what_goes_wrong_for_half_of_all_requests_loses_nothing(s3: S3, kind: str):
    folder = Folder.at(s3.place())
    content = {f"{i}/file": np.random.default_rng(i).bytes(20_000) for i in range(5)}
    methods = ("GET",) if kind == "cut" else ("GET", "HEAD", "PUT", "POST", "DELETE")
    with s3.going_wrong(Faults(kind, methods=methods)) as faults:
        for name, expected in content.items():
            folder.write_bytes(name, expected)
        assert {name: folder.read_bytes(name) for name in content} == content
        table = pa.table({"a": np.arange(50_000), "b": np.arange(50_000) * 0.5})
        folder.write_table("t.parquet", table)
        with folder.reading("t.parquet") as file:
            assert pq.ParquetFile(file).read().equals(table)
        folder.delete("0")
        assert folder.list() == ["1", "2", "3", "4", "t.parquet"]
    assert faults.count >= 5


@pytest.mark.parametrize(
    ("kind", "error", "remedy"),
    [
        ("refuse", DeniedError, "renew the credentials"),
        pytest.param("busy", StorageError, "run it again when the storage works", marks=pytest.mark.slow),
    ],
)
def test_what_stays_wrong_is_one_line_and_no_damage(
    s3: S3, monkeypatch: pytest.MonkeyPatch, kind: str, error: type[StorageError], remedy: str
):
    folder = Folder.at(s3.place())
    folder.write_json("x.json", {})
    monkeypatch.setenv(PATIENCE, "0.3")
    everything = ("GET", "HEAD", "PUT", "POST", "DELETE")
    with s3.going_wrong(Faults(kind, share=1.0, methods=everything)):
        for action in (folder.list, lambda: folder.exists("x.json"), lambda: folder.read_json("x.json")):
            with pytest.raises(error, match=remedy) as caught:
                action()
            assert not isinstance(caught.value, OSError | DamagedError)
            assert "\n" not in str(caught.value)
            assert "s3://" in str(caught.value)
    assert folder.read_json("x.json") == {}


def test_credentials_that_are_renewed_meanwhile_are_taken_up(s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A session's token runs out in the middle of a run; somebody writes a new one into the credentials file."""
    file = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def renew(key: str) -> None:
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")

    renew("first")
    s3.only_key = "first"
    folder = Folder.at(s3.place())
    folder.write_text("x", "written")
    s3.only_key = "second"
    timer = threading.Timer(1.0, renew, ["second"])
    timer.start()
    assert folder.read_text("x") == "written"
    timer.join()
    assert s3.only_key == "second"


def test_a_file_that_is_cut_on_the_storage_is_damaged(s3: S3):
    folder = Folder.at(s3.place())
    folder.write_table("t.parquet", pa.table({"a": [1, 2]}))
    folder.write_bytes("t.parquet", folder.read_bytes("t.parquet")[:-3])
    folder.write_bytes("x.json", json.dumps({"a": 1}).encode()[:-1])
    for action in (
        lambda: folder.read_table("t.parquet"),
        lambda: folder.read_json("x.json"),
        lambda: _columns(folder),
    ):
        with pytest.raises(DamagedError, match="is damaged"):
            action()


def _columns(folder: Folder) -> pa.Table:
    with folder.reading("t.parquet") as file:
        return pq.ParquetFile(file).read(columns=["a"])

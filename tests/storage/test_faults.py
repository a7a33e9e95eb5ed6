"""What an `OSError` stands for: a mistake, a refusal, a full disk, a storage that fails; never damage."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from hat_ray.errors import (
    DamagedError,
    DeniedError,
    HatRayError,
    NoRoomError,
    NotFoundError,
    StorageError,
    storage_error,
    user_error,
)
from hat_ray.storage import faults
from hat_ray.storage.folder import Folder
from hat_ray.storage.patience import PATIENCE, patience_s, patiently

LOCAL = {
    errno.ENOENT: (NotFoundError, "does not exist"),
    errno.ENOTDIR: (HatRayError, "a file stands where a folder should be"),
    errno.ENAMETOOLONG: (HatRayError, "name another place"),
    errno.EACCES: (DeniedError, "ask for the right"),
    errno.ENOSPC: (NoRoomError, r"No space left on device; [\d,]+ MB free\): make room"),
    errno.EDQUOT: (NoRoomError, r"MB free\): make room"),
    errno.EROFS: (NoRoomError, r"MB free\): mount it for writing"),
    errno.EIO: (StorageError, "run it again when the storage works"),
    errno.ESTALE: (StorageError, "run it again when the storage works"),
}


@pytest.mark.parametrize(("number", "expected"), LOCAL.items(), ids=[errno.errorcode[number] for number in LOCAL])
def test_an_error_of_a_disk_is_one_line_of_the_right_kind(
    tmp_path: Path, number: int, expected: tuple[type[Exception], str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(PATIENCE, "0")
    kind, text = expected

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(kind, match=text) as caught:
        patiently(fail, str(tmp_path / "x"), remote=False)
    assert str(tmp_path / "x") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, HatRayError) != isinstance(caught.value, StorageError)
    assert not isinstance(caught.value, DamagedError)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (type(again), str(again)) == (type(caught.value), str(caught.value))


REMOTE = {
    "AWS Error ACCESS_DENIED during HeadObject operation: No response body.": DeniedError,
    "AWS Error UNKNOWN (HTTP status 400) during HeadObject operation: No response body.": DeniedError,
    "AWS Error UNKNOWN (HTTP status 403) during ListObjectsV2 operation: ExpiredToken": DeniedError,
    "AWS Error UNKNOWN (HTTP status 503) during HeadObject operation": StorageError,
    "AWS Error SLOW_DOWN during ListObjectsV2 operation": StorageError,
    "AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 18, Transferred a partial file": StorageError,
    "AWS Error NO_SUCH_BUCKET during CreateMultipartUpload operation: no bucket": NotFoundError,
    "Bucket 'b' not found. To create buckets, enable the allow_bucket_creation option.": NotFoundError,
}


@pytest.mark.parametrize(("text", "kind"), REMOTE.items())
def test_an_error_of_an_object_store_is_known_by_its_text(text: str, kind: type[Exception]):
    told = faults.error_of(OSError(text), "s3://b/x?region=r", remote=True)
    assert type(told) is kind
    assert "s3://b/x" in str(told)
    failure = faults.machine_failure(OSError(text)) if "AWS" in text else None
    assert (failure is not None) == (issubclass(kind, StorageError))


def test_what_passes_is_tried_again_and_what_cannot_pass_is_not():
    tries = []

    def work() -> int:
        tries.append(1)
        if len(tries) < 4:
            raise OSError(errno.EIO, "once more")
        return len(tries)

    assert patiently(work, "/x", remote=False) == 4

    def full() -> None:
        tries.append(1)
        raise OSError(errno.ENOSPC, "full")

    tries.clear()
    with pytest.raises(NoRoomError):
        patiently(full, "/x", remote=False)
    assert len(tries) == 1


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_patience_is_a_number_of_seconds(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(PATIENCE, text)
    with pytest.raises(HatRayError, match=f"{PATIENCE} is a number of seconds"):
        patience_s()


def test_a_failure_is_found_behind_what_others_made_of_it():
    class WorkerError(Exception):
        """What Ray raises: the worker's exception is its cause."""

        def __init__(self, cause: BaseException) -> None:
            super().__init__("a remote traceback\nof many lines")
            self.cause = cause

    inner = NoRoomError("/x cannot be written")
    assert storage_error(WorkerError(WorkerError(inner))) is inner
    assert user_error(WorkerError(inner)) is None
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/data/x")
        except OSError as error:
            raise RuntimeError("the library gave up") from error
    except RuntimeError as error:
        found = faults.machine_failure(error)
    assert found is not None
    assert "/data/x cannot be written (No space left on device" in str(found)
    library = RuntimeError("I/O error: No space left on device (os error 28)")
    assert isinstance(faults.machine_failure(library), NoRoomError)
    assert faults.machine_failure(OSError("Couldn't deserialize thrift: no data")) is None
    assert faults.machine_failure(KeyError("x")) is None


def test_what_a_decoder_says_of_a_file_is_damage_and_what_the_disk_says_is_not(tmp_path: Path):
    folder = Folder.at(tmp_path)
    (tmp_path / "t.parquet").write_bytes(b"PAR1" + b"\x00" * 40 + b"PAR1")
    (tmp_path / "x.json").write_text("{")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "folder").mkdir()
    for name in ("x.json", "deep.json"):
        with pytest.raises(DamagedError, match="no whole JSON"):
            folder.read_json(name)
    with pytest.raises(DamagedError):
        folder.read_table("t.parquet")
    with pytest.raises(HatRayError, match="a folder stands where a file should be") as caught:
        folder.read_json("folder")
    assert not isinstance(caught.value, DamagedError)
    with pytest.raises(HatRayError, match="a file stands where"):
        Folder.at(tmp_path / "x.json").list()


def test_a_link_that_is_deleted_takes_nothing_with_it(tmp_path: Path):
    elsewhere = Folder.at(tmp_path / "elsewhere")
    elsewhere.write_text("kept", "x")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stage").symlink_to(tmp_path / "elsewhere")
    Folder.at(tmp_path / "run").delete("stage")
    assert elsewhere.read_text("kept") == "x"
    assert not (tmp_path / "run" / "stage").is_symlink()


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENODEV, errno.EUCLEAN, errno.EBADF, errno.EFBIG, errno.EIO])
def test_no_fault_of_the_system_is_taken_for_damage_or_a_mistake(number: int, tmp_path: Path):
    with pytest.raises(StorageError, match=str(tmp_path)):
        faults.require_no_fault(OSError(number, os.strerror(number)), str(tmp_path))


@pytest.mark.parametrize("error", [OSError("not a gzip file"), FileNotFoundError(errno.ENOENT, "x"), OSError(20, "x")])
def test_damage_and_a_wrong_path_are_no_faults_of_the_system(error: OSError, tmp_path: Path):
    faults.require_no_fault(error, str(tmp_path))

"""Files of a path or URI: which they are, how they are copied here, and what is refused before a byte is fetched."""

import hashlib
from pathlib import Path

import pytest

from hat_ray.errors import CheckpointError, HatRayError, NotFoundError
from hat_ray.storage import copies
from hat_ray.storage.copies import carry, copied_here, digests, name_of
from hat_ray.storage.folder import Folder
from tests.s3 import S3

CONTENT = {"config.json": b"{}", "model.npz": bytes(range(256)) * 40_000, "tf_model.h5": b"theirs"}


@pytest.fixture
def remote(s3: S3) -> str:
    place = s3.place("models/one")
    for name, content in {**CONTENT, "inner/deep.txt": b"no part of it"}.items():
        Folder.at(place).write_bytes(name, content)
    return place


def test_a_remote_folder_is_copied_without_what_is_not_wanted_and_the_copy_is_deleted(remote: str) -> None:
    with copied_here(remote, lambda name: not name.endswith(".h5")) as path:
        found = {one.name: one.read_bytes() for one in path.iterdir()}
    assert found == {name: CONTENT[name] for name in ("config.json", "model.npz")}
    assert not path.exists()


def test_a_remote_file_is_copied_with_what_stands_beside_it(remote: str) -> None:
    file = Folder.at(remote).place_of("model.npz")
    with copied_here(file, beside=lambda name: name.endswith(".json")) as path:
        assert path.name == "model.npz"
        assert {one.name for one in path.parent.iterdir()} == {"config.json", "model.npz"}
        assert path.read_bytes() == CONTENT["model.npz"]
    assert name_of(file) == "model.npz"


def test_what_is_here_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "model.npz").write_bytes(b"x")
    for place in (f"{tmp_path}/model.npz", f"file://{tmp_path}/model.npz"):
        with copied_here(place) as path:
            assert path == tmp_path / "model.npz"
    assert path.exists()


def test_the_same_files_have_the_same_digests_wherever_they_are(remote: str, tmp_path: Path) -> None:
    for name, content in CONTENT.items():
        (tmp_path / name).write_bytes(content)
    expected = [(name, hashlib.sha256(content).hexdigest()) for name, content in sorted(CONTENT.items())]
    assert list(digests(remote)) == list(digests(str(tmp_path))) == expected
    assert list(digests(f"{tmp_path}/config.json")) == expected[:1]


def test_a_folder_is_carried_whole_with_its_last_file_at_the_end(remote: str, tmp_path: Path) -> None:
    target = Folder.at(tmp_path / "kept")
    carry(remote, target, "config.json")
    assert {one.name: one.read_bytes() for one in (tmp_path / "kept").iterdir()} == CONTENT
    times = [(tmp_path / "kept" / name).stat().st_mtime_ns for name in CONTENT]
    assert times[0] == max(times)
    carry(remote, target, "config.json")
    assert times == [(tmp_path / "kept" / name).stat().st_mtime_ns for name in CONTENT], "it stands there already"


def test_an_error_names_the_remote_place_and_not_the_copy(remote: str) -> None:
    with pytest.raises(CheckpointError) as caught, copied_here(remote) as path:
        raise CheckpointError(f"{path}/model.npz is damaged: copy it again")
    assert str(caught.value) == f"{Folder.at(remote)}/model.npz is damaged: copy it again"


@pytest.mark.parametrize(("most", "line"), [("MOST_FILES", "holds 3 files"), ("MOST_BYTES", "holds 10240008 bytes")])
def test_what_is_too_much_is_refused_before_it_is_fetched(
    remote: str, s3: S3, monkeypatch: pytest.MonkeyPatch, most: str, line: str
) -> None:
    monkeypatch.setattr(copies, most, 2)
    before = s3.requests["GET"]
    with pytest.raises(HatRayError, match=line), copied_here(remote):
        pass
    assert s3.requests["GET"] - before <= 3, "only lists"


def test_a_place_that_holds_nothing_is_named(s3: S3, tmp_path: Path) -> None:
    for place in (s3.place("empty"), str(tmp_path), f"{tmp_path}/none"):
        with pytest.raises(NotFoundError, match="is no file and holds none: name a file or a folder with files"):
            list(digests(place))
    (tmp_path / "only").mkdir()
    with pytest.raises(NotFoundError):
        list(digests(str(tmp_path)))

"""Temporary folders: a killed process's are removed by the next one, and nobody else's."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hat_ray.storage.temporary import MARK, temporary_folder

HOLDS = """
import sys, time
from hat_ray.storage.temporary import temporary_folder
with temporary_folder("test") as folder:
    (folder / "model.bin").write_bytes(b"weights")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's folder for temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def holding(place: Path) -> tuple["subprocess.Popen[str]", Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(place)},
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_killed_processs_folder_is_removed_and_that_of_a_living_one_stays(place: Path) -> None:
    killed, left = holding(place)
    living, used = holding(place)
    try:
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait(timeout=240)
        assert (left / "model.bin").exists()
        with temporary_folder("test") as own:
            assert own.parent == place
            assert not left.exists()
            assert (used / "model.bin").exists()
        assert not own.exists()
    finally:
        living.communicate(timeout=240)
    assert not used.exists()
    assert list(place.iterdir()) == []


def test_what_is_not_ours_stays(place: Path) -> None:
    notes = place / "hat-ray-test-notes"
    notes.mkdir()
    (notes / "mine.txt").write_text("unmarked")
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / MARK).touch()
    (place / "hat-ray-test-link").symlink_to(elsewhere)
    (place / "hat-ray-test-file").write_text("a file")
    other = place / "hat-ray-other-1"
    other.mkdir()
    (other / MARK).touch()
    before = sorted(place.rglob("*"))
    with temporary_folder("test"):
        pass
    assert sorted(place.rglob("*")) == before

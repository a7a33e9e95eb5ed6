"""Files from outside: only plain ones are opened, within a bound, and what they are not is named."""

import os
import pickle
import socket
from pathlib import Path

import pytest
import torch

from hat_ray.errors import CorpusError
from hat_ray.storage.plain_file import binary_format, decode_text, open_plain, printable, read_text


def test_a_plain_file_is_read_also_through_a_link(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"one\ntwo\n")
    (tmp_path / "link").symlink_to("a")
    with open_plain(tmp_path / "link", "file", CorpusError) as file:
        assert file.read() == b"one\ntwo\n"
    assert read_text(tmp_path / "a", "file", CorpusError) == "one\ntwo\n"


def make(kind: str, folder: Path) -> Path:
    """Make a path that is no plain file."""
    place = folder / "thing"
    if kind == "folder":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(place))
    elif kind == "loop":
        place.symlink_to("thing")
    elif kind == "below a file":
        place.write_text("x")
        return place / "more"
    elif kind == "long":
        return folder / ("x" * 300)
    elif kind == "device":
        return Path("/dev/zero")
    return place


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("folder", "is a folder: name a plain file"),
        ("fifo", "is a FIFO"),
        ("socket", "is a socket"),
        ("device", "is a device"),
        ("missing", "does not exist: check its path"),
        ("below a file", r"does not exist \(a part of its path is a file\)"),
        ("loop", "is a link that leads back to itself"),
        ("long", "has a name that is too long"),
    ],
)
def test_what_is_no_plain_file_is_named_and_not_opened(kind: str, words: str, tmp_path: Path):
    with pytest.raises(CorpusError, match=rf"text file .* {words}") as refusal:
        open_plain(make(kind, tmp_path), "text file", CorpusError)
    assert "\n" not in str(refusal.value)


def test_a_fault_of_the_storage_is_not_a_users_mistake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "a").write_bytes(b"x")

    def broken(*_: object, **__: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "open", broken)
    with pytest.raises(OSError, match="Input/output error"):
        open_plain(tmp_path / "a", "text file", CorpusError)


def test_a_path_with_a_nul_is_refused():
    with pytest.raises(CorpusError, match=r"text file a\\x00b cannot be a path"):
        open_plain("a\0b", "text file", CorpusError)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_with_a_mark_is_read_in_its_encoding(encoding: str):
    assert decode_text("größe: 5\n".encode(encoding), "file x", CorpusError) == "größe: 5\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: 1\nb: café\n".encode("latin-1"), r"file x, line 2: the byte 0xe9 is not UTF-8"),
        ("a: 1\nb: 2\n".encode("utf-16-le"), "file x, line 1: a NUL character, so it is no text or UTF-16 without"),
        (b"a: 1\nb: \0\n", "file x, line 2: a NUL character"),
        (b"\xff\xfea\0b", "begins with the mark of UTF-16 but is damaged"),
        (b"x" * 2000, "file x has more than 1000 bytes, which is the most that is read"),
    ],
)
def test_other_encodings_are_refused_with_line_and_remedy(content: bytes, words: str):
    with pytest.raises(CorpusError, match=words):
        decode_text(content, "file x", CorpusError, 1000)


def test_binary_files_are_called_by_their_name(tmp_path: Path):
    torch.save({"x": torch.zeros(3)}, tmp_path / "new.pt")
    torch.save({"x": torch.zeros(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("new.pt", "old.pt"):
        with pytest.raises(CorpusError, match=rf"recipe .*{name} is a PyTorch checkpoint.*, no text: name another"):
            read_text(tmp_path / name, "recipe", CorpusError)
    assert binary_format(pickle.dumps([1])) == "a PyTorch checkpoint or another pickle"
    assert binary_format(b"PAR1\x15\x04\x15") == "a Parquet file"
    for text in (b"name: mine\n", b"PAR1 is a word\n", b"BZh is one too\n", b"PK is short for a part\n", b""):
        assert binary_format(text) is None


def test_what_is_printed_is_one_short_line():
    assert printable("a\nb\x1b[31m") == r"a\nb\x1b[31m"
    assert printable("é" * 100, 10) == "é" * 10 + "..."

import errno
import gzip
import os
import socket
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hat_ray.corpus.config import CorpusConfig, FilesConfig, TextPart
from hat_ray.corpus.text import files as text
from hat_ray.corpus.text.files import ParallelText, read_blocks, read_lines, read_pairs
from hat_ray.corpus.text.fingerprint import input_fingerprint
from hat_ray.errors import CorpusError


def lines_of(path: Path, content: bytes, **settings: object) -> list[str]:
    path.write_bytes(content)
    return list(read_lines(TextPart(path=str(path)), **settings))  # type: ignore[arg-type]


def test_plain_and_gzip_files_read_alike_whatever_their_names(tmp_path: Path) -> None:
    content = b"one\nzwei\n"
    (tmp_path / "plain.gz").write_bytes(content)
    (tmp_path / "packed.txt").write_bytes(gzip.compress(content) + gzip.compress(b"three\n"))
    assert b"".join(read_blocks(str(tmp_path / "plain.gz"))) == content
    assert b"".join(read_blocks(str(tmp_path / "packed.txt"))) == content + b"three\n"


def test_only_line_feeds_end_lines(tmp_path: Path) -> None:
    content = "\ufeffa\u2028b\r\n c\x0bd \n\ne".encode()
    assert lines_of(tmp_path / "x", content) == ["a\u2028b", "c\x0bd", "", "e"]


@given(st.text(alphabet="aü\n\r \u2028😀", max_size=60).filter(lambda t: t.strip()), st.integers(1, 9))
def test_lines_do_not_depend_on_the_size_of_blocks(
    tmp_path_factory: pytest.TempPathFactory, content: str, block: int
) -> None:
    path = tmp_path_factory.mktemp("x") / "x"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_BLOCK_BYTES", block)
        assert lines_of(path, content.encode()) == [line.strip() for line in content.removesuffix("\n").split("\n")]


def test_normal_form_is_changed_only_on_request(tmp_path: Path) -> None:
    decomposed = "u\u0308ber"
    assert lines_of(tmp_path / "x", decomposed.encode()) == [decomposed]
    assert lines_of(tmp_path / "x", decomposed.encode(), nfc=True) == ["über"]


def pairs(place: Path, size: int = 100) -> list[ParallelText]:
    return list(read_pairs(TextPart(path=str(place / "a.en")), TextPart(path=str(place / "a.de")), size))


@pytest.mark.parametrize("size", [1, 2, 100])
def test_parallel_files_of_different_length_are_refused_with_both_counts_and_names(tmp_path: Path, size: int) -> None:
    (tmp_path / "a.en").write_text("1\n2\n3\n4\n5\n")
    (tmp_path / "a.de").write_text("1\n2\n")
    with pytest.raises(CorpusError, match=r"a\.en has 5 and .*a\.de has 2"):
        pairs(tmp_path, size)


def test_parallel_files_are_read_side_by_side_in_chunks(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("dog\ncat\nbird")
    (tmp_path / "a.de").write_text("Hund\nKatze\nVogel\n")
    assert pairs(tmp_path, 2) == [ParallelText(["dog", "cat"], ["Hund", "Katze"]), ParallelText(["bird"], ["Vogel"])]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CorpusError, match=r"train\.en is empty"):
        lines_of(tmp_path / "train.en", content)


@pytest.mark.parametrize("before", [2, 200_000])
def test_bytes_that_are_not_utf8_are_told_with_file_and_line(tmp_path: Path, before: int) -> None:
    content = "schön ist es\n".encode() * before + "über\n".encode("latin-1")
    with pytest.raises(CorpusError, match=rf"train\.de line {before + 1} holds the byte 0xfc") as caught:
        lines_of(tmp_path / "train.de", content)
    assert "\n" not in str(caught.value)


def test_a_file_without_line_feeds_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_LONGEST_LINE_BYTES", 1 << 21)
    with pytest.raises(CorpusError, match="holds a line of more than"):
        lines_of(tmp_path / "x", b"x" * (1 << 24))


def test_a_missing_file_a_folder_and_damaged_gzip_are_each_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"hello" * 100)[:-9])
    cases = {"none.txt": "does not exist", ".": "is a folder: name a plain file", "cut.gz": "damaged gzip"}
    for name, complaint in cases.items():
        with pytest.raises(CorpusError, match=complaint) as caught:
            list(read_blocks(str(tmp_path / name)))
        assert "\n" not in str(caught.value)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"a sentence of some length\n" * 1_000_000))
    tracemalloc.start()
    assert sum(1 for _ in read_lines(TextPart(path=str(path)))) == 1_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6


def test_what_is_no_plain_text_file_is_named_before_a_byte_is_read(tmp_path: Path) -> None:
    """A FIFO or a device would block or never end: the test's own time-out is what it would run into."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("x")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    torch.save({"x": torch.zeros(3)}, tmp_path / "model.pt")
    (tmp_path / "packed.pt").write_bytes(gzip.compress((tmp_path / "model.pt").read_bytes()))
    (tmp_path / "wide").write_bytes("ein Satz\n".encode("utf-16"))
    for name, complaint in {
        "fifo": "is a FIFO",
        "/dev/zero": "is a device",
        "/dev/null": "is a device",
        "socket": "is a socket",
        "loop": "leads back to itself",
        "file/more": "a part of its path is a file",
        "x" * 300: "has a name that is too long",
        "a\0b": "cannot be a path",
        "model.pt": "model.pt is a PyTorch checkpoint, no text",
        "packed.pt": "packed.pt is a PyTorch checkpoint, no text",
        "wide": "wide line 1 begins with the mark of UTF-16",
    }.items():
        for read in (read_blocks, lambda path: read_lines(TextPart(path=path)), lambda path: [input_hash(path)]):
            with pytest.raises(CorpusError, match=complaint) as caught:
                list(read(str(tmp_path / name)))
            assert "\n" not in str(caught.value)


def input_hash(path: str) -> str:
    sides = [f"{split}_{side}" for split in ("train", "valid", "test") for side in ("source", "target")]
    return input_fingerprint(CorpusConfig(source="files", files=FilesConfig(**dict.fromkeys(sides, path))), 1)


def test_gzip_that_unpacks_to_more_than_text_does_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_UNPACKED_BYTES", 1 << 23)
    (tmp_path / "bomb").write_bytes(gzip.compress(b"\n" * (1 << 25)))
    blocks = read_blocks(str(tmp_path / "bomb"))
    for _ in range((1 << 23) // text._BLOCK_BYTES):
        next(blocks)
    with pytest.raises(CorpusError, match="bomb unpacks to more than 300 times its size"):
        next(blocks)
    (tmp_path / "small").write_bytes(gzip.compress(b"\n" * (1 << 22)))
    assert sum(map(len, read_blocks(str(tmp_path / "small")))) == 1 << 22


def test_a_fault_of_the_disk_is_no_mistake_in_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"a\n")

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "open", broken)
    with pytest.raises(OSError, match="Input/output error"):
        list(read_blocks(str(tmp_path / "x")))

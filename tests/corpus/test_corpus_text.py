import gzip
from pathlib import Path

import pytest

from hat_ray.corpus.text import ParallelText, read_content, read_parallel, split_lines
from hat_ray.errors import CorpusError


def test_plain_and_gzip_files_read_alike_whatever_their_names(tmp_path: Path) -> None:
    content = b"one\nzwei\n"
    (tmp_path / "plain.gz").write_bytes(content)
    (tmp_path / "packed.txt").write_bytes(gzip.compress(content) + gzip.compress(b"three\n"))
    assert read_content(str(tmp_path / "plain.gz")) == content
    assert read_content(str(tmp_path / "packed.txt")) == content + b"three\n"


def test_only_line_feeds_end_lines() -> None:
    content = "\ufeffa\u2028b\r\n c\x0bd \n\ne".encode()
    assert split_lines(content, "x") == ["a\u2028b", "c\x0bd", "", "e"]


def test_normal_form_is_changed_only_on_request() -> None:
    decomposed = "u\u0308ber"
    assert split_lines(decomposed.encode(), "x") == [decomposed]
    assert split_lines(decomposed.encode(), "x", nfc=True) == ["über"]


def test_parallel_files_of_different_length_are_refused_with_both_counts_and_names(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("1\n2\n3\n")
    (tmp_path / "a.de").write_text("1\n2\n")
    with pytest.raises(CorpusError, match=r"a\.en has 3 and .*a\.de has 2"):
        read_parallel(str(tmp_path / "a.en"), str(tmp_path / "a.de"))


def test_parallel_files_are_read_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("dog\ncat")
    (tmp_path / "a.de").write_text("Hund\nKatze\n")
    text = read_parallel(str(tmp_path / "a.en"), str(tmp_path / "a.de"))
    assert text == ParallelText(["dog", "cat"], ["Hund", "Katze"])


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(CorpusError, match=r"train\.en is empty"):
        split_lines(content, "train.en")


def test_bytes_that_are_not_utf8_are_told_with_file_and_line() -> None:
    with pytest.raises(CorpusError, match=r"train\.de line 3 holds the byte 0xfc") as caught:
        split_lines("ok\nschön\n".encode() + "über\n".encode("latin-1"), "train.de")
    assert "\n" not in str(caught.value)


def test_a_missing_file_a_folder_and_damaged_gzip_are_each_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"hello" * 100)[:-9])
    cases = {"none.txt": "does not exist", ".": "cannot be read", "cut.gz": "damaged gzip"}
    for name, complaint in cases.items():
        with pytest.raises(CorpusError, match=complaint) as caught:
            read_content(str(tmp_path / name))
        assert "\n" not in str(caught.value)

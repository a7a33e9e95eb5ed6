"""Packed text is the text, in every form that people pack it in; damaged and hostile files are refused in one line."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from hat_ray.corpus.config import TextPart
from hat_ray.corpus.text import files, packed
from hat_ray.corpus.text.files import read_blocks, read_lines
from hat_ray.errors import CorpusError

LINES = [f"eine Zeile {number} mit Umlauten: äöü" for number in range(10_000)]
CONTENT = "".join(f"{line}\n" for line in LINES).encode()


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}


@pytest.mark.parametrize("kind", PACK)
def test_packed_text_is_the_text_whatever_its_name_and_its_pieces(tmp_path: Path, kind: str) -> None:
    half = len(CONTENT) // 2
    (tmp_path / "one.txt").write_bytes(PACK[kind](CONTENT))
    (tmp_path / "two").write_bytes(PACK[kind](CONTENT[:half]) + PACK[kind](CONTENT[half:]))
    for name in ("one.txt", "two"):
        assert list(read_lines(TextPart(path=str(tmp_path / name)))) == LINES
        assert max(map(len, read_blocks(str(tmp_path / name)))) <= 1 << 20


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("damage", ["cut", "changed", "head"])
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, kind: str, damage: str) -> None:
    content = PACK[kind](CONTENT)
    at = 8 if kind == "zstd" else len(content) // 2  # without a checksum zstd cannot know changed letters
    contents = {
        "cut": content[:-7],
        "changed": content[:at] + bytes(255 - one for one in content[at : at + 40]) + content[at + 40 :],
        "head": content[:6],
    }
    path = tmp_path / "text.bin"
    path.write_bytes(contents[damage])
    with pytest.raises(CorpusError) as caught:
        list(read_blocks(str(path)))
    assert f"{path} is damaged {kind} (" in str(caught.value)
    assert str(caught.value).endswith("fetch or pack it again")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", PACK)
def test_what_unpacks_to_more_than_text_does_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(files, "_UNPACKED_BYTES", 1 << 20)
    (tmp_path / "bomb").write_bytes(PACK[kind](b"a\n" * (1 << 22)))
    taken: list[int] = []
    with pytest.raises(CorpusError, match="unpacks to more than 300 times its size"):
        taken.extend(map(len, read_blocks(str(tmp_path / "bomb"))))
    assert sum(taken) < 1 << 23


def test_xz_that_needs_much_memory_is_refused_before_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = tmp_path / "wide.xz"
    wide.write_bytes(lzma.compress(CONTENT, preset=9))
    assert list(read_lines(TextPart(path=str(wide)))) == LINES
    monkeypatch.setattr(packed, "_XZ_BYTES", 1 << 24)
    with pytest.raises(CorpusError, match=r"wide\.xz is damaged xz \(Memory usage limit exceeded\)"):
        list(read_blocks(str(wide)))


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("train.tags.de-en.de.xz", "tags"),
        ("newstest.sgm.zst", "segments"),
        ("a.xml.bz2", "segments"),
        ("a.gz", "lines"),
    ],
)
def test_the_form_of_a_packed_file_follows_from_its_name(name: str, form: str) -> None:
    assert TextPart(path=f"folder/{name}").resolved_form == form

"""One side of a data-bin: each format gives the same ids, and a file that is none of them is refused in one line."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hat_ray.corpus.fairseq.binary import open_side
from hat_ray.corpus.fairseq.dictionary import FairseqDictionary, read_dictionary
from hat_ray.errors import CorpusError
from tests.corpus.fairseq.data_bin_files import CODES, encoded, write_cached, write_dictionary, write_mmap

SYMBOLS = ["red", "blue", "gre@@", "en"]
LINES = ["red blue", "", "gre@@ en unseen red", "blue"]
SENTENCES = encoded(LINES, SYMBOLS)


@pytest.fixture
def dictionary(tmp_path: Path) -> FairseqDictionary:
    write_dictionary(tmp_path / "dict.xx.txt", SYMBOLS)
    return read_dictionary(tmp_path / "dict.xx.txt")


def read(stem: Path, dictionary: FairseqDictionary, size: int = 3) -> list[list[int]]:
    side = open_side(stem, dictionary)
    assert side is not None
    found = [chunk[row].tolist() for chunk in side.chunks(size) for row in range(len(chunk))]
    assert len(side) == len(found)
    return found


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("write", [write_mmap, write_cached])
def test_every_format_and_type_gives_the_same_ids(
    tmp_path: Path, dictionary: FairseqDictionary, write: Callable[..., None], kind: str
):
    write(tmp_path / "train.xx-yy.xx", SENTENCES, kind)
    assert read(tmp_path / "train.xx-yy.xx", dictionary) == SENTENCES


def test_raw_text_is_read_by_the_dictionary(tmp_path: Path, dictionary: FairseqDictionary):
    (tmp_path / "valid.xx-yy.xx").write_text("".join(f"{line}\n" for line in LINES))
    assert read(tmp_path / "valid.xx-yy.xx", dictionary) == SENTENCES


def test_a_side_that_is_not_there_is_none(tmp_path: Path, dictionary: FairseqDictionary):
    assert open_side(tmp_path / "test.xx-yy.xx", dictionary) is None


def test_a_side_without_sentences_is_empty(tmp_path: Path, dictionary: FairseqDictionary):
    write_mmap(tmp_path / "test", [])
    assert read(tmp_path / "test", dictionary) == []


def changed(path: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(stem: Path) -> None:
        place = Path(f"{stem}{path}")
        place.write_bytes(change(place.read_bytes()))

    return apply


def number(place: int, form: str, value: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:place] + struct.pack(form, value) + content[place + struct.calcsize(form) :]


MMAP = {
    "index cut in its head": (changed(".idx", lambda one: one[:20]), "is cut: its head has 26 bytes"),
    "index cut": (changed(".idx", lambda one: one[:-1]), r"must have 74 bytes by its index, it has 73: it is cut"),
    "index longer": (changed(".idx", lambda one: one + b"x"), "it is damaged"),
    "index empty": (changed(".idx", lambda one: b""), "is no index"),
    "index of another kind": (changed(".idx", lambda one: b"PK" + one[2:]), "is no index"),
    "huffman": (changed(".idx", lambda one: b"HUFFIDX\0\0" + one[9:]), "format huffman, which is not read"),
    "data cut": (changed(".bin", lambda one: one[:-2]), "must have 22 bytes by its index, it has 20: it is cut"),
    "data longer": (changed(".bin", lambda one: one + b"xx"), "it is damaged"),
    "big-endian": (changed(".idx", number(9, ">Q", 1)), "big-endian machine"),
    "version 2": (changed(".idx", number(9, "<Q", 2)), "has version 2"),
    "fractions": (changed(".idx", number(17, "<B", 7)), "must hold whole numbers, got fairseq's type 7"),
    "a claim of 2**60 sentences": (changed(".idx", number(18, "<Q", 1 << 60)), "it is cut"),
    "a negative size": (changed(".idx", number(26, "<i", -1)), "sizes that no sentence has"),
    "another place": (changed(".idx", number(26 + 16 + 8, "<q", 0)), "one after another"),
    "an id too high": (changed(".bin", number(0, "<H", 8)), "ids must be from 0 to 7, the dictionary's last, got 8"),
    "no end": (changed(".bin", number(4, "<H", 4)), "number 1 does not"),
}
CACHED = {
    "index cut in its head": (changed(".idx", lambda one: one[:20]), "is cut: its head has 48 bytes"),
    "index cut": (changed(".idx", lambda one: one[:-1]), "it is cut"),
    "data cut": (changed(".bin", lambda one: one[:-2]), "it is cut"),
    "big-endian": (changed(".idx", number(8, ">Q", 1)), "big-endian machine"),
    "other item bytes": (changed(".idx", number(24, "<Q", 2)), "4 bytes a token"),
    "matrices": (changed(".idx", number(40, "<Q", 3)), "one size a sentence"),
    "a claim of 2**60 sentences": (
        changed(".idx", lambda one: number(32, "<Q", 1 << 60)(number(40, "<Q", 1 << 60)(one))),
        "it is cut",
    ),
    "another place": (changed(".idx", number(48 + 40 + 8, "<q", 0)), "one after another"),
    "an id of zero": (changed(".bin", number(0, "<i", 0)), "got -1"),
}
FAULTS = [
    *((write_mmap, *fault, name) for name, fault in MMAP.items()),
    *((write_cached, *fault, name) for name, fault in CACHED.items()),
]


@pytest.mark.parametrize(("write", "spoil", "reason"), [one[:3] for one in FAULTS], ids=[one[3] for one in FAULTS])
def test_a_file_that_is_not_whole_or_not_fairseqs_is_refused_in_one_line(
    tmp_path: Path,
    dictionary: FairseqDictionary,
    write: Callable[..., None],
    spoil: Callable[[Path], None],
    reason: str,
):
    write(tmp_path / "train", SENTENCES)
    spoil(tmp_path / "train")
    with pytest.raises(CorpusError, match=reason) as refusal:
        read(tmp_path / "train", dictionary)
    assert "\n" not in str(refusal.value)


def test_an_index_without_data_is_refused(tmp_path: Path, dictionary: FairseqDictionary):
    write_mmap(tmp_path / "train", SENTENCES)
    (tmp_path / "train.bin").unlink()
    with pytest.raises(CorpusError, match=r"train\.bin does not exist"):
        open_side(tmp_path / "train", dictionary)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("language", ["en", "de"])
def test_the_data_bin_of_the_oracle_holds_its_text(shared: Path, tmp_path: Path, split: str, language: str):
    """What fairseq wrote is what the dictionary makes of the text; the writer of these tests writes the same bytes."""
    folder = shared / "hat" / "oracle"
    known = read_dictionary(folder / "bin_joined" / f"dict.{language}.txt")
    lines = (folder / "text" / f"{split}.{language}").read_text().splitlines()
    stem = folder / "bin_joined" / f"{split}.en-de.{language}"
    expected = encoded(lines, known.symbols[4:])
    assert read(stem, known, 1_000) == expected
    write_mmap(tmp_path / "copy", expected)
    for kind in ("idx", "bin"):
        assert (tmp_path / f"copy.{kind}").read_bytes() == Path(f"{stem}.{kind}").read_bytes()


def test_ids_of_large_files_are_not_read_at_once(tmp_path: Path, dictionary: FairseqDictionary):
    write_mmap(tmp_path / "train", SENTENCES)
    side = open_side(tmp_path / "train", dictionary)
    assert isinstance(getattr(side, "tokens", None), np.memmap)

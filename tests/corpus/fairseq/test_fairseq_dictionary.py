"""Dictionaries as fairseq reads them: order, counts, overwriting lines, symbols with Unicode's separators."""

from pathlib import Path

import pytest

from hat_ray.corpus.fairseq.dictionary import read_dictionary
from hat_ray.errors import CorpusError


def dictionary(folder: Path, text: str) -> Path:
    path = folder / "dict.xx.txt"
    path.write_bytes(text.encode())
    return path


def test_symbols_are_in_the_order_of_their_ids_after_the_special_ones(tmp_path: Path):
    found = read_dictionary(dictionary(tmp_path, "red 9\nblue@@ 7\nmadeupword0000 0\ngone -1\n"))
    assert found.symbols == ("<s>", "<pad>", "</s>", "<unk>", "red", "blue@@", "madeupword0000", "gone")
    assert len(found) == 8
    assert found.ids["gone"] == 7


def test_an_overwriting_line_adds_an_entry_and_moves_its_symbol_there(tmp_path: Path):
    found = read_dictionary(
        dictionary(tmp_path, "red 9\nblue 3\nred 4 #fairseq:overwrite\n<unk> 2 #fairseq:overwrite\n")
    )
    assert found.symbols[4:] == ("red", "blue", "red", "<unk>")
    assert (found.ids["red"], found.ids["blue"], found.ids["<unk>"]) == (6, 5, 7)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e", "\u00a0", "\t"])
def test_only_a_line_feed_ends_a_line_and_only_a_space_parts_it(tmp_path: Path, separator: str):
    found = read_dictionary(dictionary(tmp_path, f"a{separator}b 7\nhouse 30\n"))
    assert found.symbols[4:] == (f"a{separator}b", "house")


def test_a_symbol_may_hold_a_space_and_lines_may_end_in_both_line_ends(tmp_path: Path):
    found = read_dictionary(dictionary(tmp_path, "two words 3\r\n#fairseq:overwrite 1\r\n"))
    assert found.symbols[4:] == ("two words", "#fairseq:overwrite")


def test_an_empty_dictionary_holds_the_special_symbols(tmp_path: Path):
    assert len(read_dictionary(dictionary(tmp_path, ""))) == 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("fine 3\nbroken\n", "line 2 must be a symbol, a space and a count, got 'broken'"),
        ("fine 3\nbroken x\n", "line 2 must be"),
        ("fine 3\n\nmore 2\n", "line 2 must be"),
        ("fine 3\n#fairseq:overwrite\n", "line 2 must be"),
        ("fine 3\nword #fairseq:overwrite\n", "line 2 must be"),
        (f"fine {'9' * 5_000}\n", "line 1 must be"),
        ("red 3\nblue 3\nred 4\n", "line 3: each symbol must stand once, 'red' stands in line 1"),
        ("<pad> 3\n", "line 1: each symbol must stand once, '<pad>' stands in fairseq's special symbols"),
    ],
)
def test_what_fairseq_refuses_is_refused_in_one_line(tmp_path: Path, text: str, reason: str):
    with pytest.raises(CorpusError, match=reason) as refusal:
        read_dictionary(dictionary(tmp_path, text))
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path):
    path = tmp_path / "dict.xx.txt"
    for content in (b"fine 3\nd\xe9j\xe0 2\n", b"PK\x03\x04 archive/data.pkl", b"\x1f\x8b packed"):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match=r"line 2: the byte 0xe9 is not UTF-8|no text"):
            read_dictionary(path)
    with pytest.raises(CorpusError, match="does not exist"):
        read_dictionary(tmp_path / "missing.txt")


def test_the_dictionary_of_the_oracle(shared: Path):
    found = read_dictionary(shared / "hat" / "oracle" / "bin_joined" / "dict.en.txt")
    assert found.symbols[4] == "w14"
    assert len(found) == 48


@pytest.mark.parametrize(
    ("name", "symbols"),
    [
        ("overwrite", ("the", "house", "house", "<pad>", "word")),
        ("line-separators", ("a\u2028b", "c\x85d", "house")),
        ("bpe-madeup", ("the", "house", "ma@@", "madeupword0001")),
    ],
)
def test_the_dictionaries_that_failed(shared: Path, name: str, symbols: tuple[str, ...]):
    found = read_dictionary(shared / "cases" / "fairseq" / f"dict.{name}.txt")
    assert found.symbols[4:] == symbols

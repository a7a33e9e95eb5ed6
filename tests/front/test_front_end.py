"""Lines to sentences and back, whatever a line holds."""

import io
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from hat_ray.corpus.protection.masking import Protection
from hat_ray.corpus.protection.terms import Terms
from hat_ray.front.front_end import FrontEnd
from hat_ray.front.text import EncodingError, cleaned, read_lines


def words(texts: Sequence[str]) -> list[int]:
    """Count a token for each word, and the end of sentence."""
    return [len(text.split()) + 1 for text in texts]


def shout(texts: list[str], numbers: Sequence[int]) -> list[str]:
    assert len(texts) == len(numbers)
    return [f"<{text.upper()}>" for text in texts]


FRONT = FrontEnd(words, 6)


def test_sentences_are_translated_one_by_one_and_lines_keep_their_places() -> None:
    lines = ["A dog. A cat.", "", "One line", " \u200b\x00", "Three. Of. Them."]
    assert FRONT.translate(lines, shout) == ["<A DOG.> <A CAT.>", "", "<ONE LINE>", "", "<THREE.> <OF.> <THEM.>"]
    whole = FrontEnd(words, 6, split=False)
    assert whole.translate(lines, shout) == ["<A DOG. A CAT.>", "", "<ONE LINE>", "", "<THREE. OF. THEM.>"]
    assert FRONT.translate([], shout) == []


def test_a_line_of_one_sentence_reaches_the_model_as_it_is() -> None:
    lines = ["a dog  runs", "", "Ünï\u200dcode — “x”, 1,000.5\u00a0€ {name} <b>", "no. 5 is e.g. here"]
    assert FrontEnd(words, 99).cut(lines).texts == [line for line in lines if line]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("\ufeffa", "a"),
        ("a\ufeff b", "a b"),
        ("a\0b", "a b"),
        ("a\rb\r", "a b"),
        ("a\u2028b\u2029c\x85d\x0be\x0cf\x1ag\x1bh\x7fi", "a b c d e f g h i"),
        ("\ta\t", "a"),
        ("نمی\u200cخواهم", "نمی\u200cخواهم"),
        ("\u3000好\u3000", "好"),
    ],
)
def test_controls_and_separators_are_blanks(line: str, text: str) -> None:
    assert FrontEnd(words, 99).cut([line]).texts == [cleaned(line)] == [text]


def test_translations_are_lines_whatever_a_model_says() -> None:
    said = "a\nb\r\n\u2028c\x85\x0cd\ufeff"
    [line] = FRONT.translate(["x"], lambda texts, numbers: [said])
    assert (line, line.splitlines()) == ("a b   c  d", [line])


def test_sentences_of_a_script_without_blanks_are_joined_without() -> None:
    def same(texts: list[str], numbers: Sequence[int]) -> list[str]:
        return texts

    lines = ["好。是吗？", "안녕. 네.", "Yes.", "A. 好。 B"]
    assert FRONT.translate(lines, same)[:3] == lines[:3]
    assert FRONT.translate(["好。是吗？"], lambda texts, numbers: ["Good.", "Is it?"]) == ["Good. Is it?"]
    assert FRONT.translate(["One. Two. Three."], lambda texts, numbers: ["A.", "", "C."]) == ["A. C."]


def test_a_sentence_that_is_too_long_is_translated_in_parts_and_named_with_its_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    long = "a b c d, e f g hey. I j"
    with caplog.at_level(logging.WARNING):
        found = FRONT.translate(["x", long, "y", "k " * 30], shout, first=513)
    assert found[1] == "<A B C D,> <E F G HEY.> <I J>"
    assert found[3].replace(">", "").replace("<", "").split() == ["K"] * 30
    [record] = caplog.records
    assert record.getMessage() == (
        "2 of 4 lines have a sentence longer than 6 tokens, which is translated in parts (first: line 514, 9 tokens)"
    )
    caplog.clear()
    seen: list[tuple[str, int]] = []
    FRONT.translate(
        ["xx. Yy. Zz", "", long], lambda texts, numbers: seen.extend(zip(texts, numbers, strict=True)) or texts
    )
    assert seen == [("xx.", 1), ("Yy.", 1), ("Zz", 1), ("a b c d,", 3), ("e f g hey.", 3), ("I j", 3)]


def test_what_a_sentence_becomes_depends_on_it_alone() -> None:
    sentences = ["a b c d e f g h i.", "Short.", "K l, m n o p q r.", "好。"]
    alone = [FRONT.cut([one]).texts for one in sentences]
    assert FRONT.cut(sentences * 3).texts == [text for texts in alone * 3 for text in texts]


def test_a_word_that_is_parted_is_put_together_again() -> None:
    letters = FrontEnd(lambda texts: [len(text) for text in texts], 8)
    assert letters.translate(["y " + "x" * 30], lambda texts, numbers: texts) == ["y " + "x" * 30]


def test_a_step_sees_each_sentence_before_and_after() -> None:
    """As one that hides names from the model: what is measured and translated is what it returns."""

    class Hide:
        def before(self, sentence: str) -> tuple[str, Any]:
            return sentence.replace("Ann", "@"), sentence.count("Ann")

        def after(self, translation: str, known: Any) -> str:
            return translation.replace("@", "Ann") + "!" * known

        def whole(self, text: str) -> tuple[()]:
            return ()

    front = FrontEnd(lambda texts: [len(text) for text in texts], 12, step=Hide())
    seen: list[str] = []

    def decode(texts: list[str], numbers: Sequence[int]) -> list[str]:
        seen.extend(texts)
        return texts

    lines = ["I see Ann Ann.", "Yes. Ann ran.", "Ann walks, and Ann then ran, far."]
    found = front.translate(lines, decode)
    assert found[:2] == ["I see Ann Ann.!!", "Yes. Ann ran.!"]
    assert seen[:3] == ["I see @ @.", "Yes.", "@ ran."]
    assert all(len(text) <= 12 for text in seen)
    assert found[2].replace("!", "") == lines[2]


class Slowly:
    """A stream that returns a fixed number of bytes a read."""

    def __init__(self, content: bytes, size: int) -> None:
        self.stream, self.size = io.BytesIO(content), size

    def read1(self, size: int, /) -> bytes:
        return self.stream.read(min(size, self.size))


CONTENT = "\ufeffone\r\ntwo\r\r\n\n three\rstill\u2028three\x85\x0b\n\ufefffour\x1a\n\nlast".encode()
LINES = ["one", "two", "", " three\rstill\u2028three\x85\x0b", "\ufefffour\x1a", "", "last"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 16])
@pytest.mark.parametrize("most", [1, 2, 512])
def test_lines_are_the_same_however_bytes_come(size: int, most: int) -> None:
    groups = list(read_lines(Slowly(CONTENT, size), most))
    assert [line for group in groups for line in group] == LINES
    assert all(1 <= len(group) <= most for group in groups)
    assert list(read_lines(Slowly(b"", size), most)) == []
    assert [*read_lines(Slowly(b"a\n", size), most)] == [["a"]]


def test_a_line_is_there_as_soon_as_it_ends() -> None:
    class Typed:
        said = 0

        def read1(self, size: int, /) -> bytes:
            self.said += 1
            return [b"a\n", b"b", b"c\nd", b""][self.said - 1]

    typed = Typed()
    seen = [(typed.said, group) for group in read_lines(typed, 512)]
    assert seen == [(1, ["a"]), (3, ["bc"]), (4, ["d"])]


@pytest.mark.parametrize("size", [3, 1 << 16])
@pytest.mark.parametrize(
    ("wrong", "byte"),
    [
        ("café".encode("latin-1"), "0xe9"),
        ("é\n".encode("utf-16"), "0xff"),
        (b"\xed\xa0\x80", "0xed"),
        (b"a\xf0\x9f", "0xf0"),
    ],
)
def test_what_is_no_utf8_is_named_after_the_lines_before_it(size: int, wrong: bytes, byte: str) -> None:
    seen: list[str] = []
    groups = read_lines(Slowly(b"one\ntwo\n" + wrong + b"\nfour\n", size), 512)
    with pytest.raises(EncodingError, match=f"stdin must be UTF-8, got byte {byte} in line 3: convert it"):
        seen.extend(line for group in groups for line in group)
    assert seen == ["one", "two"]


def test_what_comes_through_unchanged_is_never_cut() -> None:
    """Neither at the end of a sentence within it, nor where a sentence is too long."""
    step = Protection(Terms({"Yahoo! Japan": "Yahoo! JP"}))
    front = FrontEnd(lambda texts: [len(text) for text in texts], 60, step=step)
    address = "https://example.org/" + "a" * 30
    values = ['<a title="No. Go on">', "Yahoo! Japan", "`Foo. Bar`", "{x. Y}", address]
    for value in values:
        whole = front.cut([f"We saw {value} there. It was good."])
        assert [one.given for one in whole.sentences] == [f"We saw {value} there.", "It was good."]
        for before, behind in (("w " * 40, " w" * 40), ("\u5b57" * 60, "\u5b57" * 60)):
            parts = front.cut([f"{before}{value}{behind}"]).sentences
            assert len(parts) > 2
            assert sum(value in one.given for one in parts) == 1, value
            assert not any(one.continues for one in parts)
    apostrophes = front.cut(["It`s fine. He`s here."]).sentences
    assert [one.text for one in apostrophes] == ["It`s fine.", "He`s here."]

"""Where sentences end and where they do not, and how one that is too long is parted."""

import random
import time

import pytest

from hat_ray.front.sentences import parts_of, sentences_of


@pytest.mark.parametrize(
    "text",
    [
        "A dog runs. | A man sits. | A child plays.",
        'Really?! | "Yes." | He left... | Then (at last.) | Ok!',
        "See https://a.b/c?d=1.e!F. | Mail x.Y@z.org. | Done.",
        "It cost 3.50. | In 1999. | He got 1,000.5. | Then 20 men left.",
        "¿Quién es? | ¡Yo! | « Oui. » | “No.” | —Dijo.",
        "Am 3. Oktober kam z. B. Herr Dr. Müller (geb. 1990) usw. Menschen. | Dann ging er.",
        "M. Dupont et Mme. Curie. | Fin.",
        "Das kostet 5 Mio. Euro. | Viel.",
        "好。 | 是吗？ | 「我去。」他说。 | 対！？ | 「はい。」 | 「いいえ。」",
        "안녕하세요. | 반갑습니다.",
        "यह है। | वह है॥ | अंत",
        "Это дом. | Ул. Ленина, д. 50 тут. | Вот и г. Москва.",
        "هل هذا؟ | نعم.",
        "1. First item. | 2. Second item.",
        "Version 2.0. | Now better.",
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str) -> None:
    sentences = text.split(" | ")
    dense = text[0] == "好"
    assert sentences_of(("" if dense else " ").join(sentences)) == sentences


@pytest.mark.parametrize(
    "text",
    [
        "A dog runs.",
        "a dog runs . a man sits .",
        "Mr. J. R. R. Tolkien, Ph.D., met Mrs. Smith at 5 p.m. in St. Louis, Mo. 6 km away.",
        "The U.S. Army, i.e. Company B of Louis XIV. King, see Fig. 3, no. 5 and Art. 12.",
        "He shouted “Stop!” and ran (why? Nobody knows.) away ... or so.",
        "Wait… what? no, e.g. this.",
        "Great! 😀",
        "... ? ! .",
        "Kommt am 31. Dezember d. J. um 8 Uhr?",
        "",
    ],
)
def test_what_is_one_sentence_or_may_be_stays_whole(text: str) -> None:
    assert sentences_of(text) == [text]


def test_no_letter_is_lost_or_added() -> None:
    draw = random.Random(5)
    pieces = [
        "A dog",
        "runs",
        ".",
        "!",
        "?",
        "…",
        " ",
        "  ",
        "(",
        ")",
        "“",
        "”",
        "Dr.",
        "3.",
        "。",
        "好",
        "」",
        "x.y",
        "\u00a0",
    ]
    for _ in range(3_000):
        text = "".join(draw.choice(pieces) for _ in range(draw.randint(1, 20))).strip()
        sentences = sentences_of(text)
        assert "".join("".join(sentences).split()) == "".join(text.split())
        assert all(sentence == sentence.strip() for sentence in sentences)
        parts = parts_of(text, lambda part: len(part) <= 9)
        assert "".join("".join(part for part, _ in parts).split()) == "".join(text.split())
        assert all(0 < len(part) <= 9 for part, _ in parts) or not text


def of_words(most: int):
    return lambda part: len(part.split()) <= most


@pytest.mark.parametrize(
    ("text", "most", "parts"),
    [
        ("a b. C d. E f, g h i.", 5, ["a b. C d.", "E f, g h i."]),
        ("a b c, d e; f g h", 5, ["a b c, d e;", "f g h"]),
        ("a b c, d e f g", 4, ["a b c,", "d e f g"]),
        ("at 10,000.5 km and 20,000.7 km", 3, ["at 10,000.5 km", "and 20,000.7 km"]),
        ("a b c d", 2, ["a b", "c d"]),
        ("a b c d", 4, ["a b c d"]),
    ],
)
def test_a_long_sentence_parts_at_the_best_place_near_its_middle(text: str, most: int, parts: list[str]) -> None:
    assert parts_of(text, of_words(most)) == [(part, False) for part in parts]


def test_a_word_without_end_parts_between_letters_and_is_known_to_continue() -> None:
    def short(part: str) -> bool:
        return len(part) <= 8

    assert parts_of("x" * 16 + " yes", short) == [("x" * 8, False), ("x" * 8, True), ("yes", False)]
    assert parts_of("好" * 16, short) == [("好" * 8, False), ("好" * 8, False)]
    letters = "e\u0301" * 8  # an accent stays with its letter
    assert all(not part.startswith("\u0301") for part, _ in parts_of(letters, short))
    family = "👩\u200d👧" * 4
    assert all(part[0] != "\u200d" and part[-1] != "\u200d" for part, _ in parts_of(family, short))
    assert parts_of("ab", lambda part: False) == [("a", False), ("b", True)]


@pytest.mark.parametrize("unit", ["? ", "A. ", "(A. ", ".", "Hello there. ", "x", ", ", "a   ", "好。"])
def test_a_line_without_end_takes_no_time_that_grows_faster_than_it(unit: str) -> None:
    """A quadratic rule would need a hundred times as long for ten times the text."""

    def cpu_s(characters: int) -> float:
        text = (unit * characters)[:characters].strip()
        began = time.process_time()
        sentences_of(text)
        parts_of(text, lambda part: len(part) < 500)
        return time.process_time() - began

    short = min(cpu_s(5_000) for _ in range(3))
    assert cpu_s(50_000) < 40 * max(short, 1e-3)

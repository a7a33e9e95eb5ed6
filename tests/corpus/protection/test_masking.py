"""What a translation must not change becomes symbols, and comes back whatever the model makes of them."""

import logging
import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hat_ray.corpus.protection.masking import Protection, mask, protection_for, restore
from hat_ray.corpus.protection.spans import PATTERNS, SYMBOLS, find_spans
from hat_ray.corpus.protection.terms import Terms

PROTECTED = {
    "url": [
        *("http://ex.org/a?b=1", "https://en.wikipedia.org/wiki/X_(y)", "www.example.de/x,y", "mailto:me@ex.org"),
        "ftp://10.0.0.1:21/%7Efoo#bar",
    ],
    "e-mail": ["a.b+c@ex-a.co.uk", "info@xn--bcher-kva.example.org"],
    "domain": ["example.com", "docs.example.org/page.html"],
    "mark-up": ["<b>", "</b>", "<br/>", '<a href="http://x.y/?a=b&c">', "<x-y:z>", "&amp;", "&#39;", "<!-- note -->"],
    "placeholder": [
        *("{name}", "{{x}}", "{0:.2f}", "{}", "${x}", "#{y}", "%{z}", "%d", "%(n)s", "%1$s", "%5.2f", "%@", "%ld"),
        *("[[link]]", "%USERNAME%", "$HOME"),
    ],
    "number": [
        *("12", "1,000.50", "3.5", "2026-11-30", "12:30", "01 23 45 67 89", "5 km", "5 %", "10%", "$3", "\u20ac 4.99"),
        *("-5 \u00b0C", "10 m/s", "7\u00a0kg", "3/4", "+49 30 12345"),
    ],
    "emoji": [
        "\U0001f600",
        "\u2764\ufe0f",
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",
        "\U0001f1e9\U0001f1ea",
        "1\ufe0f\u20e3",
    ],
    "code": ["`x = 1`", "``a  b``"],
    "symbol": [SYMBOLS[0], SYMBOLS[7]],
}
EVERY = [value for values in PROTECTED.values() for value in values]
UNPROTECTED = [
    "A dog runs.",
    "3 dogs, the 20th of them in the 80s.",
    "a < b and c > d, 3<4",
    "e.g. this, i.e. that. Hello.World",
    "Whatever: is it not?",
    "It's 'fine' (really) - isn't it?",
    "\u3053\u308c\u306f\u72ac\u3067\u3059\u3002",
]

words = st.sampled_from(
    ["a", "dog", "runs", "Hund", "and", "\u72ac", "3", ",", ".", "(", ")", "-", "%", "{", "<", "@", "`"]
)
pieces = st.one_of(words, st.sampled_from(EVERY), st.sampled_from(SYMBOLS), st.text(max_size=4))
lines = st.builds(
    lambda parts, joint: joint.join(parts), st.lists(pieces, max_size=14), st.sampled_from([" ", "", "  "])
)


def test_each_kind_is_found_whole_within_a_sentence():
    assert set(PROTECTED) == set(PATTERNS)
    for kind, values in PROTECTED.items():
        for value in values:
            for frame in ("See {} now.", "See {}", "({})", "{}, you said", "{}."):
                masked = mask(frame.format(value) if kind != "placeholder" else frame.replace("{}", value))
                assert masked.values == (value,), (kind, frame, value, masked)


@pytest.mark.parametrize("line", UNPROTECTED)
def test_words_stay_words(line: str):
    assert not list(find_spans(line))
    assert mask(line).text == line


BESIDE_LETTERS = {
    "\u4eca\u65e5\u306fhttps://a.de\u3092\u898b\u305f\u3002{name}\u3055\u3093": ("https://a.de", "{name}"),
    "\u6587\u5b57https://a.de/\u4e2d\u6587\uff0c\u8fd8\u6709": ("https://a.de/\u4e2d\u6587",),
    "(https://ja.wikipedia.org/wiki/\u6771\u4eac_(x))\u3092": ("https://ja.wikipedia.org/wiki/\u6771\u4eac_(x)",),
    "\u5148\u306ffoo@bar.com\u307e\u3067": ("foo@bar.com",),
    "\u300cexample.com\u300d\u3001mailto:a@b.de\u3078": ("example.com", "mailto:a@b.de"),
    "\u7ea642%\u7684\u4eba\uff0c5GB\u306e": ("42%", "5GB"),
    "$name\u3055\u3093\u306b%s\u500b": ("$name", "%s"),
    "\uc804\ud654 user@example.com\uc73c\ub85c https://a.de\uc5d0\uc11c": ("user@example.com", "https://a.de"),
    "\u0e04\u0e25\u0e34\u0e01https://a.de/x\u0e40\u0e1e": ("https://a.de/x",),
    "3\u4e075kg\u306e": (),
    "m\u00fcller.de gr\u00f6\u00dfe.example.de": (),
}
"""Lines of scripts that write no blank beside a value, and what is protected in them."""


@pytest.mark.parametrize(("line", "values"), BESIDE_LETTERS.items())
def test_a_letter_of_a_script_without_blanks_is_no_part_of_a_value_beside_it(line: str, values: tuple[str, ...]):
    assert tuple(line[span.start : span.end] for span in find_spans(line)) == values


@given(lines)
@example(" ".join(SYMBOLS * 2))
@example(" and ".join(EVERY))
def test_a_masked_line_is_restored_letter_by_letter(line: str):
    masked = mask(line)
    assert restore(masked.text, masked).text == line
    assert restore(masked.text, masked).repaired == 0
    if masked.values:
        assert re.findall("|".join(SYMBOLS), masked.text) == list(SYMBOLS[: len(masked.values)])


@given(lines, lines, st.lists(st.sampled_from(SYMBOLS), max_size=12), st.randoms())
def test_every_value_comes_through_whatever_the_model_writes(line: str, other: str, symbols: list[str], chance):
    masked = mask(line)
    letters = [*other, *symbols]
    chance.shuffle(letters)
    found = restore("".join(letters), masked)
    rest = found.text
    for value in sorted(masked.values, key=len, reverse=True):
        assert value in rest
        rest = rest.replace(value, "", 1)
    if masked.values:
        written = re.findall("|".join(SYMBOLS), "".join(letters))
        missing = sum(symbol not in written for symbol in SYMBOLS[: len(masked.values)])
        assert found.repaired >= missing
        assert (found.repaired == 0) == (sorted(written) == sorted(SYMBOLS[: len(masked.values)]))


def test_parts_that_touch_are_one_and_too_many_are_joined_over_punctuation():
    assert mask("<b>{name}</b> sees {a}{b}").values == ("<b>{name}</b>", "{a}{b}")
    many = mask("See 10, 11, 12, 13, 14, 15, 16, 17, 18, and 19.")
    assert many.values == ("10, 11, 12, 13, 14, 15, 16, 17, 18", "19")
    words_between = mask(" and ".join(str(number) for number in range(10, 22)))
    assert len(words_between.values) == 8
    assert words_between.text.endswith("and 18 and 19 and 20 and 21")


def test_a_missing_symbol_is_put_back_between_its_neighbours():
    masked = mask("See {a} and {b} or visit http://ex.org.")
    one, two, three = SYMBOLS[:3]
    whole = f"Siehe {one} und {two} oder besuche {three}."
    assert restore(whole, masked).text == "Siehe {a} und {b} oder besuche http://ex.org."
    for lacking in (one, two, three):
        text = " ".join(whole.replace(lacking, "").replace(" .", ".").split())
        found = restore(text, masked)
        assert found.repaired == 1
        order = [found.text.index(value) for value in masked.values]
        assert order == sorted(order), found.text
        assert found.text.endswith(".")
    assert restore("Siehe.", masked).text == "Siehe {a} {b} http://ex.org."
    assert restore(f"{two} {two} {one} und {SYMBOLS[4]} {three}", masked).text == "{b} {a} und http://ex.org"


def test_no_word_is_glued_to_a_value_that_stood_apart():
    masked = mask("See http://ex.org and <b>all</b> of it.")
    one, two, three = SYMBOLS[:3]
    found = restore(f"Siehe{one}und {two}alles{three}davon.", masked)
    assert (found.text, found.repaired) == ("Siehe http://ex.org und <b>alles</b> davon.", 0)
    assert restore(f"\u898b\u3066{one}\u3068{two}\u5168\u90e8{three}", masked).text.startswith(
        "\u898b\u3066http://ex.org\u3068"
    )


def test_tags_around_a_sentence_touch_its_words_again():
    masked = mask("<b>A dog runs</b>.")
    assert restore("Ein Hund rennt.", masked).text == "<b>Ein Hund rennt</b>."


def test_a_sentence_without_other_words_needs_no_model_and_repairs_are_counted():
    protection = Protection()

    def through(sentence: str, answer: str) -> tuple[str, str]:
        asked, known = protection.before(sentence)
        return asked, protection.after(answer, known)

    assert through("https://ex.org/a", "") == ("", "https://ex.org/a")
    assert through("12:30 - 5 %", "") == ("", "12:30 - 5 %")
    assert through("a dog", "ein Hund") == ("a dog", "ein Hund")
    assert (protection.protected, protection.repaired) == (2, 0)
    assert through("see {name}", f"siehe {SYMBOLS[0]}") == (f"see {SYMBOLS[0]}", "siehe {name}")
    assert (protection.protected, protection.repaired) == (3, 0)
    assert through("see {name}", "siehe")[1] == "siehe {name}"
    assert through("a dog", f"ein {SYMBOLS[2]} Hund")[1] == "ein Hund"
    assert (protection.protected, protection.repaired) == (4, 2)


def test_only_vocabularies_with_every_symbol_on_both_sides_are_protected(caplog: pytest.LogCaptureFixture):
    known = [*SYMBOLS, "<s>", "</s>", "<pad>", "<unk>", "<0x0A>", "<BT>", "\u2581a"]
    found = protection_for(known, known)
    assert isinstance(found, Protection)
    assert found.marks == {"<BT>"}
    caplog.set_level(logging.INFO)
    for sides in ((known, known[1:]), (known[1:], known)):
        passing = protection_for(*sides)
        assert passing.before("a dog") == ("a dog", None)
        assert not caplog.text
        for sentence in ("see {name}", "see http://ex.org"):
            assert passing.before(sentence) == (sentence, None)
            assert passing.after("siehe {nome}", None) == "siehe {nome}"
        assert [record.getMessage()[-8:] for record in caplog.records] == ["'{name}'"]
        caplog.clear()
        with pytest.raises(ValueError, match="a glossary needs a model that learned symbols"):
            protection_for(*sides, Terms({"a": "b"}))


def test_a_mark_of_the_model_stays_where_the_line_begins_with_it():
    assert mask("<de> see <b>", marks=["<de>", "<d"]).text == f"<de> see {SYMBOLS[0]}"
    assert mask("<de>", marks=["<de>"]).values == ()
    assert mask("see <de>", marks=["<de>"]).values == ("<de>",)
    assert mask("<de> see").values == ("<de>",)


def test_terms_have_their_translation_and_stand_before_patterns():
    terms = Terms.read(
        "\ufeffopen source\tOpen Source\nApple\r\n\nhttp://ex.org\thttp://ex.org/de\n\u6771\u4eac\tTokio\n".encode(),
        "g",
    )
    masked = mask("open source software of Apple: http://ex.org, not opensource or Apples", terms)
    assert masked.values == ("Open Source", "Apple", "http://ex.org/de")
    assert mask("\u6771\u4eac\u306b\u3044\u308b", terms).values == ("Tokio",)
    longer = Terms({"New York": "Neu York", "New York City": "NYC"})
    assert mask("in New York City and New York", longer).values == ("NYC", "Neu York")


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (b"", "1 to 100000 terms, got 0"),
        (b"a\tb\na\tc\n", "line 2: the term 'a' has two translations"),
        (b"a\tb\tc\n", "line 1: a glossary has lines of"),
        (b"\tb\n", "line 1: a glossary has lines of"),
        (b"a\t\n", "line 1: a glossary has lines of"),
        (b"ok\n\xff\tb\n", "line 2: a glossary must be UTF-8"),
        (b"a" * 2000, "line 1: a term has at most"),
    ],
)
def test_a_mistake_in_a_glossary_is_one_line_with_its_place(content: bytes, mistake: str):
    with pytest.raises(ValueError, match=mistake):
        Terms.read(content, "glossary.tsv")


LETTERS = [
    "a",
    "<a ",
    "1 ",
    "11 ",
    "a.",
    "{",
    "a@",
    "%",
    "`",
    "http://",
    "<!--",
    "&a",
    "-1",
    "\U0001f600\u200d",
    "[[",
    "${",
    "x)",
    "\u6771",
    "a\u6771",
    "\u6771@",
]


@pytest.mark.parametrize("letters", LETTERS)
def test_the_time_grows_with_the_length_alone(letters: str):
    """A hundred thousand letters take less than a second or two; a pattern that scans twice over takes minutes."""
    line = (letters * 100_000)[:100_000]
    started = time.process_time()
    masked = mask(f"http://{line}", Terms({"aa": "b"}))
    assert restore(masked.text, masked).text.count("\u27e6") == line.count("\u27e6")
    assert time.process_time() - started < 10


@settings(max_examples=300)
@given(st.text(max_size=60))
def test_any_text_is_restored(line: str):
    masked = mask(line, Terms({"a": "a", "ab": "ab"}))
    assert restore(masked.text, masked).text == line

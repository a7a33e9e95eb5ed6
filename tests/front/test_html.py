"""HTML documents as lines and back: what is no text is kept, tags nest whatever a model does, and time is bounded."""

import random
from html import unescape
from html.parser import HTMLParser

import pytest

from hat_ray.front.html import Document, Line

VOID = {"br", "img", "wbr", "hr"}


class Structure(HTMLParser):
    """The standard library's view: the oracle."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(self.get_starttag_text() or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_entityref(self, name: str) -> None:
        self.text += unescape(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.text += unescape(f"&#{name};")


def require_nested(document: str) -> None:
    waiting: list[str] = []
    for tag in Structure(document).tags:
        name = tag.strip("<>/").split()[0]
        if tag.startswith("/"):
            assert waiting.pop() == name, document
        elif name not in VOID:
            waiting.append(name)
    assert not waiting


def shuffled(line: Line, draw: random.Random) -> str:
    """Translate as a model might that writes words, and the characters of tags, in any order."""
    letters = list(line.text.upper())
    draw.shuffle(letters)
    return "".join(letters)


def drawn(draw: random.Random, depth: int = 0) -> str:
    """Draw a document that is well formed."""
    pieces = []
    for _ in range(draw.randint(1, 4)):
        kind = draw.randint(0, 9)
        if kind < 5 or depth > 4:
            pieces.append(
                draw.choice(["a dog ", "Caf\u00e9 &amp; bar", "x &lt; y", "http://ex.org/a", "12 km", "\n  "])
            )
        elif kind == 5:
            pieces.append(draw.choice(["<br>", "<br/>", "<img alt='a > b' src=x>", "<!-- <b> -->", "&copy;", "&nbsp;"]))
        elif kind == 6:
            pieces.append(draw.choice(["<script>if (a<b) {}</script>", "<code>x <b>y</b></code>", "<pre>a\n  b</pre>"]))
        else:
            name = draw.choice(["b", "i", "span", "a", "p", "div", "li", "td"])
            given = draw.choice(["", ' class="x y"', ' title="Hi. There > 3"', " translate=no", " data-a='\"'"])
            pieces.append(f"<{name}{given}>{drawn(draw, depth + 1)}</{name}>")
    return "".join(pieces)


@pytest.mark.parametrize("seed", range(4))
def test_drawn_documents_keep_their_tags_and_nest_whatever_is_translated(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(150):
        text = drawn(draw)
        document = Document(text)
        same = document.joined([line.html(line.text) or "" for line in document.lines])
        assert Structure(same).tags == Structure(text).tags
        assert Structure(same).text.replace("\n", " ") == Structure(text).text.replace("\n", " ")
        found = document.joined([line.html(shuffled(line, draw)) or "" for line in document.lines])
        require_nested(found)
        assert sorted(Structure(found).tags) == sorted(Structure(text).tags)
        runs = document.joined([line.html_of_runs(line.runs) for line in document.lines])
        assert Structure(runs).tags == Structure(text).tags


def test_text_is_read_and_what_is_no_text_is_kept_letter_by_letter() -> None:
    text = (
        "<!DOCTYPE html><TITLE>Caf&eacute; &amp; more</TITLE><style>p > a {}</style>\n<P class=x>  Don&#39;t "
        '<b>stop</b> <a href="?a=1&amp;b=2" title="Hi. There > 3">here</a> &copy; <code>a &lt; b</code>.<br>'
        "Two &lt;b&gt; R&amp;D</P>"
        '<p translate="no">Keep</p><p>a <i class="x notranslate">Keep</i> b</p><p><b>All</b></p><p> &nbsp; 12 </p>'
    )
    document = Document(text)
    marks = [list(line.marks) for line in document.lines]
    assert [line.text for line in document.lines] == [
        "Caf\u00e9 & more",
        "Don't {}stop{} {}here{} {} {}.".format(*marks[1]),
        "Two {} R&D".format(*marks[2]),
        "a {} b".format(*marks[3]),
        "All",
        *marks[5],
    ]
    assert [document.lines[2].marks[marks[2][0]].raw, document.lines[5].marks[marks[5][0]].raw] == ["<b>", "12"]
    assert document.joined([line.html(line.text) or "" for line in document.lines]) == text.replace(
        "Caf&eacute;", "Caf\u00e9"
    ).replace("Don&#39;t", "Don't")


def test_what_a_model_writes_is_escaped_and_a_lost_tag_is_noticed() -> None:
    [line] = Document("see <b>this</b> now").lines
    first, second = line.marks
    assert line.html(f"<i> {first}&{second}") == "&lt;i&gt; <b>&amp;</b>"
    for lost in ("x", f"{first} x", f"{first}{first}{second}"):
        assert line.html(lost) is None
    assert line.html(f"{second} a {first}") == "<b> a </b>", "in the order of the source"
    assert line.runs == ["see ", "this", " now"]
    assert line.html_of_runs(["A", "<B>", "C"]) == "A <b>&lt;B&gt;</b> C"


def test_private_characters_of_the_text_itself_are_text() -> None:
    own = "\U000f0000 a <b>dog</b> \U000f0001"
    [line] = Document(own).lines
    assert not set(line.marks) & set(own)
    assert line.html(line.text) == own


UNITS = ["<", "<a ", "<!--", "</", "<a b", "&a", "<a b='", "<!", "<?", "<![CDATA[", "<script>", "</a", "<a>", "<a ='"]
UNITS += [
    "&#1",
    "x<b>y</b>",
    "<code>",
    "<b class=",
    "<b>x</i>",
    '<i class="',
    "<a =\"x' ='",
    "x<br>",
    "</script",
    "a<b>",
]
UNITS += ["<script></script x", "<p translate=no>"]


@pytest.mark.parametrize("unit", UNITS)
def test_a_document_that_means_harm_is_read_and_kept(unit: str) -> None:
    """The standard library's parser takes minutes for some of them."""
    text = (unit * 40_000)[:40_000]
    document = Document(text)
    same = document.joined([line.html(line.text) or "" for line in document.lines])
    assert same.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == text
    assert Document(f"{'<b>' * 10_000}a{'</b>' * 10_000}").lines[0].text == "a"

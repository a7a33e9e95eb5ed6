import json
from html.parser import HTMLParser

import pytest

from hat_ray.report.html import Markup, element, join, json_script, script, script_hash, style

NASTY = "</script><img src=x onerror=alert(1)>&\"'\u2028<!--"


class Reader(HTMLParser):
    """The standard library's parser as oracle: what a reader of the page gets."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(markup: Markup) -> Reader:
    reader = Reader()
    reader.feed(markup.text)
    reader.close()
    return reader


def test_text_and_attribute_values_come_back_as_they_were_given() -> None:
    read_back = read(element("p", NASTY, [1, None, ("a", 2.5)], title=NASTY))
    assert read_back.tags == [("p", {"title": NASTY})]
    assert read_back.text == f"{NASTY}1a2.5"


def test_markup_passes_and_nests() -> None:
    assert element("p", element("b", "<"), " ", element("br")).text == "<p><b>&lt;</b> <br></p>"
    assert join("a<", element("i", "b")).text == "a&lt;<i>b</i>"


def test_attribute_names_follow_python_and_absent_ones_are_left_out() -> None:
    made = element("a", class_="x", aria_label="y", hidden=True, title=None, download=False, tabindex=0)
    assert made.text == '<a class="x" aria-label="y" hidden tabindex="0"></a>'


@pytest.mark.parametrize("attributes", [{"onclick": "x"}, {"style": "x"}, {"a b": "x"}, {"x=y": 1}])
def test_handlers_styles_and_crooked_names_are_refused(attributes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="plain name"):
        element("p", **attributes)


@pytest.mark.parametrize("link", ["javascript:alert(1)", "https://example.org", "//x", "data:text/html,x", " #x"])
def test_links_that_leave_the_page_are_refused(link: str) -> None:
    with pytest.raises(ValueError, match="inside the page"):
        element("a", "x", href=link)


@pytest.mark.parametrize("tag", ["script", "style", "a b", "p>", ""])
def test_raw_and_crooked_elements_are_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="plain name"):
        element(tag, "x")


def test_json_survives_and_cannot_end_its_script() -> None:
    made = json_script("data", {NASTY: [NASTY, 1.5, None]})
    inside = made.text.removeprefix('<script type="application/json" id="data">').removesuffix("</script>")
    assert not set("<>&\u2028\u2029") & set(inside)
    assert json.loads(inside) == {NASTY: [NASTY, 1.5, None]}


def test_scripts_that_would_end_themselves_are_refused() -> None:
    for make, text in ((script, "x='</SCRIPT>'"), (script, "<!-- x"), (style, "</style>")):
        with pytest.raises(ValueError, match="must not contain"):
            make(text)


def test_script_hash_is_the_one_of_the_content_security_policy_standard() -> None:
    # The example of the specification, CSP Level 3, section 8.4
    assert script_hash("alert('Hello, world.');") == "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"

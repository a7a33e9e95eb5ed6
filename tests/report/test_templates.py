"""What templates promise: text stays text, links stay inside the page, nothing is left out without a word."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from browsing import NASTY
from jinja2 import UndefinedError
from rich.console import Console

from hat_ray.report import render as rendering
from hat_ray.report.chart import Figure
from hat_ray.report.data import ReportData
from hat_ray.report.render import NAVIGATION, embedded, page, render, run_view, script_hash
from hat_ray.report.tables import Cell, Note, Table

Make = Callable[..., ReportData]
LINKS = ("href", "src", "action", "formaction", "data", "xlink:href", "srcset", "poster")


class Reader(HTMLParser):
    """The standard library's parser as oracle: what a reader of the page gets."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def ids(self, tag: str) -> list[str]:
        return [attributes["id"] or "" for name, attributes in self.tags if name == tag and "id" in attributes]


def test_no_page_asks_for_anything_outside_it(report: ReportData) -> None:
    found = Reader(page(report)).tags
    assert {name for name, _ in found}.isdisjoint({"link", "img", "iframe", "object", "embed", "base", "form"})
    for name, attributes in found:
        assert not [key for key in attributes if key.startswith("on") or key == "style"], name
        for key in LINKS:
            assert key not in attributes or re.match(r"#|data:text/csv;", attributes[key] or ""), attributes


def test_only_the_frame_passes_text_unescaped() -> None:
    """Templates escape all that they are given; our own style and scripts are marked safe by `embedded` alone."""
    for template in files("hat_ray.report").joinpath("templates").iterdir():
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe|autoescape|Markup", text), template.name
        unquoted = re.findall(r"<[a-z][^>{]*\s[a-z:-]+=\{\{", text)
        assert not unquoted, f"{template.name}: an attribute without quotes is not protected by escaping"


def test_text_and_attribute_values_come_back_as_they_were_given(small_report: Make) -> None:
    data = small_report()
    devices = tuple(replace(device, title=NASTY) for device in data.devices)
    read = Reader(page(replace(data, name=NASTY, devices=devices)))
    assert NASTY in read.text
    captions = {attributes.get("aria-label") for _, attributes in read.tags}
    assert f"The models on {NASTY}" in captions
    assert not [name for name, _ in read.tags if name == "img"]


def test_data_of_figures_survives_and_cannot_end_its_script(small_report: Make) -> None:
    curves = tuple(replace(curve, name=NASTY) for curve in small_report().supernet)
    text = page(small_report(supernet=curves))
    [inside] = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', text, re.DOTALL)
    assert not set("<>&\u2028\u2029") & set(inside)
    drawn = json.loads(inside)
    assert set(drawn) == {one.id for one in run_view(small_report(supernet=curves)).figures}
    assert drawn["supernet"]["data"][0]["name"].startswith("&lt;img")  # escaped once more, for plotly


def test_every_section_of_the_navigation_is_on_the_page_and_none_twice(report: ReportData) -> None:
    read = Reader(page(report))
    assert read.ids("section") == ["summary", *(id for id, _ in NAVIGATION)]
    assert [a["href"] for name, a in read.tags if name == "a" and (a["href"] or "")[1:] in dict(NAVIGATION)] == [
        f"#{id}" for id, _ in NAVIGATION
    ]


EMPTY = (
    *("results", "frontier", "bounds", "networks", "method", "sweep", "search", "training"),
    *("ranking", "policies", "translations", "cost"),
)


@pytest.mark.parametrize("name", EMPTY)
def test_a_section_with_nothing_to_show_is_left_out(report: ReportData, name: str) -> None:
    full = run_view(report)
    without = replace(full, **{name: () if isinstance(getattr(full, name), tuple) else None})
    assert name in Reader(render("run.html.j2", full)).ids("section")
    text = render("run.html.j2", without)
    assert name not in Reader(text).ids("section")
    assert f'href="#{name}"' not in text


def test_devices_side_by_side_need_preferences_or_runtimes(report: ReportData) -> None:
    full = run_view(report)
    shown = [
        "devices" in Reader(render("run.html.j2", replace(full, preferences=likes, runtimes=contests))).ids("section")
        for likes in (full.preferences, None)
        for contests in (full.runtimes, None)
    ]
    assert shown == [True, True, True, False]


def test_a_template_that_asks_for_what_no_view_has_is_refused(report: ReportData) -> None:
    made = rendering._templates().from_string("{{ view.headline }}")
    with pytest.raises(UndefinedError, match="headline"):
        made.render(view=run_view(report))


def test_the_terminal_page_and_markdown_show_every_cell_of_a_table() -> None:
    table = Table(
        "c", ("name", "value\nms"), [["[red]a|b[/red]", Cell("1.5", (Note("1 – 2"), Note("✓ limit", "kept")))]]
    )
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table.terminal("[title]"))
    shown = console.export_text()
    for text in ("[title]", "[red]a|b[/red]", "1.5", "1 – 2", "✓ limit", "ms"):
        assert text in shown
    assert table.markdown() == "| name | value ms |\n| --- | ---: |\n| [red]a\\|b[/red] | 1.5 1 – 2 ✓ limit |\n"


def test_a_figures_table_shows_its_first_rows_as_its_csv_has_them() -> None:
    figure = Figure("x", "t", "c", [], {}, ("name", "value"), [(f"row {i}", i / 3) for i in range(60)])
    rows = list(csv.reader(io.StringIO(figure.csv())))[1:]
    shown = figure.table().rows
    assert len(shown) == 50
    for (name, value), (csv_name, csv_value) in zip(shown, rows, strict=False):
        assert name == csv_name
        assert float(str(value)) == pytest.approx(float(csv_value), rel=1e-5)


def test_text_that_would_end_its_own_element_is_refused() -> None:
    for source, element in (("x='</SCRIPT>'", "script"), ("<!-- x", "script"), ("</style>", "style")):
        with pytest.raises(ValueError, match="must not contain"):
            embedded(source, element)


def test_script_hash_is_the_one_of_the_content_security_policy_standard() -> None:
    # The example of the specification, CSP Level 3, section 8.4
    assert script_hash("alert('Hello, world.');") == "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"


def test_every_field_of_the_view_is_shown(report: ReportData) -> None:
    """A field that no template reads is dead; the names stand in the templates as `view.name`."""
    folder = files("hat_ray.report").joinpath("templates")
    text = "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in ("base.html.j2", "run.html.j2"))
    unread = [one.name for one in fields(run_view(report)) if f"view.{one.name}" not in text]
    assert not unread

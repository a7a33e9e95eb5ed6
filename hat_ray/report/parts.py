"""The parts that the page's sections are made of: sections, tables, figures with their data, facts."""

from collections.abc import Mapping, Sequence

from hat_ray.report.chart import Cell, Figure
from hat_ray.report.html import Child, Markup, element, join

MAX_ROWS_SHOWN = 50  # of a figure's data; the link holds all


def section(id: str, title: str, lead: Child, *content: Child) -> Markup:
    """A section of the page with its heading and one leading sentence."""
    lead_text = element("p", lead, class_="lead") if lead else None
    return element("section", element("h2", title), lead_text, content, id=id)


def table(columns: Sequence[str], rows: Sequence[Sequence[Child]], *, caption: str, text_columns: int = 1) -> Markup:
    """A table that scrolls inside its own frame; all but the first `text_columns` are aligned as numbers."""

    def side(index: int) -> str | None:
        return None if index < text_columns else "num"

    head = [element("th", name, scope="col", class_=side(i)) for i, name in enumerate(columns)]
    body = [
        element(
            "tr", [element("th" if i == 0 else "td", cell, class_=side(i), **_scope(i)) for i, cell in enumerate(row)]
        )
        for row in rows
    ]
    inner = element(
        "table",
        element("caption", caption, class_="unseen"),
        element("thead", element("tr", head)),
        element("tbody", body),
    )
    return element("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption)


def lined_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str) -> Markup:
    """A table of plain text whose cells may have a second line, which is small."""
    shown = [[_lines(cell) for cell in row] for row in rows]
    return table([name.replace("\n", " ") for name in columns], shown, caption=caption)


def _lines(cell: str) -> Child:
    first, _, second = cell.partition("\n")
    return join(first, element("small", second)) if second else first


def _scope(index: int) -> dict[str, str]:
    return {"scope": "row"} if index == 0 else {}


def figure(drawn: Figure, *, device: str | None = None) -> Markup:
    """A figure with its caption and its data; the page's script draws into the frame."""
    frame = element(
        "div",
        element("p", "The figure appears here when scripts may run; its data stand below.", class_="waiting"),
        id=drawn.id,
        class_="plot",
        role="img",
        aria_label=f"{drawn.title}. {drawn.caption}",
    )
    caption = element("figcaption", drawn.caption)
    heading = element("h3", drawn.title, element("small", f" on {device}") if device else None)
    return element("figure", heading, frame, caption, data(drawn))


def data(drawn: Figure) -> Markup:
    """A figure's data: the first rows as a table, all of them as CSV behind a link."""
    rows = [[_cell(cell) for cell in row] for row in drawn.rows[:MAX_ROWS_SHOWN]]
    link = element(
        "a", f"All {len(drawn.rows):,} rows as CSV", href=drawn.csv_link(), download=f"{drawn.id}.csv", class_="file"
    )
    shown = f"First {len(rows)} rows. " if len(rows) < len(drawn.rows) else ""
    summary = element("summary", "Data", element("span", f" of: {drawn.title}", class_="unseen"))
    inner = table(drawn.columns, rows, caption=f"Data of: {drawn.title}")
    return element("details", summary, element("p", shown, link), inner)


def _cell(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:.6g}"
    return "" if cell is None else str(cell)


def facts(values: Mapping[str, Child]) -> Markup:
    """Names and values."""
    return element(
        "dl",
        [element("div", element("dt", name), element("dd", value)) for name, value in values.items()],
        class_="facts",
    )


def legend() -> Markup:
    """What the colours of drawn networks mean."""
    keys = [_key("self", "self-attention"), _key("cross", "cross-attention"), _key("ffn", "feed-forward")]
    return element("div", element("ul", keys), class_="legend")


def _key(kind: str, text: str) -> Markup:
    swatch = element(
        "svg", element("rect", width=16, height=10, rx=2, class_=kind), viewBox="0 0 16 10", aria_hidden="true"
    )
    return element("li", swatch, text)


def csv_link(drawn: Figure, text: str) -> Markup:
    """A link to data that stand in a table and are drawn nowhere."""
    return element("a", text, href=drawn.csv_link(), download=f"{drawn.id}.csv", class_="file")

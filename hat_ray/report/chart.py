"""One interactive figure: plotly traces and layout, and the table behind it.

Decisions
- Plain dictionaries, not `plotly.graph_objects`: no template of 7 KB a figure; a test validates them against plotly.
- Text is escaped here, once, for every string of a figure: plotly reads some tags in labels. A line break is "\\n".
- A colour is the name of a custom property of the page's style sheet, such as "@winner": the page's script puts the
  light or dark value there. It looks at keys that end in "color" only, so text that begins with "@" stays text.
- Kinds of points differ in shape as well as in colour.
"""

import csv
import io
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TypeAlias

from hat_ray.report.tables import Table
from hat_ray.search.selection import Kind

Trace: TypeAlias = dict[str, object]
Value: TypeAlias = str | int | float | None

MARKERS: dict[Kind, Trace] = {
    "winner": {"symbol": "star", "size": 19, "color": "@winner"},
    "largest": {"symbol": "square", "size": 11, "color": "@largest"},
    "scaled-depth": {"symbol": "triangle-down", "size": 11, "color": "@by-hand"},
    "scaled-width": {"symbol": "diamond", "size": 11, "color": "@by-hand"},
    "deep-shallow": {"symbol": "triangle-up", "size": 11, "color": "@by-hand"},
    "deep-shallow-ssru": {"symbol": "triangle-right", "size": 11, "color": "@by-hand"},
    "random": {"symbol": "x", "size": 8, "color": "@random"},
}
MARKS: dict[Kind, str] = {
    "winner": "★",
    "largest": "■",
    "scaled-depth": "▼",
    "scaled-width": "◆",
    "deep-shallow": "▲",
    "deep-shallow-ssru": "▶",
    "random": "✕",
}
"""How the page's tables and headings show the kinds of points."""
LEGEND: dict[Kind, str] = {
    "winner": "Chosen",
    "largest": "Largest",
    "scaled-depth": "Fewer layers",
    "scaled-width": "Narrower",
    "deep-shallow": "Deep, shallow",
    "deep-shallow-ssru": "Deep, shallow, SSRU",
    "random": "Random",
}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "pentagon", "hexagram", "star-square")
NUM_SERIES = 5
NUM_SHADES = 6
MAX_ROWS_SHOWN = 50
"""Rows of a figure's data on the page; its CSV link has all."""


@dataclass(frozen=True)
class Figure:
    """A figure of the page. `id` is ours, never a user's."""

    id: str
    title: str
    caption: str
    traces: Sequence[Trace]
    layout: Mapping[str, object]
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]] = field(repr=False)
    narrow: Mapping[str, object] | None = None
    """The layout on narrow screens, where it is another one. A layout with a `height` sets the frame's."""

    def plotly(self) -> dict[str, object]:
        """Return data and layout as plain JSON values, with all text escaped for plotly."""
        return {"data": escaped(list(self.traces)), "layout": escaped(dict(self.layout))}

    def drawn(self) -> dict[str, object]:
        """Return the input of the page's script: `plotly`, and the layout on narrow screens."""
        return self.plotly() if self.narrow is None else {**self.plotly(), "narrow": escaped(dict(self.narrow))}

    def csv_link(self) -> str:
        """Return the figure's data as a `data:` link."""
        return f"data:text/csv;charset=utf-8;base64,{b64encode(self.csv().encode()).decode()}"

    def table(self) -> Table:
        """Return the first rows of the figure's data."""
        rows = [[_shown(value) for value in row] for row in self.rows[:MAX_ROWS_SHOWN]]
        return Table(f"Data of: {self.title}", self.columns, rows)

    def csv(self) -> str:
        sink = io.StringIO()
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerows([[_inert(cell) for cell in row] for row in [self.columns, *self.rows]])
        return sink.getvalue()


@dataclass(frozen=True)
class FigureGroup:
    """Figures that stand together, under a device's title where there are several devices."""

    title: str | None
    figures: tuple[Figure, ...]


def data_only(id: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> Figure:
    """Return a figure that is not drawn: its data stand in a table and behind a CSV link."""
    return Figure(id, title, "", [], {}, columns, rows)


def series_colour(index: int) -> str:
    """Return the colour of one of several series."""
    return f"@series-{index % NUM_SERIES + 1}"


def shade(index: int) -> str:
    """Return the colour of one of several ordered groups."""
    return f"@shade-{min(index, NUM_SHADES - 1) + 1}"


def escaped(value: object) -> object:
    """Escape every string inside a figure for plotly, and turn its line breaks into plotly's."""
    if isinstance(value, str):
        return escape(value, quote=False).replace("\n", "<br>")
    if isinstance(value, Mapping):
        return {key: escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # a gap: JSON knows no NaN
    return value


def _shown(value: Value) -> str:
    """Return a value of the data as the page shows it, on one line."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)


def _inert(cell: Value) -> Value:
    """Keep a spreadsheet from reading a text cell as a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def axis(title: str, **more: object) -> Trace:
    """An axis with its title (and unit)."""
    return {
        "title": {"text": title, "standoff": 10, "font": {"size": 13}},
        "gridcolor": "@grid",
        "linecolor": "@line",
        "zeroline": False,
        "automargin": True,
        "tickcolor": "@line",
        **more,
    }


def layout(x: Trace, y: Trace, **more: object) -> Trace:
    """The layout that all figures share."""
    return {
        "xaxis": x,
        "yaxis": y,
        "hovermode": "closest",
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": "@muted"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 56, "r": 20, "t": 16, "b": 48},
        "showlegend": True,
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "@muted", "activecolor": "@accent"},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        "hoverlabel": {
            "bgcolor": "@surface",
            "bordercolor": "@line",
            "font": {"color": "@ink", "size": 12},
            "align": "left",
            "namelength": 0,
        },
        **more,
    }


def points(
    name: str, x: Sequence[Value], y: Sequence[Value], hover: Sequence[str], marker: Trace, **more: object
) -> Trace:
    """A scatter of markers whose hover text is given, never computed from a template."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": list(x),
        "y": list(y),
        "hovertext": list(hover),
        "hoverinfo": "text",
        "marker": marker,
        **more,
    }


def line(
    name: str, x: Sequence[Value], y: Sequence[Value], hover: Sequence[str], style: Trace, **more: object
) -> Trace:
    """A line; `style` is plotly's `line`."""
    return points(name, x, y, hover, {"color": style["color"], "size": 6}, mode="lines", line=style, **more)

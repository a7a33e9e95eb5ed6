"""Small multiples: panels of one figure in a grid, wide and narrow."""

from dataclasses import dataclass

from hat_ray.report.chart import Trace

WIDE, NARROW = 5, 2
"""Panels side by side, on wide and on narrow screens."""
GAPS = {WIDE: 0.025, NARROW: 0.07}
"""Between panels side by side, as a share of the figure's width."""


@dataclass(frozen=True)
class Grid:
    """Where panels stand; heights in pixels, widths as shares of the figure's."""

    panels: int
    columns: int
    title: float = 26
    panel: float = 140
    ticks: float = 38
    top: float = 44
    bottom: float = 28

    @property
    def height(self) -> float:
        return self.top + self.bottom + self._inner

    @property
    def gap(self) -> float:
        return GAPS[self.columns]

    @property
    def _rows(self) -> int:
        return -(-self.panels // self.columns)

    @property
    def _inner(self) -> float:
        return self._rows * (self.title + self.panel + self.ticks) - self.ticks

    def across(self, index: int) -> list[float]:
        """Return where a panel begins and ends, from the left."""
        width = (1 - self.gap * (self.columns - 1)) / self.columns
        start = (index % self.columns) * (width + self.gap)
        return [start, min(start + width, 1.0)]

    def up(self, index: int) -> list[float]:
        """Return where a panel begins and ends, from below: the first row is on top."""
        above = (index // self.columns) * (self.title + self.panel + self.ticks) + self.title
        return [max(1 - (above + self.panel) / self._inner, 0.0), 1 - above / self._inner]


def suffix(place: int) -> str:
    """Return plotly's suffixes for the names of a panel's axes."""
    return "" if place == 0 else str(place + 1)


def axes_of(place: int) -> dict[str, str]:
    """Return the axes that a trace in a panel is drawn on."""
    return {"xaxis": f"x{suffix(place)}", "yaxis": f"y{suffix(place)}"}


def panel_title(text: str, x: float, y: float) -> Trace:
    """Return a panel's title as an annotation above its upper left corner."""
    place: Trace = {"x": x, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    return {**place, "text": text, "showarrow": False, "font": {"size": 12.5, "color": "@ink"}}

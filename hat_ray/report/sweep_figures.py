"""The figure of a sweep: small multiples, one panel a dimension, one line a device, on one scale.

Latency is shown against that of the base, so that a board and a GPU stand in one panel; milliseconds are in the labels,
the data and the tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hat_ray.latency.influence import SweepResult, SweptDevice, TimedPoint, TimedSweep
from hat_ray.report.figure import Cell, Figure, Trace, axis, layout, points
from hat_ray.report.method_figures import DASHES, NUM_SERIES, SYMBOLS
from hat_ray.report.sweep_words import base_words, name_of, point_words, times

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


def sweep_figures(result: SweepResult | None) -> list[Figure]:
    """Draw a sweep, if there was one."""
    if result is None:
        return []
    dimensions = result.by_influence()
    devices = f"on {result.devices[0].title}" if len(result.devices) == 1 else f"on {len(result.devices)} devices"
    return [
        Figure(
            id="sweep-dimensions",
            title="Latency against each dimension, relative to the base",
            caption=(
                f"Latency {devices} when one dimension changes in all layers and everything else stays as in the base, "
                "whose latency is 1 (dotted line, larger mark). Bars run from p10 to p90 of single translations. The "
                f"dimension that matters most comes first. The base: {base_words(result.base)}."
            ),
            traces=[
                _line(device, i, sweep, dimensions.index(sweep.dimension))
                for i, device in enumerate(result.devices)
                for sweep in result.on(device.slug)
            ],
            layout=_panels(result, dimensions, WIDE),
            narrow=_panels(result, dimensions, NARROW),
            columns=(
                *("device", "dimension", "choice", "architecture id", "latency ms", "p10 ms", "p90 ms"),
                *("encoder ms", "decoder ms", "relative error", "FLOPs"),
            ),
            rows=[_data_row(device, sweep, one) for device, sweep in _rows(result) for one in sweep.points],
        )
    ]


def _line(device: SweptDevice, i: int, sweep: TimedSweep, place: int) -> Trace:
    """One device in one panel."""
    colour = f"@series-{i % NUM_SERIES + 1}"
    heights = [one.ms / device.base_ms for one in sweep.points]
    sizes = [10 if one.ms == device.base_ms else 6 for one in sweep.points]
    marker: Trace = {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": sizes, "color": colour, "opacity": 1}
    return points(
        device.title,
        [one.choice for one in sweep.points],
        heights,
        [point_words(sweep.dimension, one, device.base_ms) for one in sweep.points],
        marker,
        mode="lines+markers",
        line={"color": colour, "dash": DASHES[i % len(DASHES)], "width": 2},
        error_y=_spread(device, sweep),
        legendgroup=device.slug,
        showlegend=place == 0,
        **_axes(place),
    )


def _spread(device: SweptDevice, sweep: TimedSweep) -> Trace:
    up = [(one.p90_ms - one.ms) / device.base_ms if one.p90_ms is not None else 0.0 for one in sweep.points]
    down = [(one.ms - one.p10_ms) / device.base_ms if one.p10_ms is not None else 0.0 for one in sweep.points]
    bars: Trace = {"type": "data", "symmetric": False, "array": up, "arrayminus": down}
    return {**bars, "color": "@muted", "thickness": 1.2, "width": 3}


def _panels(result: SweepResult, dimensions: Sequence[str], columns: int) -> Trace:
    """Lay out one panel for each dimension: own choices across, one scale of latency for all."""
    grid, many = Grid(len(dimensions), columns), len(result.devices) > 1
    axes: Trace = {}
    shapes, titles = [], []
    for place, dimension in enumerate(dimensions):
        suffix = "" if place == 0 else str(place + 1)
        swept = [one for one in result.sweeps if one.dimension == dimension]
        across, up = grid.across(place), grid.up(place)
        axes[f"xaxis{suffix}"] = _choices(swept, across, f"y{suffix}")
        axes[f"yaxis{suffix}"] = _latencies(result, up, f"x{suffix}", place, columns)
        axes_of = {"xref": f"x{suffix} domain", "yref": f"y{suffix}"}
        shapes.append({**_reference(), **axes_of})
        ratio = "" if many or columns == NARROW else f"  {times(swept[0].influence.ratio)}"
        titles.append(_title(f"{name_of(dimension)}{ratio}", across[0], up[1]))
    frame = layout({}, {}, showlegend=many, shapes=shapes, annotations=titles, height=grid.height)
    return {**frame, "margin": {"l": 48, "r": 12, "t": grid.top if many else 8, "b": grid.bottom}, **axes}


def _choices(swept: Sequence[TimedSweep], domain: list[float], anchor: str) -> Trace:
    choices = [one.choice for one in swept[0].points]
    room = 0.12 * (choices[-1] - choices[0])
    return axis(
        "",
        domain=domain,
        anchor=anchor,
        tickmode="array",
        tickvals=choices,
        ticktext=_labels(choices),
        tickangle=0,
        range=[choices[0] - room, choices[-1] + room],
        showgrid=False,
    )


def _labels(choices: Sequence[int]) -> list[str]:
    """Name the choices; one that would run into the label before it, or into the last, stays without a name."""
    span, shown = choices[-1] - choices[0], [str(choices[0])]
    last = choices[0]
    for choice in choices[1:-1]:
        room = 0.075 * len(str(choice)) * span
        fits = choice - last >= room and choices[-1] - choice >= room
        shown.append(str(choice) if fits else "")
        last = choice if fits else last
    return [*shown, str(choices[-1])]


def _latencies(result: SweepResult, domain: list[float], anchor: str, place: int, columns: int) -> Trace:
    """The scale of latency; figures stand at the left edge only, so that all panels are read on one scale."""
    base = {device.slug: device.base_ms for device in result.devices}
    top = max((one.p90_ms or one.ms) / base[sweep.device] for sweep in result.sweeps for one in sweep.points)
    at_edge = place % columns == 0
    return axis(
        "", domain=domain, anchor=anchor, range=[0, 1.06 * top], nticks=5, showticklabels=at_edge, tickformat=".2~f"
    )


def _reference() -> Trace:
    line: Trace = {"color": "@muted", "width": 1, "dash": "dot"}
    return {"type": "line", "layer": "below", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": line}


def _title(text: str, x: float, y: float) -> Trace:
    place: Trace = {"x": x, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    return {**place, "text": text, "showarrow": False, "font": {"size": 12.5, "color": "@ink"}}


def _axes(place: int) -> dict[str, str]:
    return {"xaxis": "x", "yaxis": "y"} if place == 0 else {"xaxis": f"x{place + 1}", "yaxis": f"y{place + 1}"}


def _rows(result: SweepResult) -> list[tuple[SweptDevice, TimedSweep]]:
    return [(device, sweep) for device in result.devices for sweep in result.on(device.slug)]


def _data_row(device: SweptDevice, sweep: TimedSweep, one: TimedPoint) -> list[Cell]:
    first: list[Cell] = [device.title, name_of(sweep.dimension), one.choice, one.architecture.id]
    spread: list[Cell] = [one.ms, one.p10_ms, one.p90_ms, one.encoder_ms, one.decoder_ms]
    return [*first, *spread, one.relative_error, one.flops]

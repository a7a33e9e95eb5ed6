"""What each dimension of an architecture costs in latency, on every device: sentences, tables and one figure.

The figure is small multiples: one panel a dimension, one line a device. It shows latency relative to that of the base,
so that a board and a GPU stand in one panel; milliseconds are in the labels, the data and the tables. Every sentence
follows from the figures; page and terminal show the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table as TerminalTable

from hat_ray.core.text import fixed, milliseconds, signed, significant
from hat_ray.latency.effects import Effect, SweepResult, SweptDevice, TimedPoint, TimedSweep, effect_size
from hat_ray.report.chart import DASHES, SYMBOLS, Figure, Trace, Value, axis, layout, points, series_colour
from hat_ray.report.panels import NARROW, WIDE, Grid, axes_of, panel_title, suffix
from hat_ray.report.tables import Table
from hat_ray.space.architecture import Architecture
from hat_ray.space.dimensions import BY_NAME

COLUMNS = (
    *("dimension", "from – to", "latency\nms", "latency\nratio", "FLOPs\nratio"),
    *("encoder\nms more", "decoder\nms more"),
)
MATTERS = 0.05
"""A dimension is named when it changes latency by this share at least, and by more than the error."""
_NAMED = 3  # dimensions in a sentence
_UNCERTAIN = 0.05  # relative error of a median from which on readers are warned
_MISLED = 1.1  # FLOPs and latency whose ratios differ by less do not contradict one another


def name_of(dimension: str) -> str:
    """Return a dimension's name for readers."""
    return BY_NAME[dimension].title if dimension in BY_NAME else dimension


def times(ratio: float) -> str:
    """Return a ratio as readers like it: ×1.05, ×2.4, ×12."""
    return f"×{fixed(ratio, 2 if ratio < 2 else 1)}" if ratio < 10 else f"×{significant(ratio)}"


@dataclass(frozen=True)
class DeviceSweep:
    """What a sweep found on one device."""

    title: str
    base: str
    sentence: str
    table: Table


@dataclass(frozen=True)
class Sweep:
    """What a sweep found: how it was made, its figure, and each device's findings."""

    space: str
    base_choice: str
    figures: tuple[Figure, ...]
    devices: tuple[DeviceSweep, ...]


def sweep(result: SweepResult | None) -> Sweep | None:
    """Return each dimension's effect on latency, if it was measured."""
    if result is None:
        return None
    devices = tuple(
        DeviceSweep(
            device.title,
            milliseconds(device.base_ms),
            sweep_sentence(result, device),
            sweep_table(result, device),
        )
        for device in result.devices
    )
    return Sweep(result.space, result.base_choice, tuple(sweep_figures(result)), devices)


def sweep_table(result: SweepResult, device: SweptDevice) -> Table:
    """Return one row for each dimension on a device, the most influential first."""
    caption = f"Influence of each dimension on {device.title}"
    return Table(caption, COLUMNS, [_row(one) for one in result.on(device.slug)])


def sweep_tables(result: SweepResult) -> list[TerminalTable]:
    """Return one table a device for the terminal, under its sentence."""
    return [
        sweep_table(result, device).terminal(f"{device.title}\n{sweep_sentence(result, device)}")
        for device in result.devices
    ]


def sweep_sentence(result: SweepResult, device: SweptDevice) -> str:
    """Return which dimensions matter on a device, which do not, and where FLOPs mislead."""
    sweeps = result.on(device.slug)
    strong = [one for one in sweeps if _matters(one.effect)][:_NAMED]
    others = [one for one in sweeps if one not in strong]
    if not strong:
        found = f"No dimension changes latency by more than {_most(others)} %: too little to distinguish from noise."
        return f"{found}{_caution(sweeps)}"
    named = "; ".join(_named(one) for one in strong)
    rest = f". {_rest(others)}" if others else "."
    return f"{_capital(named)}{rest}{_misled(sweeps)}{_caution(sweeps)}"


def _matters(effect: Effect) -> bool:
    return effect.is_sure and effect_size(effect) > math.log(1 + MATTERS)


def _named(one: TimedSweep) -> str:
    first, last = one.points[0], one.points[-1]
    return f"{name_of(one.dimension)} {first.choice} to {last.choice}: {times(one.effect.ratio)}"


def _rest(others: list[TimedSweep]) -> str:
    if len(others) == 1:
        return f"{_capital(name_of(others[0].dimension))} changes it by {_most(others)} %."
    return f"The other {len(others)} dimensions change it by {_most(others)} % at most."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _most(sweeps: list[TimedSweep]) -> str:
    """Return the largest change of latency among dimensions, in per cent."""
    return significant(max(100 * (math.exp(effect_size(one.effect)) - 1) for one in sweeps), 2)


def _caution(sweeps: list[TimedSweep]) -> str:
    """Warn of a device that was too busy to be timed well."""
    worst = max((point.relative_error or 0.0 for one in sweeps for point in one.points), default=0.0)
    if worst <= _UNCERTAIN:
        return ""
    return f" Caution: the device was not quiet, medians here have errors of up to {significant(100 * worst, 2)} %."


def base_text(base: Architecture) -> str:
    """Return an architecture whose layers are all alike in few words."""
    e, d = base.encoder, base.decoder
    own = "SSRU" if base.cells[0] == "ssru" else f"{d.self_heads[0]} self"
    return (
        f"encoder {e.embed_dim}×{e.depth}, FFN {e.ffn_dims[0]}, {e.heads[0]} heads; decoder {d.embed_dim}×{d.depth}, "
        f"FFN {d.ffn_dims[0]}, {own} and {d.cross_heads[0]} cross heads, "
        f"{d.cross_layers[0]} layers attended"
    )


def _misled(sweeps: list[TimedSweep]) -> str:
    """Name the dimension whose FLOPs mislead most about its latency."""
    worst = max(sweeps, key=lambda one: abs(math.log(one.effect.flops_ratio / one.effect.ratio)))
    flops, latency = worst.effect.flops_ratio, worst.effect.ratio
    if worst.effect.low / _MISLED <= flops <= worst.effect.high * _MISLED:
        return ""
    return f" FLOPs mislead most on {name_of(worst.dimension)}: {times(flops)} the FLOPs, {times(latency)} the latency."


def _row(one: TimedSweep) -> tuple[str, ...]:
    first, last, found = one.points[0], one.points[-1], one.effect
    return (
        name_of(one.dimension),
        f"{first.choice} – {last.choice}",
        f"{significant(first.ms)} – {significant(last.ms)}",
        f"{times(found.ratio)}\n[{fixed(found.low, 2)}, {fixed(found.high, 2)}]",
        times(found.flops_ratio),
        signed(found.encoder_ms, 2),
        signed(found.decoder_ms, 2),
    )


def point_text(dimension: str, point: TimedPoint, base_ms: float) -> str:
    """Return a point as a few short lines for a hover label."""
    spread = f" ({significant(point.p10_ms)} – {significant(point.p90_ms)})" if point.p10_ms is not None else ""
    parts = f"encoder {milliseconds(point.encoder_ms)} · decoder {milliseconds(point.decoder_ms)}"
    return (
        f"{name_of(dimension)} {point.choice}\n"
        f"{milliseconds(point.ms)}{spread}, {times(point.ms / base_ms)} the base"
        f"{'' if point.encoder_ms is None else chr(10) + parts}"
    )


def sweep_figures(result: SweepResult | None) -> list[Figure]:
    """Draw a sweep, if there was one."""
    if result is None:
        return []
    dimensions = result.by_effect()
    devices = f"on {result.devices[0].title}" if len(result.devices) == 1 else f"on {len(result.devices)} devices"
    return [
        Figure(
            id="sweep-dimensions",
            title="Latency against each dimension, relative to the base",
            caption=(
                f"Latency {devices} when one dimension changes in all layers and everything else stays as in the base, "
                "whose latency is 1 (dotted line, larger mark). Bars run from p10 to p90 of single translations. The "
                f"dimension that matters most comes first. The base: {base_text(result.base)}."
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
    colour = series_colour(i)
    heights = [one.ms / device.base_ms for one in sweep.points]
    sizes = [10 if one.ms == device.base_ms else 6 for one in sweep.points]
    marker: Trace = {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": sizes, "color": colour, "opacity": 1}
    return points(
        device.title,
        _across(sweep),
        heights,
        [point_text(sweep.dimension, one, device.base_ms) for one in sweep.points],
        marker,
        mode="lines+markers",
        line={"color": colour, "dash": DASHES[i % len(DASHES)], "width": 2},
        error_y=_spread(device, sweep),
        legendgroup=device.slug,
        showlegend=place == 0,
        **axes_of(place),
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
        end = suffix(place)
        swept = [one for one in result.sweeps if one.dimension == dimension]
        across, up = grid.across(place), grid.up(place)
        axes[f"xaxis{end}"] = _choices(swept, across, f"y{end}")
        axes[f"yaxis{end}"] = _latencies(result, up, f"x{end}", place, columns)
        shapes.append({**_reference(), "xref": f"x{end} domain", "yref": f"y{end}"})
        ratio = "" if many or columns == NARROW else f"  {times(swept[0].effect.ratio)}"
        titles.append(panel_title(f"{name_of(dimension)}{ratio}", across[0], up[1]))
    frame = layout({}, {}, showlegend=many, shapes=shapes, annotations=titles, height=grid.height)
    return {**frame, "margin": {"l": 48, "r": 12, "t": grid.top if many else 8, "b": grid.bottom}, **axes}


def _choices(swept: Sequence[TimedSweep], domain: list[float], anchor: str) -> Trace:
    choices = _across(swept[0])
    room = 0.12 * (choices[-1] - choices[0])
    return axis(
        "",
        domain=domain,
        anchor=anchor,
        tickmode="array",
        tickvals=choices,
        ticktext=_labels(choices, [str(one.choice) for one in swept[0].points]),
        tickangle=0,
        range=[choices[0] - room, choices[-1] + room],
        showgrid=False,
    )


def _across(sweep: TimedSweep) -> list[int]:
    """Return where choices stand from left to right: a number at itself, a word at its place among the words."""
    return [one.choice if isinstance(one.choice, int) else place for place, one in enumerate(sweep.points)]


def _labels(choices: Sequence[int], names: Sequence[str]) -> list[str]:
    """Name the choices; one that would run into the label before it, or into the last, stays without a name."""
    span, shown = choices[-1] - choices[0], [names[0]]
    last = choices[0]
    for choice, name in zip(choices[1:-1], names[1:-1], strict=True):
        room = 0.075 * len(name) * span
        fits = choice - last >= room and choices[-1] - choice >= room
        shown.append(name if fits else "")
        last = choice if fits else last
    return [*shown, names[-1]]


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


def _rows(result: SweepResult) -> list[tuple[SweptDevice, TimedSweep]]:
    return [(device, sweep) for device in result.devices for sweep in result.on(device.slug)]


def _data_row(device: SweptDevice, sweep: TimedSweep, one: TimedPoint) -> list[Value]:
    first: list[Value] = [device.title, name_of(sweep.dimension), one.choice, one.architecture.id]
    spread: list[Value] = [one.ms, one.p10_ms, one.p90_ms, one.encoder_ms, one.decoder_ms]
    return [*first, *spread, one.relative_error, one.flops]

"""The figures that say how it was found: search, training, and why FLOPs are not latency."""

from collections.abc import Sequence

from hat_ray.core.text import count, fixed, limit, milliseconds
from hat_ray.report.chart import Cell, Figure, Trace, axis, layout, line, points
from hat_ray.report.data import Device, LossCurve, ReportData, TimedArchitecture
from hat_ray.report.topics.flops import evidence_of, flops_sentence
from hat_ray.report.topics.frontier import describe

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "pentagon", "hexagram", "star-square")
NUM_SERIES = 5
NUM_SHADES = 6


def flops_against_latency(data: ReportData, device: Device, id: str) -> Figure | None:
    """Measured latency against FLOPs, one shape for each number of decoder layers."""
    rows = [row for row in data.timed if row.device == device.slug]
    if not rows:
        return None
    traces = []
    for i, depth in enumerate(sorted({row.architecture.decoder.depth for row in rows})):
        group = [row for row in rows if row.architecture.decoder.depth == depth]
        marker: Trace = {
            "symbol": SYMBOLS[i % len(SYMBOLS)],
            "size": 7,
            "color": f"@shade-{min(i, NUM_SHADES - 1) + 1}",
        }
        hover = [f"{milliseconds(r.measured_ms)} · {count(r.flops)}FLOPs\n{describe(r.architecture)}" for r in group]
        name = f"{depth} decoder layer{'s' if depth > 1 else ''}"
        traces.append(points(name, [r.flops for r in group], [r.measured_ms for r in group], hover, marker))
    return Figure(
        id=id,
        title="FLOPs are not latency",
        caption=flops_sentence(rows),
        traces=[*traces, *_twins(rows)],
        layout=layout(axis("FLOPs a sentence", tickformat=".2~s"), axis("Measured latency, ms", rangemode="tozero")),
        columns=("architecture", "id", "FLOPs", "parameters", "measured ms"),
        rows=[(str(r.architecture), r.architecture.id, r.flops, r.params, r.measured_ms) for r in rows],
    )


def _twins(rows: Sequence[TimedArchitecture]) -> list[Trace]:
    """Ring the two architectures whose FLOPs are alike and whose latencies differ most."""
    found = evidence_of(rows)
    if found is None or found.twins is None:
        return []
    pair = [rows[found.twins.fast], rows[found.twins.slow]]
    ring: Trace = {"symbol": "circle-open", "size": 15, "color": "@winner", "line": {"width": 2}}
    x, y, more = [row.flops for row in pair], [row.measured_ms for row in pair], {"hoverinfo": "skip"}
    style: Trace = {"color": "@winner", "width": 1, "dash": "dot"}
    return [points("equal FLOPs", x, y, [], ring, mode="lines+markers", line=style, **more)]


def search_progress(data: ReportData, device: Device, id: str) -> Figure | None:
    """The best loss under each limit by the number of architectures scored."""
    tracks = sorted((t for t in data.searches if t.device == device.slug), key=lambda t: t.limit_ms)
    if not tracks:
        return None
    traces = []
    for i, track in enumerate(tracks):
        hover = [f"≤ {limit(track.limit_ms)}\nafter {n:,}: loss {fixed(loss, 3)}" for n, loss in track.points]
        style: Trace = {**_series(i), "shape": "hv", "width": 2}
        x, y = [n for n, _ in track.points], [loss for _, loss in track.points]
        traces.append(line(f"≤ {limit(track.limit_ms)}", x, y, hover, style))
    return Figure(
        id=id,
        title="How the search went",
        caption="The best validation loss found so far under each limit. A line still falling wants more search.",
        traces=traces,
        layout=layout(axis("Architectures scored"), axis("Best validation loss")),
        columns=("limit ms", "architectures scored", "best loss"),
        rows=[(track.limit_ms, n, loss) for track in tracks for n, loss in track.points],
    )


def training(curves: Sequence[LossCurve], title: str, caption: str, id: str) -> Figure | None:
    """Validation loss by update."""
    if not curves:
        return None
    traces = []
    for i, curve in enumerate(curves):
        hover = [f"{curve.name}\nupdate {n:,}: loss {fixed(loss, 3)}" for n, loss in curve.points]
        x, y = [n for n, _ in curve.points], [loss for _, loss in curve.points]
        marker: Trace = {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 7, "color": _series(i)["color"]}
        style: Trace = {**_series(i), "width": 2}
        traces.append(points(curve.name, x, y, hover, marker, mode="lines+markers", line=style))
    rows: list[list[Cell]] = [[curve.name, n, loss] for curve in curves for n, loss in curve.points]
    return Figure(
        id=id,
        title=title,
        caption=caption,
        traces=traces,
        layout=layout(axis("Update"), axis("Validation loss, bits a token")),
        columns=("model", "update", "validation loss"),
        rows=rows,
    )


def _series(i: int) -> Trace:
    return {"color": f"@series-{i % NUM_SERIES + 1}", "dash": DASHES[i % len(DASHES)]}

"""How the search and the trainings went."""

from collections.abc import Sequence

from hat_ray.core.text import fixed
from hat_ray.report.chart import (
    DASHES,
    SYMBOLS,
    Figure,
    FigureGroup,
    Trace,
    Value,
    axis,
    layout,
    line,
    points,
    series_colour,
)
from hat_ray.report.data import Device, LossCurve, ReportData
from hat_ray.report.topics.frontier import device_group


def training_figures(data: ReportData) -> tuple[Figure, ...]:
    """Draw the training of the SuperTransformer and of the models that were built."""
    supernet = training(
        data.supernet,
        "Training the SuperTransformer",
        "Validation loss of SubTransformers that share its weights.",
        "supernet",
    )
    retraining = training(
        data.retraining,
        "Training from scratch",
        "Validation loss of the models that were built, at equal numbers of updates.",
        "retraining",
    )
    return tuple(one for one in (supernet, retraining) if one)


def progress(data: ReportData) -> tuple[FigureGroup, ...]:
    """Return the progress of the search on each device, and of the trainings, which belong to none."""
    groups = [
        device_group(data, device, [search_progress(data, device, f"search-{i}")])
        for i, device in enumerate(data.devices)
    ]
    groups.append(FigureGroup(None, training_figures(data)))
    return tuple(group for group in groups if group.figures)


def search_progress(data: ReportData, device: Device, id: str) -> Figure | None:
    """The best loss under each limit by the number of architectures scored."""
    tracks = sorted((t for t in data.searches if t.limit.device == device.slug), key=lambda t: (t.limit.ms, t.limit))
    if not tracks:
        return None
    traces = []
    for i, track in enumerate(tracks):
        hover = [f"≤ {track.limit.text}\nafter {n:,}: loss {fixed(loss, 3)}" for n, loss in track.points]
        style: Trace = {**_series(i), "shape": "hv", "width": 2}
        x, y = [n for n, _ in track.points], [loss for _, loss in track.points]
        traces.append(line(f"≤ {track.limit.text}", x, y, hover, style))
    return Figure(
        id=id,
        title="How the search went",
        caption="The best validation loss found so far under each limit. A line still falling wants more search.",
        traces=traces,
        layout=layout(axis("Architectures scored"), axis("Best validation loss")),
        columns=("limit", "architectures scored", "best loss"),
        rows=[(track.limit.text, n, loss) for track in tracks for n, loss in track.points],
    )


def training(curves: Sequence[LossCurve], title: str, caption: str, id: str) -> Figure | None:
    """Validation loss by update."""
    if not curves:
        return None
    traces = []
    for i, curve in enumerate(curves):
        hover = [f"{curve.name}\nupdate {n:,}: loss {fixed(loss, 3)}" for n, loss in curve.points]
        x, y = [n for n, _ in curve.points], [loss for _, loss in curve.points]
        marker: Trace = {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 7, "color": series_colour(i)}
        style: Trace = {**_series(i), "width": 2}
        traces.append(points(curve.name, x, y, hover, marker, mode="lines+markers", line=style))
    rows: list[list[Value]] = [[curve.name, n, loss] for curve in curves for n, loss in curve.points]
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
    return {"color": series_colour(i), "dash": DASHES[i % len(DASHES)]}

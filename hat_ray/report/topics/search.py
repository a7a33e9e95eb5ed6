"""How the search went."""

from hat_ray.core.text import fixed
from hat_ray.report.chart import (
    DASHES,
    Figure,
    FigureGroup,
    Trace,
    axis,
    layout,
    line,
    series_colour,
)
from hat_ray.report.data import Device, ReportData
from hat_ray.report.topics.frontier import device_group
from hat_ray.report.topics.strips import finalist_rungs, loss_strip


def progress(data: ReportData) -> tuple[FigureGroup, ...]:
    """Return the progress of the search on each device, the losses at equal latency, and the finalists."""
    groups = []
    for i, device in enumerate(data.devices):
        drawn = (
            search_progress(data, device, f"search-{i}"),
            loss_strip(data, device, f"strip-{i}"),
            finalist_rungs(data, device, f"finalists-{i}"),
        )
        groups.append(device_group(data, device, drawn))
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


def _series(i: int) -> Trace:
    return {"color": series_colour(i), "dash": DASHES[i % len(DASHES)]}

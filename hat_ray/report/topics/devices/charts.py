"""The figure of what each device prefers: small multiples, one panel a dimension, one line a device, by the limit."""

from collections.abc import Sequence

from hat_ray.core.text import fixed, milliseconds
from hat_ray.report.chart import DASHES, SYMBOLS, Figure, Trace, Value, axis, layout, points, series_colour
from hat_ray.report.panels import NARROW, WIDE, Grid, axes_of, panel_title, suffix
from hat_ray.report.topics.devices.preferences import PREFERENCES, DevicePreference, DevicePreferences
from hat_ray.report.topics.frontier import describe
from hat_ray.report.topics.sweep import name_of
from hat_ray.search.candidates import Candidate

COLUMNS = ("device", "share of the largest's ms", "limit ms", "architecture", "id", "loss inherited", "predicted ms")


def preference_figures(found: DevicePreferences | None) -> list[Figure]:
    """Draw what differs along the limits; nothing where all best architectures are alike."""
    if found is None or not found.varying:
        return []
    names = found.varying
    alone = (
        "" if len(found.devices) > 1 else " The muted line is the mean of the scored architectures that are as fast."
    )
    return [
        Figure(
            id="preferences",
            title="The best architecture at each limit",
            caption=(
                "Across: the limit as a share of what the largest architecture takes on the same device. Up: the best "
                f"scored architecture within it, averaged over its layers.{alone} A dimension without a panel is the "
                "same everywhere."
            ),
            traces=_traces(found, names),
            layout=_panels(found, names, WIDE),
            narrow=_panels(found, names, NARROW),
            columns=(*COLUMNS, *(name_of(name) for name in found.named)),
            rows=[_row(found.named, one, share, best) for one in found.devices for share, best in _pairs(found, one)],
        )
    ]


def _pairs(found: DevicePreferences, entry: DevicePreference) -> list[tuple[float, Candidate]]:
    return list(zip(found.shares, entry.best, strict=True))


def _traces(found: DevicePreferences, names: Sequence[str]) -> list[Trace]:
    traces = [
        _line(found, entry, i, name, place) for i, entry in enumerate(found.devices) for place, name in enumerate(names)
    ]
    if len(found.devices) == 1:
        traces += [_rivals(found, name, place) for place, name in enumerate(names)]
    return traces


def _line(found: DevicePreferences, entry: DevicePreference, i: int, name: str, place: int) -> Trace:
    colour = series_colour(i)
    hover = [
        f"{entry.device.title}\nlimit {100 * share:.0f} % of the largest's: {milliseconds(share * entry.largest_ms)}\n"
        f"{name_of(name)} {value:.4g} · loss {fixed(one.loss_bits, 3)}\n{describe(one.architecture)}"
        for (share, one), value in zip(_pairs(found, entry), entry.values(name), strict=True)
    ]
    return points(
        entry.device.title,
        [100 * share for share in found.shares],
        entry.values(name),
        hover,
        {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 6, "color": colour},
        mode="lines+markers",
        line={"color": colour, "dash": DASHES[i % len(DASHES)], "width": 1.5},
        legendgroup=str(i),
        showlegend=place == 0,
        **axes_of(place),
    )


def _rivals(found: DevicePreferences, name: str, place: int) -> Trace:
    values = found.devices[0].rival_values(name)
    hover = [f"as fast: mean {name_of(name)} {value:.4g}" for value in values]
    return points(
        "others as fast",
        [100 * share for share in found.shares],
        values,
        hover,
        {"size": 4, "color": "@muted"},
        mode="lines",
        line={"color": "@muted", "dash": "dot", "width": 1.5},
        legendgroup="others",
        showlegend=place == 0,
        **axes_of(place),
    )


def _panels(found: DevicePreferences, names: Sequence[str], columns: int) -> Trace:
    """Lay out a panel for each dimension, all with the same limits across."""
    grid = Grid(len(names), columns)
    axes: Trace = {}
    titles = []
    for place, name in enumerate(names):
        across, up, end = grid.across(place), grid.up(place), suffix(place)
        room = 0.034 if columns == WIDE else 0.09  # each panel has a scale of its own: its figures need a place
        inner = [across[0] + (room if place % columns else 0.0), across[1]]
        axes[f"xaxis{end}"] = axis("", domain=inner, anchor=f"y{end}", range=[0, 100], ticksuffix=" %", nticks=4)
        axes[f"yaxis{end}"] = axis("", domain=up, anchor=f"x{end}", range=_reach(found, name), nticks=4)
        titles.append(panel_title(name_of(name), inner[0], up[1]))
    frame = layout({}, {}, annotations=titles, height=grid.height)
    return {**frame, "margin": {"l": 48, "r": 16, "t": grid.top, "b": grid.bottom}, **axes}


def _reach(found: DevicePreferences, name: str) -> list[float]:
    """Return a scale from nothing up, so that a small difference looks small."""
    return [0, 1.12 * max(found.shown(name))]


def _row(named: Sequence[str], entry: DevicePreference, share: float, best: Candidate) -> list[Value]:
    architecture, slug = best.architecture, entry.device.slug
    first: list[Value] = [
        entry.device.title,
        share,
        share * entry.largest_ms,
        str(architecture),
        architecture.id,
    ]
    return [*first, best.loss_bits, best.latency_ms[slug], *(PREFERENCES[name](architecture) for name in named)]

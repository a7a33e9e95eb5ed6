"""What a device likes, in plain words that follow from the figures, also where devices do not differ.

The figure of what each device likes: small multiples, one panel a dimension, one line a device, by the limit.
"""

from collections.abc import Mapping, Sequence

from hat_ray.core.text import UNKNOWN, fixed, limit, milliseconds, significant
from hat_ray.report.chart import Cell, Figure, Trace, axis, layout, points
from hat_ray.report.data import Candidate, RuntimeContest
from hat_ray.report.topics.device_preferences import (
    AS_FAST,
    PREFERENCES,
    TELLING,
    Difference,
    Liked,
    Likes,
    differences,
)
from hat_ray.report.topics.frontier import describe
from hat_ray.report.topics.search import DASHES, NUM_SERIES, SYMBOLS
from hat_ray.report.topics.sweep import NARROW, WIDE, Grid, name_of
from hat_ray.space.architecture import Architecture

MOST_NAMED = 4
FEW = 100
"""Scored architectures below which chance is warned of."""


def rule_words(found: Likes) -> str:
    """Say by which rule devices are compared."""
    first, last = _percent(found.shares[0]), _percent(found.shares[-1])
    at = f"at {len(found.shares)} limits from {first} to {last}" if len(found.shares) > 1 else f"at a limit of {first}"
    return (
        "Milliseconds are not the same demand on a fast and on a slow device. So each device's limit is a share of "
        f"what the largest architecture takes on it, {at}, and the best scored architecture within it is read off: the "
        "one with the least validation loss, by predicted latency."
    )


def likes_sentence(found: Likes, liked: Liked, scored: int) -> str:
    """Say how the best architectures of a device differ from those of the other devices, or from others as fast."""
    told = differences(found, liked)[:MOST_NAMED]
    many = len(found.devices) > 1
    against = (
        f"Compared with the other device{'s' if len(found.devices) > 2 else ''} at the same limits"
        if many
        else f"Compared with the scored architectures that are as fast within {100 * AS_FAST:.0f} %"
    )
    if not told:
        text = f"{against}, its best architectures differ in nothing steadily and by more than {100 * TELLING:.0f} %."
        return f"{text} {_nothing(many)}{_caution(liked, scored)}"
    return f"{against}, its best architectures have {_listed([_told(one) for one in told])}.{_caution(liked, scored)}"


def _nothing(many: bool) -> str:
    if many:
        return "By these figures one architecture serves this device as well as the others."
    return "By these figures the device has no taste of its own: only how fast an architecture is tells."


def _told(one: Difference) -> str:
    more, name = one.mine > one.theirs, name_of(one.dimension)
    if one.dimension == "decoder_cross_layers":
        name = "encoder layers attended"
    figures = f"({_number(one.mine)} against {_number(one.theirs)})"
    if one.dimension.endswith("_dims"):
        kind = "a " if "embed" in one.dimension else ""
        side = name.removesuffix(" width")
        return f"{kind}{'wider' if more else 'narrower'} {side} {figures}"
    return f"{'more' if more else 'fewer'} {name} {figures}"


def _number(value: float) -> str:
    return fixed(value, 1) if value < 20 else fixed(value, 0)


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _caution(liked: Liked, scored: int) -> str:
    different = len({one.architecture for one in liked.best})
    limits = len(liked.best)
    text = f" ({different} architecture{'s are' if different != 1 else ' is'} the best at {limits} limits.)"
    return f"{text} Only {scored} architectures were scored: chance has a say." if scored < FEW else text


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


DRAWN_COLUMNS = (
    *("Device", "Limit", "Predicted", "Loss", "Encoder", "FFN by layer", "Heads by layer"),
    *("Decoder", "FFN by layer", "Self heads", "Cross heads", "Attended"),
)


def drawn_row(found: Likes, liked: Liked) -> list[str]:
    """Return what is drawn of a device as cells of a table."""
    one = liked.best[found.drawn]
    e, d = one.architecture.encoder, one.architecture.decoder
    return [
        liked.device.title,
        limit_words(found, liked),
        milliseconds(one.predicted_ms[liked.device.slug]),
        fixed(one.loss, 3),
        f"{e.depth} × {e.embed_dim}",
        _layers(e.ffn_dims),
        _layers(e.heads),
        f"{d.depth} × {d.embed_dim}",
        _layers(d.ffn_dims),
        _layers(d.self_heads),
        _layers(d.cross_heads),
        _layers(d.cross_layers),
    ]


def limit_words(found: Likes, liked: Liked) -> str:
    """Return the limit of what is drawn, in milliseconds."""
    return milliseconds(found.shares[found.drawn] * liked.largest_ms)


def shape_words(architecture: Architecture) -> str:
    """Return an architecture's proportions in a few words."""
    e, d = architecture.encoder, architecture.decoder
    return f"{e.depth} × {e.embed_dim} encoder, {d.depth} × {d.embed_dim} decoder"


def mean_table(found: Likes) -> tuple[list[str], list[list[str]]]:
    """Return the mean of each dimension over all limits: a row a device; with one, also what it is held against."""
    names = found.varying
    rows = [[one.device.title, *(_number(one.mean(name)) for name in names)] for one in found.devices]
    if len(found.devices) == 1:
        values = (found.others(found.devices[0], name) for name in names)
        rows.append(["Others as fast", *(_number(sum(column) / len(column)) for column in values)])
    return ["Mean over all limits", *(name_of(name) for name in names)], rows


def _layers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def contest_sentence(contest: RuntimeContest, bleu: Mapping[tuple[str, str], float | None]) -> str:
    """Say which runtime wins a limit; `bleu` by device and architecture id, of the models that were built."""
    best, *others = contest.entries
    text = (
        f"Under {limit(contest.limit_ms)} on {contest.hardware}: {best.settings} wins with loss {fixed(best.loss, 3)}"
    )
    if others:
        text += f", against {_listed([f'{fixed(one.loss, 3)} of {one.settings}' for one in others])}"
    if contest.without:
        text += f"; {_listed(contest.without)} {'has' if len(contest.without) == 1 else 'have'} nothing as fast"
    return f"{text}.{_after_training(contest, bleu)}"


def _after_training(contest: RuntimeContest, bleu: Mapping[tuple[str, str], float | None]) -> str:
    """Own up to it where training from scratch put another runtime ahead."""
    scores = [(bleu.get((one.device, one.architecture_id)), one) for one in contest.entries]
    known = [(score, one) for score, one in scores if score is not None]
    if len(known) < 2 or known[0][1] is not contest.entries[0]:
        return ""
    score, ahead = max(known, key=lambda pair: pair[0])
    if score <= known[0][0]:
        return ""
    return f" Trained from scratch, {ahead.settings} is ahead: {fixed(score, 1)} BLEU against {fixed(known[0][0], 1)}."


CONTEST_COLUMNS = ("Limit", "Runtime", "Loss", "Predicted", "Measured", "BLEU from scratch", "Architecture")


def contest_rows(contest: RuntimeContest, bleu: Mapping[tuple[str, str], float | None]) -> list[list[str]]:
    """Return a contest as rows; `bleu` by device and architecture id, of the models that were built."""
    rows = []
    for place, one in enumerate(contest.entries):
        built = bleu.get((one.device, one.architecture_id))
        name = f"{one.settings} ★" if place == 0 else one.settings
        shown = [fixed(one.loss, 3), milliseconds(one.predicted_ms), milliseconds(one.measured_ms)]
        score = fixed(built, 1) if built is not None else UNKNOWN
        rows.append([f"≤ {significant(contest.limit_ms)} ms", name, *shown, score, one.architecture_id])
    return rows


COLUMNS = ("device", "share of the largest's ms", "limit ms", "architecture", "id", "loss inherited", "predicted ms")


def likes_figures(found: Likes | None) -> list[Figure]:
    """Draw what differs along the limits; nothing where all best architectures are alike."""
    if found is None or not found.varying:
        return []
    names = found.varying
    alone = (
        "" if len(found.devices) > 1 else " The muted line is the mean of the scored architectures that are as fast."
    )
    return [
        Figure(
            id="likes",
            title="The best architecture at each limit",
            caption=(
                "Across: the limit as a share of what the largest architecture takes on the same device. Up: the best "
                f"scored architecture within it, averaged over its layers.{alone} A dimension without a panel is the "
                "same everywhere."
            ),
            traces=_traces(found, names),
            layout=_panels(found, names, WIDE),
            narrow=_panels(found, names, NARROW),
            columns=(*COLUMNS, *(name_of(name) for name in PREFERENCES)),
            rows=[_row(one, share, best) for one in found.devices for share, best in _pairs(found, one)],
        )
    ]


def _pairs(found: Likes, liked: Liked) -> list[tuple[float, Candidate]]:
    return list(zip(found.shares, liked.best, strict=True))


def _traces(found: Likes, names: Sequence[str]) -> list[Trace]:
    traces = [
        _line(found, liked, i, name, place) for i, liked in enumerate(found.devices) for place, name in enumerate(names)
    ]
    if len(found.devices) == 1:
        traces += [_rivals(found, name, place) for place, name in enumerate(names)]
    return traces


def _line(found: Likes, liked: Liked, i: int, name: str, place: int) -> Trace:
    colour = f"@series-{i % NUM_SERIES + 1}"
    hover = [
        f"{liked.device.title}\nlimit {100 * share:.0f} % of the largest's: {milliseconds(share * liked.largest_ms)}\n"
        f"{name_of(name)} {value:.4g} · loss {fixed(one.loss, 3)}\n{describe(one.architecture)}"
        for (share, one), value in zip(_pairs(found, liked), liked.values(name), strict=True)
    ]
    return points(
        liked.device.title,
        [100 * share for share in found.shares],
        liked.values(name),
        hover,
        {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 6, "color": colour},
        mode="lines+markers",
        line={"color": colour, "dash": DASHES[i % len(DASHES)], "width": 1.5},
        legendgroup=str(i),
        showlegend=place == 0,
        **_axes(place),
    )


def _rivals(found: Likes, name: str, place: int) -> Trace:
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
        **_axes(place),
    )


def _panels(found: Likes, names: Sequence[str], columns: int) -> Trace:
    """Lay out a panel for each dimension, all with the same limits across."""
    grid = Grid(len(names), columns)
    axes: Trace = {}
    titles = []
    for place, name in enumerate(names):
        suffix = "" if place == 0 else str(place + 1)
        across, up = grid.across(place), grid.up(place)
        room = 0.034 if columns == WIDE else 0.09  # each panel has a scale of its own: its figures need a place
        inner = [across[0] + (room if place % columns else 0.0), across[1]]
        axes[f"xaxis{suffix}"] = axis("", domain=inner, anchor=f"y{suffix}", range=[0, 100], ticksuffix=" %", nticks=4)
        axes[f"yaxis{suffix}"] = axis("", domain=up, anchor=f"x{suffix}", range=_reach(found, name), nticks=4)
        titles.append(_title(name_of(name), inner[0], up[1]))
    frame = layout({}, {}, annotations=titles, height=grid.height)
    return {**frame, "margin": {"l": 48, "r": 16, "t": grid.top, "b": grid.bottom}, **axes}


def _reach(found: Likes, name: str) -> list[float]:
    """Return a scale from nothing up, so that a small difference looks small."""
    return [0, 1.12 * max(found.shown(name))]


def _title(text: str, x: float, y: float) -> Trace:
    place: Trace = {"x": x, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    return {**place, "text": text, "showarrow": False, "font": {"size": 12.5, "color": "@ink"}}


def _axes(place: int) -> dict[str, str]:
    return {"xaxis": "x", "yaxis": "y"} if place == 0 else {"xaxis": f"x{place + 1}", "yaxis": f"y{place + 1}"}


def _row(liked: Liked, share: float, best: Candidate) -> list[Cell]:
    architecture, slug = best.architecture, liked.device.slug
    first: list[Cell] = [liked.device.title, share, share * liked.largest_ms, str(architecture), architecture.id]
    return [*first, best.loss, best.predicted_ms[slug], *(of(architecture) for of in PREFERENCES.values())]

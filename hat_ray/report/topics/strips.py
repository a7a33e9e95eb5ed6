"""How much shapes matter at equal latency: inherited losses in bins of latency, and the finalists of each limit."""

import math
from collections.abc import Sequence
from statistics import median, pstdev

import numpy as np

from hat_ray.core.text import fixed, milliseconds
from hat_ray.report.chart import (
    DASHES,
    MARKERS,
    Figure,
    Trace,
    Value,
    axis,
    layout,
    points,
    series_colour,
)
from hat_ray.report.data import Device, ReportData
from hat_ray.report.topics.frontier import describe
from hat_ray.search.candidates import Candidate
from hat_ray.space.architecture import Architecture

BINS = 8
"""Most bins of a strip; each holds the same number of candidates."""
_FEWEST = 8
"""Candidates of a bin, at least."""
_WIDTH = 0.7
"""Width of a bin's cloud of dots, as a share of the distance between bins."""


def loss_strip(data: ReportData, device: Device, id: str) -> Figure | None:
    """Draw the inherited losses in each bin of latency as dots, with finalists and winners marked."""
    some = [one for one in data.candidates if device.slug in one.latency_ms and math.isfinite(one.loss_bits)]
    count = min(BINS, len(some) // _FEWEST)
    if count < 2:
        return None
    order = sorted(some, key=lambda one: (one.takes_ms(device.slug), one.order))
    bins = [order[part[0] : part[-1] + 1] for part in np.array_split(np.arange(len(order)), count)]
    finalists, winners = _finalists(data, device), {model.architecture for model in data.winners(device.slug)}
    kinds = {one.architecture: _kind(one.architecture, finalists, winners) for one in some}
    placed = [(number, place, one) for number, of in enumerate(bins) for place, one in _spread(of)]
    traces = []
    for kind, marker in _MARKS.items():
        of = [(number + place, one) for number, place, one in placed if kinds[one.architecture] == kind]
        if of:
            hover = [
                f"loss {fixed(one.loss_bits, 3)} · {milliseconds(one.takes_ms(device.slug))}\n"
                f"{describe(one.architecture)}"
                for _, one in of
            ]
            traces.append(points(kind, [x for x, _ in of], [one.loss_bits for _, one in of], hover, marker))
    names = [f"{_ms(of[0], device)} to {_ms(of[-1], device)}" for of in bins]
    spreads = [pstdev([one.loss_bits for one in of]) for of in bins]
    return Figure(
        id=id,
        title="Inherited loss at equal latency",
        caption=(
            f"All candidates in {count} bins of latency with equal numbers. Inside a bin losses have a "
            f"standard deviation of {fixed(median(spreads), 3)} bits (median of the bins): the room for a search."
        ),
        traces=traces,
        layout=layout(
            axis("Latency, ms a sentence", tickvals=list(range(count)), ticktext=names),
            axis("Validation loss, bits a token"),
        ),
        columns=("bin", "latency ms", "id", "inherited loss", "what"),
        rows=[
            (names[number], one.takes_ms(device.slug), one.architecture.id, one.loss_bits, kinds[one.architecture])
            for number, _, one in placed
        ],
    )


_CANDIDATE, _FINALIST, _WINNER = "Candidates", "Finalists", "Winners"
_MARKS: dict[str, Trace] = {
    _CANDIDATE: {"symbol": "circle", "size": 5, "color": "@candidate"},
    _FINALIST: {"symbol": "diamond-open", "size": 9, "color": "@frontier"},
    _WINNER: {**MARKERS["winner"], "line": {"color": "@surface", "width": 1.5}},
}


def _finalists(data: ReportData, device: Device) -> set[Architecture]:
    if data.finals is None:
        return set()
    limits = [limit for limit in data.finals.limits if limit.device == device.slug]
    return {one.architecture for limit in limits for one in data.finals.of(limit)}


def _kind(one: Architecture, finalists: set[Architecture], winners: set[Architecture]) -> str:
    return _WINNER if one in winners else _FINALIST if one in finalists else _CANDIDATE


def _spread(of: Sequence[Candidate]) -> list[tuple[float, Candidate]]:
    """Return each candidate of a bin with its offset from the bin's middle, by latency from left to right."""
    return [(_WIDTH * ((place + 0.5) / len(of) - 0.5), one) for place, one in enumerate(of)]


def _ms(one: Candidate, device: Device) -> str:
    return f"{one.takes_ms(device.slug):.3g}"


def finalist_rungs(data: ReportData, device: Device, id: str) -> Figure | None:
    """Draw each finalist's loss by the updates that it was trained on for; inherited at 0."""
    finals = data.finals
    if finals is None or not (limits := [limit for limit in finals.limits if limit.device == device.slug]):
        return None
    steps = [0, *np.cumsum(finals.updates).tolist()]
    traces, rows = [], list[list[Value]]()
    for number, limit in enumerate(limits):
        x, y, hover = list[Value](), list[Value](), list[str]()
        for place in finals.places(limit):
            one = place.finalist
            losses = [one.inherited_loss_bits, *one.rung_losses_bits]
            moved = f"place {place.before} by inherited loss, {place.after} after training"
            text = f"≤ {limit.text}: {moved}\n{describe(one.architecture)}"
            x += [*steps[: len(losses)], None]  # None parts the lines of finalists
            y += [*losses, None]
            hover += [f"loss {fixed(loss, 3)} · {text}" for loss in losses] + [""]
            missing: list[Value] = [None] * (len(steps) - len(losses))
            rows.append([limit.text, one.architecture.id, *losses, *missing, place.before, place.after])
        style: Trace = {"color": series_colour(number), "dash": DASHES[number % len(DASHES)], "width": 2}
        marker: Trace = {"size": 6, "color": series_colour(number)}
        traces.append(points(f"≤ {limit.text}", x, y, hover, marker, mode="lines+markers", line=style))
    return Figure(
        id=id,
        title="Finalists",
        caption=(
            "The best candidates of each limit that differ, trained on from the weights that they inherit. After each "
            "rung the worse half is dropped; the lowest loss at the end wins. "
            f"{finals.updates_made:,} updates in all."
        ),
        traces=traces,
        layout=layout(axis("Updates after the search"), axis("Validation loss, bits a token")),
        columns=(
            *("limit", "id", "inherited loss"),
            *(f"loss after {step:,}" for step in steps[1:]),
            *("place before", "place after"),
        ),
        rows=rows,
    )

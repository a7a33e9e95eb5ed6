"""What is possible: the frontiers of loss, latency and every other quantity that the search knows of its candidates.

Decisions
- A frontier of two quantities alone is the smallest network. So it is drawn at several losses: the least of both that
  a candidate with at most this loss takes.
- A quantity is drawn on a device where all its candidates have it: the latency, the model size, and what limits bound.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from hat_ray.core.text import fixed, significant
from hat_ray.latency.quantities import LATENCY, MODEL_SIZE, QUANTITIES
from hat_ray.report.chart import LEGEND, MARKERS, Figure, FigureGroup, Trace, axis, layout, points, shade
from hat_ray.report.data import ChosenModel, Device, ReportData
from hat_ray.report.reading import latency_ms, measured_of, role
from hat_ray.report.topics.frontier import delivered, describe, device_group, frontier
from hat_ray.search.candidates import Candidate
from hat_ray.search.frontier import pareto_front
from hat_ray.space.architecture import Architecture

LEVELS = (0.0, 0.1, 0.5)
"""Shares of the candidates, the best first, whose losses are levels of two quantities beside those of the winners."""


def found(data: ReportData) -> tuple[FigureGroup, ...]:
    """Return the figures of each device's candidates and models."""
    groups = []
    for i, device in enumerate(data.devices):
        drawn = (frontier(data, device, f"frontier-{i}"), delivered(data, device, f"delivered-{i}"))
        groups.append(device_group(data, device, (*drawn, *fronts(data, device, f"front-{i}"))))
    return tuple(group for group in groups if group.figures)


def fronts(data: ReportData, device: Device, id: str) -> list[Figure]:
    """Return the loss against each quantity beside the latency, and every two quantities at several losses."""
    some = [one for one in data.candidates if device.slug in one.latency_ms and math.isfinite(one.loss_bits)]
    names = quantities_of(some, device.slug)
    alone = [loss_against(data, some, device, name, f"{id}-{name}") for name in names if name != LATENCY]
    return alone + [traded(data, some, device, pair, f"{id}-{'-'.join(pair)}") for pair in combinations(names, 2)]


def quantities_of(candidates: Sequence[Candidate], slug: str) -> list[str]:
    """Return the quantities that every candidate has on a device, the latency first."""
    known = [one.known(slug).keys() for one in candidates]
    return sorted(set.intersection(*map(set, known)), key=lambda name: (name != LATENCY, name)) if known else []


def loss_against(data: ReportData, candidates: Sequence[Candidate], device: Device, name: str, id: str) -> Figure:
    """Draw the loss against one quantity: every candidate, the frontier, and the models that were built."""
    slug, facts = device.slug, QUANTITIES.facts(name)
    values = [one.known(slug)[name] for one in candidates]
    best = [candidates[place] for place in pareto_front([one.loss_bits for one in candidates], values)]
    dots: Trace = {"symbol": "circle", "size": 5, "color": "@candidate"}
    marks = [(m, value_of(m, slug, name), m.inherited_loss_bits) for m in data.models_on(slug)]
    return Figure(
        id=id,
        title=f"Loss against {facts.title}",
        caption=(
            f"{len(candidates):,} architectures scored with inherited weights; of the {len(best)} on the frontier no "
            f"other is better in both loss and {facts.title}. Dotted lines are bounds of the limits."
        ),
        traces=[
            points("Candidates", values, [one.loss_bits for one in candidates], [], dots, hoverinfo="skip"),
            _staircase("Frontier", best, (name, None), slug, "@frontier"),
            *_models(marks, (name, None), slug),
        ],
        layout=layout(axis(_axis(name)), axis("Validation loss, bits a token"), shapes=_bounds(data, slug, "x", name)),
        columns=("architecture", "id", "loss inherited", name),
        rows=[(str(one.architecture), one.architecture.id, one.loss_bits, one.known(slug)[name]) for one in best],
    )


def traded(data: ReportData, candidates: Sequence[Candidate], device: Device, pair: tuple[str, str], id: str) -> Figure:
    """Draw the frontier of two quantities at several losses, and the models that were built."""
    slug, (x, y) = device.slug, pair
    reached = levels(candidates, {m.architecture: m.limit.text for m in data.winners(slug) if m.limit})
    lines = [(level, name, cheapest(candidates, slug, pair, level)) for level, name in reached]
    marks = [(m, value_of(m, slug, x), value_of(m, slug, y)) for m in data.models_on(slug)]
    titles = [QUANTITIES.facts(name).title for name in pair]
    return Figure(
        id=id,
        title=f"{titles[1][0].upper()}{titles[1][1:]} against {titles[0]}",
        caption=(
            f"Each line is the frontier of {titles[0]} and {titles[1]} among the candidates with at most this "
            "inherited loss: none of them takes less of both. The losses are those of the chosen models, the best one, "
            f"and those that {' and '.join(f'{100 * share:.0f}' for share in LEVELS[1:])} % of the candidates do not "
            "exceed. Larger marks are the models that were built; dotted lines are bounds of the limits."
        ),
        traces=[
            *(
                _staircase(name, front, pair, slug, shade(len(lines) - 1 - number))
                for number, (_, name, front) in enumerate(lines)
            ),
            *_models(marks, pair, slug),
        ],
        layout=layout(axis(_axis(x)), axis(_axis(y)), shapes=_bounds(data, slug, "x", x) + _bounds(data, slug, "y", y)),
        columns=("loss at most", "architecture", "id", "loss inherited", x, y),
        rows=[
            (level, str(one.architecture), one.architecture.id, one.loss_bits, *(one.known(slug)[n] for n in pair))
            for level, _, front in lines
            for one in front
        ],
    )


def levels(candidates: Sequence[Candidate], chosen: Mapping[Architecture, str]) -> list[tuple[float, str]]:
    """Return the losses of what was chosen, with its limit, and those that shares of the candidates do not exceed.

    Each stands once with its name, the least first.
    """
    losses = sorted(one.loss_bits for one in candidates)
    found = {
        one.loss_bits: f", as chosen for ≤ {chosen[one.architecture]}"
        for one in candidates
        if one.architecture in chosen
    }
    of_shares = dict.fromkeys((losses[math.ceil(share * len(losses)) - 1 if share else 0] for share in LEVELS), "")
    return [(level, f"loss ≤ {fixed(level, 3)}{text}") for level, text in sorted({**of_shares, **found}.items())]


def cheapest(candidates: Sequence[Candidate], slug: str, pair: tuple[str, str], level: float) -> list[Candidate]:
    """Return the frontier of two quantities among the candidates with at most a loss, by the first one from below."""
    good = [one for one in candidates if one.loss_bits <= level]
    first, second = ([one.known(slug)[name] for one in good] for name in pair)
    return [good[place] for place in pareto_front(second, first)]


def value_of(model: ChosenModel, slug: str, name: str) -> float | None:
    """Return a quantity of a model on a device: as measured, or else as predicted; None where it is not known."""
    if name == LATENCY:
        return latency_ms(model, slug)
    if name == MODEL_SIZE and slug in model.size_mb:
        return model.size_mb[slug]
    if model.device != slug:
        return None  # its quantities are of the device of its limit
    measured, predicted = measured_of(model, slug).get(name), model.quantities.get(name)
    return measured.value if measured is not None else predicted.predicted if predicted is not None else None


def _staircase(text: str, front: Sequence[Candidate], names: tuple[str, str | None], slug: str, colour: str) -> Trace:
    """Draw candidates in the order of the first quantity; the second one None: the loss."""
    x, y = ([one.loss_bits if name is None else one.known(slug)[name] for one in front] for name in names)
    hover = [
        f"loss {fixed(one.loss_bits, 3)} · {_values_words(names, values)}\n{describe(one.architecture)}"
        for one, *values in zip(front, x, y, strict=True)
    ]
    style: Trace = {"color": colour, "width": 2, "shape": "hv"}
    return points(text, x, y, hover, {"symbol": "circle", "size": 6, "color": colour}, mode="lines+markers", line=style)


def _models(
    marks: Sequence[tuple[ChosenModel, float | None, float | None]], names: tuple[str, str | None], slug: str
) -> list[Trace]:
    """One trace a kind of model, of those whose both values are known."""
    traces = []
    for kind in MARKERS:
        known = [(m, x, y) for m, x, y in marks if m.kind == kind and x is not None and y is not None]
        if known:
            hover = [
                f"{role(m)}\nloss inherited {fixed(m.inherited_loss_bits, 3)} · {_values_words(names, [x, y])}\n"
                f"{describe(m.architecture)}"
                for m, x, y in known
            ]
            marker = {**MARKERS[kind], "line": {"color": "@surface", "width": 1.5}}
            traces.append(points(LEGEND[kind], [x for _, x, _ in known], [y for _, _, y in known], hover, marker))
    return traces


def _values_words(names: tuple[str, str | None], values: Sequence[float | None]) -> str:
    named = [(QUANTITIES.facts(name), value) for name, value in zip(names, values, strict=True) if name is not None]
    return " · ".join(f"{facts.title} {significant(value)} {facts.unit}" for facts, value in named)


def _axis(name: str) -> str:
    facts = QUANTITIES.facts(name)
    return f"{facts.title[0].upper()}{facts.title[1:]}, {facts.unit}"


def _bounds(data: ReportData, slug: str, side: str, name: str) -> list[Trace]:
    """Draw each bound of a quantity, of the limits of the device's winners, as a line across the figure."""
    limits = [model.limit for model in data.winners(slug) if model.limit is not None]
    other = "y" if side == "x" else "x"
    return [
        {
            "type": "line",
            "layer": "below",
            "line": {"color": "@muted", "width": 1, "dash": "dot"},
            **{f"{side}0": most, f"{side}1": most, f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"},
        }
        for most in sorted({limit.by_quantity[name] for limit in limits if name in limit.by_quantity})
    ]

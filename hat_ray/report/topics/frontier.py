"""Loss against latency of all candidates, and BLEU against latency of the models."""

from collections.abc import Sequence

from hat_ray.core.text import UNKNOWN, count, fixed, milliseconds
from hat_ray.latency.quantities import LATENCY
from hat_ray.report.chart import LEGEND, MARKERS, Figure, FigureGroup, Trace, Value, axis, layout, points
from hat_ray.report.data import ChosenModel, Device, ReportData, start_words
from hat_ray.report.gains import score_text
from hat_ray.report.reading import latency_ms, role
from hat_ray.search.candidates import Candidate
from hat_ray.search.limits import Limit
from hat_ray.space.architecture import Architecture

COLUMNS = ("what", "architecture", "id", "loss inherited", "predicted ms", "measured ms", "BLEU", "on frontier")


def describe(architecture: Architecture) -> str:
    """Return an architecture as a few short lines for a hover label."""
    return f"{architecture.id}\n" + "\n".join(str(architecture).split(" | ")[:2])


def device_group(data: ReportData, device: Device, drawn: Sequence[Figure | None]) -> FigureGroup:
    """Return a device's figures, under its title where there are several devices."""
    title = device.title if len(data.devices) > 1 else None
    return FigureGroup(title, tuple(one for one in drawn if one is not None))


def frontier(data: ReportData, device: Device, id: str) -> Figure | None:
    """Loss against latency: every candidate, the frontier, the limits, and the models that were built."""
    candidates = [c for c in data.candidates if device.slug in c.latency_ms]
    models = [m for m in data.models_on(device.slug) if m.inherited_loss_bits is not None]
    if not candidates:
        return None
    best = data.frontier(device.slug)
    on = {c.architecture for c in best}
    others = [c for c in candidates if c.architecture not in on]
    traces = [
        _candidates("Candidates", others, device.slug, {"symbol": "circle", "size": 5, "color": "@candidate"}),
        _candidates(
            "Frontier",
            best,
            device.slug,
            {"symbol": "circle", "size": 6, "color": "@frontier"},
            mode="lines+markers",
            line={"color": "@frontier", "width": 2, "shape": "hv"},
        ),
        *_models(models, device.slug, [m.inherited_loss_bits for m in models]),
    ]
    limits = sorted(
        {m.limit for m in models if m.kind == "winner" and m.limit and LATENCY in m.limit.by_quantity},
        key=lambda limit: limit.order,
    )
    return Figure(
        id=id,
        title="Loss against latency",
        caption=(
            f"{len(candidates):,} architectures scored with inherited weights, at their predicted latency, or "
            f"the measured one where the search timed them; {len(best)} of them are the frontier: nothing is both "
            "faster and better. "
            "Larger marks are the models that were built, at their measured latency."
        ),
        traces=traces,
        layout=layout(axis("Latency, ms a sentence"), axis("Validation loss, bits a token"), **_limit_lines(limits)),
        columns=COLUMNS,
        rows=[_candidate_row(c, device.slug, "yes" if c.architecture in on else "no") for c in candidates]
        + [_model_row(m, device.slug) for m in models],
    )


def delivered(data: ReportData, device: Device, id: str) -> Figure | None:
    """BLEU against measured latency of the retrained models, with the floor that needs no model."""
    models = [m for m in data.models_on(device.slug) if m.bleu is not None and latency_ms(m, device.slug) is not None]
    if not models:
        return None
    floor = max((f for f in (data.corpus.copy_bleu, data.corpus.nearest_bleu) if f is not None), default=None)
    more: Trace = {}
    caption = f"The models after training {data.begun}, all with the same number of updates. Bars run from p10 to p90."
    if any(model.bleu_spread is not None for model in models):
        caption += " Upright bars are one standard deviation over seeds."
    if floor is not None:
        more = _horizontal(floor, f"floor {fixed(floor, 1)}")
        caption += " The dotted line is the best score that needs no model."
    return Figure(
        id=id,
        title="BLEU against measured latency",
        caption=caption,
        traces=_models(models, device.slug, [m.bleu for m in models], spread=True),
        layout=layout(axis("Measured latency, ms a sentence", rangemode="tozero"), axis("BLEU"), **more),
        columns=COLUMNS,
        rows=[_model_row(model, device.slug) for model in models],
    )


def _candidates(name: str, chosen: Sequence[Candidate], slug: str, marker: Trace, **more: object) -> Trace:
    hover = [f"loss {fixed(c.loss_bits, 3)} · {candidate_times(c, slug)}\n{describe(c.architecture)}" for c in chosen]
    return points(name, [c.takes_ms(slug) for c in chosen], [c.loss_bits for c in chosen], hover, marker, **more)


def _models(
    models: Sequence[ChosenModel], slug: str, heights: Sequence[float | None], spread: bool = False
) -> list[Trace]:
    """One trace a kind, so that the legend explains the shapes; the small marks lie on the large ones."""
    traces = []
    for kind in MARKERS:
        pairs = [(m, y) for m, y in zip(models, heights, strict=True) if m.kind == kind]
        if pairs:
            of_kind = [m for m, _ in pairs]
            more: Trace = {"error_x": _spread(of_kind, slug), **_spread_over_seeds(of_kind)} if spread else {}
            x = [latency_ms(m, slug) for m, _ in pairs]
            hover = [_model_hover(m, slug) for m, _ in pairs]
            marker = {**MARKERS[kind], "line": {"color": "@surface", "width": 1.5}}
            traces.append(points(LEGEND[kind], x, [y for _, y in pairs], hover, marker, **more))
    return traces


def _spread(models: Sequence[ChosenModel], slug: str) -> Trace:
    up, down = [], []
    for model in models:
        latency = model.latency.get(slug)
        middle = latency.measured_ms if latency else None
        known = latency is not None and middle is not None
        up.append(latency.p90_ms - middle if known and latency and middle and latency.p90_ms else 0.0)
        down.append(middle - latency.p10_ms if known and latency and middle and latency.p10_ms else 0.0)
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "color": "@muted", "thickness": 1.5}


def _spread_over_seeds(models: Sequence[ChosenModel]) -> Trace:
    """Return bars of one standard deviation over seeds; none where each model was trained once."""
    if all(model.bleu_spread is None for model in models):
        return {}
    spreads = [model.bleu_spread or 0.0 for model in models]
    return {"error_y": {"type": "data", "array": spreads, "color": "@muted", "thickness": 1.5}}


def _model_hover(model: ChosenModel, slug: str) -> str:
    latency = model.latency.get(slug)
    predicted, measured = (latency.predicted_ms, latency.measured_ms) if latency else (None, None)
    after = start_words(model.trained.start)
    return (
        f"{role(model)}\n"
        f"measured {milliseconds(measured)} · predicted {milliseconds(predicted)}\n"
        f"loss inherited {fixed(model.inherited_loss_bits, 3)} · {after} {fixed(model.trained_loss_bits, 3)}\n"
        f"BLEU {score_text(model)} · {count(model.params)} parameters\n{describe(model.architecture)}"
    )


def _limit_lines(limits: Sequence[Limit]) -> Trace:
    shapes, notes = [], []
    for i, limit in enumerate(limits):
        shapes.append(_shape(x0=limit.ms, x1=limit.ms, y0=0, y1=1, yref="paper"))
        label = {"text": f"≤ {limit.text}", "showarrow": False, "font": {"size": 11, "color": "@muted"}}
        place: Trace = {"x": limit.ms, "y": 1, "yref": "paper", "yanchor": "top", "xanchor": "left", "xshift": 4}
        notes.append({**label, **place, "yshift": -14 * (i % 3)})  # lower than the label that it may run into
    return {"shapes": shapes, "annotations": notes}


def _horizontal(height: float, text: str) -> Trace:
    note = {"text": text, "showarrow": False, "font": {"size": 11, "color": "@muted"}, "x": 1, "xref": "paper"}
    return {
        "shapes": [_shape(x0=0, x1=1, y0=height, y1=height, xref="paper")],
        "annotations": [{**note, "y": height, "xanchor": "right", "yanchor": "top"}],
    }


def _shape(**place: object) -> Trace:
    return {"type": "line", "layer": "below", "line": {"color": "@muted", "width": 1, "dash": "dot"}, **place}


def candidate_times(candidate: Candidate, slug: str) -> str:
    """Return a candidate's predicted latency, and the measured one where the search timed it."""
    measured = candidate.measured_ms.get(slug)
    timed = "" if measured is None else f"measured {milliseconds(measured)} · "
    return f"{timed}predicted {milliseconds(candidate.latency_ms[slug])}"


def _candidate_row(candidate: Candidate, slug: str, on: str) -> list[Value]:
    architecture, times = candidate.architecture, (candidate.latency_ms[slug], candidate.measured_ms.get(slug))
    return ["candidate", str(architecture), architecture.id, candidate.loss_bits, *times, None, on]


def _model_row(model: ChosenModel, slug: str) -> list[Value]:
    latency = model.latency.get(slug)
    predicted, measured = (latency.predicted_ms, latency.measured_ms) if latency else (None, None)
    first: list[Value] = [role(model), str(model.architecture), model.architecture.id, model.inherited_loss_bits]
    return [*first, predicted, measured, model.bleu, UNKNOWN]

"""The figures of a comparison: the frontiers of all runs on one device, and what the models deliver there."""

from collections.abc import Sequence

from hat_ray.core.text import fixed, milliseconds
from hat_ray.report.chart import DASHES, SYMBOLS, Figure, Trace, Value, axis, layout, points, series_colour
from hat_ray.report.comparison.runs import Caution, ComparedRun, SharedDevice
from hat_ray.report.data import ChosenModel
from hat_ray.report.reading import latency_ms, role
from hat_ray.report.topics.frontier import candidate_times, describe
from hat_ray.search.candidates import Candidate

SIDES = ("top center", "bottom center", "middle right", "middle left")
"""Where a run's letter stands beside its marks: apart from the others' where marks coincide."""
COLUMNS = ("run", "what", "architecture", "id", "loss inherited", "predicted ms", "measured ms", "BLEU")


def overlay(runs: Sequence[ComparedRun], shared: SharedDevice, cautions: Sequence[Caution], id: str) -> Figure | None:
    """The frontiers of all runs that have a device, and their winners."""
    slug = shared.device.slug
    with_frontier = [run for run in shared.runs if run.data.frontier(slug)]
    if not with_frontier:
        return None
    traces: list[Trace] = []
    rows: list[list[Value]] = []
    for run in with_frontier:
        best = run.data.frontier(slug)
        winners = [m for m in run.data.winners(slug) if m.inherited_loss_bits is not None]
        losses = [m.inherited_loss_bits for m in winners]
        traces += [_line(runs, run, best, slug), _stars(runs, run, winners, slug, losses)]
        rows += [_candidate_row(run, one, slug) for one in best] + [_model_row(run, one, slug) for one in winners]
    return Figure(
        id=id,
        title="Frontiers: loss against latency",
        caption=(
            "Each line is one run's frontier: validation loss with inherited weights at predicted latency, or at the "
            "measured one where the search timed it. Larger marks "
            "with a letter are the winners of its limits, at their measured latency." + _warned(cautions, "loss")
        ),
        traces=traces,
        layout=layout(axis("Latency, ms a sentence"), axis("Validation loss, bits a token")),
        columns=COLUMNS,
        rows=rows,
    )


def delivered(runs: Sequence[ComparedRun], shared: SharedDevice, cautions: Sequence[Caution], id: str) -> Figure | None:
    """BLEU against measured latency of the models that the runs built."""
    slug = shared.device.slug
    traces: list[Trace] = []
    rows: list[list[Value]] = []
    for run in shared.runs:
        built = [m for m in run.data.models_on(slug) if m.bleu is not None and latency_ms(m, slug) is not None]
        winners, others = [m for m in built if m.kind == "winner"], [m for m in built if m.kind != "winner"]
        if winners:
            traces.append(_stars(runs, run, winners, slug, [m.bleu for m in winners], legend=True))
        if others:
            traces.append(_small(runs, run, others, slug))
        rows += [_model_row(run, one, slug) for one in built]
    if not rows:
        return None
    return Figure(
        id=id,
        title="BLEU against measured latency",
        caption=(
            "The models after training from scratch. Marks with a letter are each run's winners; small hollow ones its "
            "baselines." + _warned(cautions, "bleu")
        ),
        traces=traces,
        layout=layout(axis("Measured latency, ms a sentence", rangemode="tozero"), axis("BLEU")),
        columns=COLUMNS,
        rows=rows,
    )


def _warned(cautions: Sequence[Caution], what: str) -> str:
    """Return the cautions that belong below a figure."""
    texts = [caution.text.partition(" (")[0] for caution in cautions if caution.what in (what, "latency")]
    return "".join(f" Caution: {text}." for text in texts)


def _place(runs: Sequence[ComparedRun], run: ComparedRun) -> int:
    return [one.run_label for one in runs].index(run.run_label)


def _style(runs: Sequence[ComparedRun], run: ComparedRun) -> tuple[str, str, str]:
    """Return a run's colour, symbol and dash: the same in all figures."""
    i = _place(runs, run)
    return series_colour(i), SYMBOLS[i % len(SYMBOLS)], DASHES[i % len(DASHES)]


def _line(runs: Sequence[ComparedRun], run: ComparedRun, best: Sequence[Candidate], slug: str) -> Trace:
    colour, symbol, dash = _style(runs, run)
    hover = [
        f"{run.label}\nloss {fixed(c.loss_bits, 3)} · {candidate_times(c, slug)}\n{describe(c.architecture)}"
        for c in best
    ]
    return points(
        run.label,
        [c.takes_ms(slug) for c in best],
        [c.loss_bits for c in best],
        hover,
        {"symbol": symbol, "size": 6, "color": colour},
        mode="lines+markers",
        line={"color": colour, "width": 2, "shape": "hv", "dash": dash},
        legendgroup=run.run_label,
    )


def _stars(
    runs: Sequence[ComparedRun],
    run: ComparedRun,
    models: Sequence[ChosenModel],
    slug: str,
    heights: Sequence[float | None],
    *,
    legend: bool = False,
) -> Trace:
    colour, symbol, _ = _style(runs, run)
    return points(
        run.label,
        [latency_ms(m, slug) for m in models],
        list(heights),
        [_hover(run, m, slug) for m in models],
        {"symbol": symbol, "size": 14, "color": colour, "line": {"color": "@surface", "width": 1.5}},
        mode="markers+text",
        text=[run.run_label] * len(models),
        textposition=SIDES[_place(runs, run) % len(SIDES)],
        textfont={"color": "@ink", "size": 12},
        legendgroup=run.run_label,
        showlegend=legend,
    )


def _small(runs: Sequence[ComparedRun], run: ComparedRun, models: Sequence[ChosenModel], slug: str) -> Trace:
    colour, symbol, _ = _style(runs, run)
    return points(
        f"{run.label}, baselines",
        [latency_ms(m, slug) for m in models],
        [m.bleu for m in models],
        [_hover(run, m, slug) for m in models],
        {"symbol": f"{symbol}-open", "size": 8, "color": colour},
        legendgroup=run.run_label,
        showlegend=False,
    )


def _hover(run: ComparedRun, model: ChosenModel, slug: str) -> str:
    latency = model.latency.get(slug)
    predicted, measured = (latency.predicted_ms, latency.measured_ms) if latency else (None, None)
    return (
        f"{run.label}\n{role(model)}\nmeasured {milliseconds(measured)} · predicted {milliseconds(predicted)}\n"
        f"loss inherited {fixed(model.inherited_loss_bits, 3)} · BLEU {fixed(model.bleu, 1)}\n"
        f"{describe(model.architecture)}"
    )


def _candidate_row(run: ComparedRun, one: Candidate, slug: str) -> list[Value]:
    what: list[Value] = [run.label, "frontier", str(one.architecture), one.architecture.id]
    return [*what, one.loss_bits, one.latency_ms[slug], one.measured_ms.get(slug), None]


def _model_row(run: ComparedRun, model: ChosenModel, slug: str) -> list[Value]:
    latency = model.latency.get(slug)
    predicted, measured = (latency.predicted_ms, latency.measured_ms) if latency else (None, None)
    first: list[Value] = [run.label, role(model), str(model.architecture), model.architecture.id]
    return [*first, model.inherited_loss_bits, predicted, measured, model.bleu]

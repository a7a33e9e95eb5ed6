"""Quality of a latency predictor: error on unseen architectures, the rows it took, and its outliers."""

from collections.abc import Sequence

from hat_ray.core.text import fixed, milliseconds, significant
from hat_ray.latency.quantities import QUANTITIES
from hat_ray.predictor.assess import Assessment
from hat_ray.report.chart import Figure, FigureGroup, Trace, axis, layout, line, points
from hat_ray.report.data import PredictionPair, PredictorFacts, ReportData
from hat_ray.report.topics.flops import flops_against_latency
from hat_ray.report.topics.frontier import device_group

_MOST_NAMED = 3


def method(data: ReportData) -> tuple[FigureGroup, ...]:
    """Return how well each device's latency is predicted, and what FLOPs say about it."""
    groups = []
    for i, device in enumerate(data.devices):
        facts = next((facts for facts in data.predictors if facts.device == device.slug), None)
        predicted = predictor_figures(facts, i) if facts else []
        groups.append(device_group(data, device, [*predicted, flops_against_latency(data, device, f"flops-{i}")]))
    return tuple(group for group in groups if group.figures)


def predictor_figures(facts: PredictorFacts, number: int) -> list[Figure]:
    """Return the figures of one device's predictor; `number` is the device's."""
    builders = (predicted_against_measured(facts, f"predicted-{number}"), learning_curve(facts, f"curve-{number}"))
    return [one for one in builders if one]


def predicted_against_measured(facts: PredictorFacts, id: str) -> Figure | None:
    """Held-out predictions against measurements, with the line of equality and the 10 % band."""
    pairs = facts.pairs
    if not pairs:
        return None
    ends = [
        min(min(p.predicted_ms, p.measured_ms) for p in pairs),
        max(max(p.predicted_ms, p.measured_ms) for p in pairs),
    ]
    band_y = [ends[0] * 0.9, ends[1] * 0.9, ends[1] * 1.1, ends[0] * 1.1]
    band: Trace = {
        **points("within 10 %", [ends[0], ends[1], ends[1], ends[0]], band_y, [], {"color": "@band"}),
        **{"mode": "lines", "fill": "toself", "fillcolor": "@band", "line": {"width": 0}, "hoverinfo": "skip"},
    }
    equal = line("equal", ends, ends, ["", ""], {"color": "@muted", "width": 1, "dash": "dash"}, hoverinfo="skip")
    undisturbed, slow = ([pair for pair in pairs if pair.slow is kind] for kind in (False, True))
    traces = [
        band,
        equal,
        _dots("architecture", undisturbed, {"symbol": "circle-open", "size": 7, "color": "@frontier"}),
    ]
    if slow:
        traces.append(_dots("timed while the device was slow", slow, {"symbol": "x", "size": 7, "color": "@random"}))
    return Figure(
        id=id,
        title="Predicted against measured latency",
        caption=_caption(facts, len(undisturbed)),
        traces=traces,
        layout=layout(axis("Measured, ms"), axis("Predicted, ms")),
        columns=("architecture id", "predicted ms", "measured ms", "slow stretch"),
        rows=[(p.architecture_id, p.predicted_ms, p.measured_ms, "yes" if p.slow else "no") for p in pairs],
    )


def learning_curve(facts: PredictorFacts, id: str) -> Figure | None:
    """Draw the error by the number of rows, and the timings' own error, below which no predictor gets."""
    assessment = facts.assessment
    if assessment is None or len(assessment.curve) < 2:
        return None
    curve = assessment.curve
    rows = [point.rows for point in curve]
    hover = [f"{p.rows} rows: {p.mape:.2f} % (draws {p.least:.2f} to {p.most:.2f} %)" for p in curve]
    reach: Trace = {
        **points(
            "range of draws", [*rows, *rows[::-1]], [p.least for p in curve] + [p.most for p in curve[::-1]], [], {}
        ),
        **{"mode": "lines", "fill": "toself", "fillcolor": "@band", "line": {"width": 0}, "hoverinfo": "skip"},
    }
    error = line("error", rows, [p.mape for p in curve], hover, {"color": "@frontier", "width": 2})
    traces = [reach, {**error, "mode": "lines+markers"}]
    floor = assessment.timing_error_pct
    if floor is not None:
        ends = [rows[0], rows[-1]]
        style: Trace = {"color": "@muted", "width": 1, "dash": "dot"}
        traces.append(line("error of the timings", ends, [floor, floor], ["", ""], style, hoverinfo="skip"))
    return Figure(
        id=id,
        title="How many rows a predictor needs",
        caption="Mean error on architectures that were not fitted to, three draws of each size."
        + _depth_text(assessment),
        traces=traces,
        layout=layout(
            axis("Timed architectures", type="log", tickvals=rows, ticktext=[str(count) for count in rows]),
            axis("Mean error, %", rangemode="tozero"),
        ),
        columns=("rows", "mean error %", "least %", "most %"),
        rows=[(p.rows, p.mape, p.least, p.most) for p in curve],
    )


def _dots(name: str, pairs: Sequence[PredictionPair], marker: Trace) -> Trace:
    hover = [
        f"{p.architecture_id}\nmeasured {milliseconds(p.measured_ms)}\npredicted {milliseconds(p.predicted_ms)}"
        for p in pairs
    ]
    return points(name, [p.measured_ms for p in pairs], [p.predicted_ms for p in pairs], hover, marker)


def _caption(facts: PredictorFacts, undisturbed: int) -> str:
    sentences = [
        f"{undisturbed:,} architectures that the predictor had not seen when it predicted them.",
        f"Mean error {_percent(facts.quality.mape)}; {_percent(facts.quality.within_10)} within 10 %; "
        f"Kendall tau {fixed(facts.quality.kendall_tau, 2)}.",
    ]
    assessment = facts.assessment
    if assessment is not None:
        if assessment.coverage_pct is not None:
            sentences.append(f"The 90 % interval covers {assessment.coverage_pct:.0f} % of unseen rows.")
        elif assessment.coverage_unknown is not None:
            sentences.append(f"Whether the 90 % interval holds is unknown: {assessment.coverage_unknown}.")
        if assessment.slow_rows:
            sentences.append(f"{assessment.slow_rows} rows were timed in slow stretches and set aside.")
        if assessment.source_predictors:
            sentences.append(f"Other devices helped: {len(assessment.source_predictors)}.")
        for quantity in assessment.quantities:
            title = QUANTITIES.facts(quantity.name).title
            covered = ""
            if quantity.coverage_pct is not None:
                covered = f", the interval covers {quantity.coverage_pct:.0f} %"
            elif quantity.coverage_unknown is not None:
                covered = f"; whether its interval holds is unknown: {quantity.coverage_unknown}"
            sentences.append(
                f"Of {quantity.name} ({title}): mean error {_percent(quantity.quality.mape)} "
                f"on {quantity.quality.rows:,} unseen architectures{covered}."
            )
        named = [
            f"{one.name} ({significant(100 * (one.predicted_ms / one.measured_ms - 1), 2)} %)"
            for one in assessment.outliers[:_MOST_NAMED]
        ]
        if named:
            sentences.append(f"Furthest off: {', '.join(named)}.")
    return " ".join(sentences)


def _depth_text(assessment: Assessment) -> str:
    if len(assessment.by_depth) < 2:
        return ""
    errors = ", ".join(f"{group.depth}: {group.mape:.1f} %" for group in assessment.by_depth)
    return f" With all rows, by decoder layers: {errors}."


def _percent(value: float | None) -> str:
    return f"{significant(value)} %"

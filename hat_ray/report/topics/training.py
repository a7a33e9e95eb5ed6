"""How the trainings went: losses, BLEU, learning rate, gradient norm and speed by update, and where each one ended."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hat_ray.core.text import UNKNOWN, count, duration, significant
from hat_ray.report.chart import DASHES, SYMBOLS, Figure, Trace, Value, axis, layout, line, points, series_colour
from hat_ray.report.data import LossCurve, ReportData, TrainingFacts
from hat_ray.report.tables import Table
from hat_ray.train.state import CurvePoint, Ending

_MOST_POINTS = 50
"""Points of a training in one figure; the table behind a figure has the same."""

_FEW_POINTS = 30
"""With more a line has no marks."""

_ENDINGS: dict[Ending, str] = {
    "updates": "all its updates made",
    "time": "time limit",
    "no improvement": "validations stopped improving",
}


@dataclass(frozen=True)
class Training:
    """How the trainings of a run went."""

    figures: tuple[Figure, ...]
    table: Table | None


def training(data: ReportData) -> Training | None:
    """Return how the SuperTransformer and the models were trained; None where nothing is trained yet."""
    figures = (
        losses(
            data.supernet,
            "Training the SuperTransformer",
            "Validation loss of SubTransformers that share its weights.",
            "supernet",
        ),
        losses(
            data.retraining, f"Training {data.begun}", "Validation loss of the models that were built.", "retraining"
        ),
        bleu(data.trainings),
        rates(data.trainings),
        by_update(
            data.trainings,
            "gradient-norm",
            ("Gradient norm", "gradient norm"),
            "Norm of an update's gradient before clipping, mean between two points. A peak is an update far off.",
            lambda point: point.grad_norm,
            type="log",
        ),
        by_update(
            data.trainings,
            "training-speed",
            ("Speed of training", "target tokens a second"),
            "Validations and checkpoints included.",
            lambda point: point.tokens_per_s,
            rangemode="tozero",
        ),
    )
    drawn = tuple(one for one in figures if one)
    return Training(drawn, endings(data.trainings)) if drawn or data.trainings else None


def losses(curves: Sequence[LossCurve], title: str, caption: str, id: str) -> Figure | None:
    """Validation loss by update."""
    return _figure(
        id,
        (title, "validation loss"),
        caption,
        {curve.name: list(curve.points) for curve in curves},
        "Validation loss, bits a token",
    )


def bleu(trainings: Sequence[TrainingFacts]) -> Figure | None:
    """BLEU of validations by update, where trainings score it."""
    series = {_named(one, model): list(scores) for one in trainings for model, scores in one.bleu.items()}
    caption = "On the first lines of the validation set, translated greedily: it shows progress and is no final score."
    return _figure("training-bleu", ("BLEU during training", "BLEU"), caption, series, "BLEU")


def rates(trainings: Sequence[TrainingFacts]) -> Figure | None:
    """The learning rate by update; one line for trainings that share it."""
    names: dict[tuple[tuple[int, Value], ...], list[str]] = {}
    for one in trainings:
        if one.curve:
            names.setdefault(tuple((point.update, point.lr) for point in thinned(one.curve)), []).append(one.name)
    series = {_together(some): list(values) for values, some in names.items()}
    return _figure("learning-rate", ("Learning rate", "learning rate"), "", series, "Learning rate")


def by_update(
    trainings: Sequence[TrainingFacts],
    id: str,
    names: tuple[str, str],
    caption: str,
    value: Callable[[CurvePoint], Value],
    **more: object,
) -> Figure | None:
    """One quantity of each training's curve by update."""
    series = {one.name: [(point.update, value(point)) for point in thinned(one.curve)] for one in trainings}
    return _figure(id, names, caption, {name: values for name, values in series.items() if values}, names[0], **more)


def thinned(curve: Sequence[CurvePoint]) -> Sequence[CurvePoint]:
    """Return every n-th point of a curve that has more than a figure shows; the last one stays."""
    step = -(-len(curve) // _MOST_POINTS) if curve else 1
    return curve[(len(curve) - 1) % step :: step] if curve else curve


def endings(trainings: Sequence[TrainingFacts]) -> Table | None:
    """Return where each training ended, and what its final model is."""
    if not trainings:
        return None
    rows = [
        [
            one.name,
            f"{one.updates:,}",
            _ENDINGS[one.ended],
            "" if one.best_update is None else f"{one.best_update:,}",
            _final(one),
            count(one.tokens),
            duration(one.seconds),
        ]
        for one in trainings
    ]
    columns = (
        "training",
        "updates",
        "ended by",
        "best validation\nat update",
        "final model\nof update",
        "tokens",
        "time",
    )
    return Table("Where each training ended", columns, rows, text_columns=1)


def _final(one: TrainingFacts) -> str:
    if not one.made_of:
        return ""
    updates = ", ".join(f"{update:,}" for update in one.made_of)
    return updates if len(one.made_of) == 1 else f"mean of {updates}"


def _named(one: TrainingFacts, model: str) -> str:
    return one.name if len(one.bleu) == 1 else f"{one.name}, {model}"


def _together(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _figure(
    id: str,
    names: tuple[str, str],
    caption: str,
    series: Mapping[str, Sequence[tuple[int, Value]]],
    y_title: str,
    **more: object,
) -> Figure | None:
    """Draw series by update; `names` are the figure's title and the name of its value."""
    if not series:
        return None
    title, value = names
    traces = []
    for i, (name, values) in enumerate(series.items()):
        hover = [f"{name}\nupdate {n:,}: {value} {_shown(y)}" for n, y in values]
        x, y = [n for n, _ in values], [one for _, one in values]
        style: Trace = {"color": series_colour(i), "dash": DASHES[i % len(DASHES)], "width": 2}
        if len(values) > _FEW_POINTS:
            traces.append(line(name, x, y, hover, style))
        else:
            marker: Trace = {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 7, "color": series_colour(i)}
            traces.append(points(name, x, y, hover, marker, mode="lines+markers", line=style))
    return Figure(
        id=id,
        title=title,
        caption=caption,
        traces=traces,
        layout=layout(axis("Update"), axis(y_title, **more)),
        columns=("model", "update", value),
        rows=[(name, n, y) for name, values in series.items() for n, y in values],
    )


def _shown(value: Value) -> str:
    return UNKNOWN if value is None or isinstance(value, str) else significant(value, 4)

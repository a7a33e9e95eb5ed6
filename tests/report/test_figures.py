import csv
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import plotly.graph_objects as go
import pytest
from rich.console import Console

from hat_ray.report.chart import Figure, escaped
from hat_ray.report.data import Device, ReportData
from hat_ray.report.network import Scale, draw
from hat_ray.report.topics import frontier as frontier_figures
from hat_ray.report.topics import predictor as predictor_figures
from hat_ray.report.topics.closing import summary_tables
from hat_ray.report.topics.flops import flops_against_latency
from hat_ray.report.topics.limits.fronts import fronts
from hat_ray.report.topics.limits.section import decided
from hat_ray.report.topics.ranking_charts import policy_figures, ranking_figures
from hat_ray.report.topics.search import search_progress
from hat_ray.report.topics.strips import finalist_rungs, loss_strip
from hat_ray.report.topics.sweep import sweep_figures
from hat_ray.report.topics.training import training
from hat_ray.search.engine.finalists import Finalist, Finals
from hat_ray.space.presets import PRESETS

Make = Callable[..., ReportData]
NASTY = "<b>x</b>&amp;%{x}\n[red]@ink"


def all_figures(data: ReportData) -> list[Figure]:
    device = data.devices[0]
    made = [
        frontier_figures.frontier(data, device, "a"),
        frontier_figures.delivered(data, device, "b"),
        predictor_figures.predicted_against_measured(data.predictors[0], "c"),
        predictor_figures.learning_curve(data.predictors[0], "curve"),
        flops_against_latency(data, device, "d"),
        search_progress(data, device, "e"),
        loss_strip(data, device, "strip"),
        finalist_rungs(replace(data, finals=some_finals(data, device)), device, "finalists"),
        *fronts(data, data.devices[-1], "fronts"),
        *(bounds.figures if (bounds := decided(data)) else ()),
        *(trained.figures if (trained := training(data)) else ()),
        *sweep_figures(data.sweep),
        *(ranking_figures(data.ranking) if data.ranking else ()),
        *(policy_figures(data.policies) if data.policies else ()),
    ]
    return [figure for figure in made if figure]


def some_finals(data: ReportData, device: Device) -> Finals | None:
    """Return the finals of one limit of a device, with one finalist; None where nothing was found."""
    limit = next((winner.limit for winner in data.winners(device.slug)), None)
    if limit is None:
        return None
    one = data.candidates[0]
    return Finals((100, 200), (Finalist(one.architecture, one.loss_bits, (limit,), (3.0, 2.0)),))


def unbeaten(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other one beats, by comparing each with each."""
    return [(x, y) for x, y in points if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)]


def test_every_figure_is_valid_for_plotly(report: ReportData) -> None:
    figures = all_figures(report)
    assert len(figures) == 24
    for figure in figures:
        drawn = uncoloured(figure.plotly())
        assert isinstance(drawn, dict)
        go.Figure(**drawn)  # raises on an unknown or ill-typed property
        if figure.narrow is not None:
            go.Figure(layout=uncoloured(figure.drawn()["narrow"]))


def uncoloured(value: object) -> object:
    """Put a colour where the page's script puts the style sheet's."""
    if isinstance(value, dict):
        return {key: uncoloured(item) for key, item in value.items()}
    if isinstance(value, list):
        return [uncoloured(item) for item in value]
    return "#123456" if isinstance(value, str) and value.startswith("@") else value


def test_the_frontier_figure_shows_each_candidate_once(report: ReportData) -> None:
    device = report.devices[0]
    figure = frontier_figures.frontier(report, device, "x")
    assert figure is not None
    drawn = [len(trace["x"]) for trace in figure.traces[:2]]  # type: ignore[arg-type]
    on_frontier = len(unbeaten([(c.latency_ms[device.slug], c.loss_bits) for c in report.candidates]))
    assert drawn == [len(report.candidates) - on_frontier, on_frontier]


def test_a_run_without_figures_has_none(small_report: Make) -> None:
    empty = small_report(
        candidates=(), chosen=(), timed=(), searches=(), supernet=(), retraining=(), trainings=(), sweep=None,
        prices=None, ranking=None, policies=None,
    )  # fmt: skip
    empty = replace(empty, predictors=(replace(empty.predictors[0], pairs=(), assessment=None),))
    assert all_figures(empty) == []


def test_text_in_figures_is_escaped_and_line_breaks_are_plotlys() -> None:
    assert escaped({"hovertext": [NASTY], "n": 1}) == {
        "hovertext": ["&lt;b&gt;x&lt;/b&gt;&amp;amp;%{x}<br>[red]@ink"],
        "n": 1,
    }


def test_figure_data_as_csv_keeps_values_and_disarms_formulas() -> None:
    figure = Figure("x", "t", "c", [], {}, ("=name", "value"), [("=1+1", -1.5), ('a,"b"\n', None), ("plain", 3)])
    rows = list(csv.reader(io.StringIO(figure.csv())))
    assert rows == [["'=name", "value"], ["'=1+1", "-1.5"], ['a,"b"\n', ""], ["plain", "3"]]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_drawing_holds_every_layer_head_and_reach(name: str) -> None:
    largest = PRESETS[name].largest()
    drawn = draw(largest, Scale.of([largest]))
    bars = Counter(block.kind for block in drawn.blocks for _ in block.lefts)
    encoder, decoder = largest.encoder, largest.decoder
    assert bars["ffn"] == encoder.depth + decoder.depth
    assert bars["self"] == sum(encoder.heads) + sum(decoder.self_heads)
    assert bars["cross"] == sum(decoder.cross_heads)
    assert len(drawn.curves) == sum(decoder.cross_layers)


def test_the_terminal_table_shows_names_as_they_are(small_report: Make) -> None:
    data = small_report()
    data = replace(data, devices=(Device(data.devices[0].slug, "[bold]Pi[/bold] <4>"),))
    console = Console(width=140, record=True, file=io.StringIO())
    for table in summary_tables(data):
        console.print(table)
    text = console.export_text()
    assert "[bold]Pi[/bold] <4>" in text
    for model in data.models_on(data.devices[0].slug):
        assert model.architecture.id in text


def test_the_predictors_caption_names_each_quantity_with_its_error(report: ReportData) -> None:
    figure = predictor_figures.predicted_against_measured(report.predictors[0], "c")
    assert figure is not None
    of_p90 = "Of p90_ms (90th percentile of the latency): mean error 2.50 % on 111 unseen architectures"
    assert f"{of_p90}, the interval covers 89 %." in figure.caption
    of_peak = "Of peak_mb (peak memory): mean error 0.400 % on 9 unseen architectures"
    assert f"{of_peak}; whether its interval holds is unknown: 9 rows are too few." in figure.caption

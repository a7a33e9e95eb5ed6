"""A sweep and the evidence of FLOPs on the page and in the terminal: every point drawn once, words that follow."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from hat_ray.latency.effects import Effect, SweepResult, TimedSweep
from hat_ray.report.data import ReportData
from hat_ray.report.panels import NARROW, WIDE, Grid
from hat_ray.report.render import page
from hat_ray.report.topics.flops import flops_sentence, flops_to_json
from hat_ray.report.topics.sweep import name_of, sweep_figures, sweep_sentence, sweep_table, sweep_tables, times
from hat_ray.space.presets import preset


@pytest.fixture
def result(report: ReportData) -> SweepResult:
    assert report.sweep is not None
    return report.sweep


def test_every_point_is_drawn_once_against_the_base_of_its_device(result: SweepResult) -> None:
    (figure,) = sweep_figures(result)
    assert len(figure.traces) == len(result.sweeps)
    points = sum(len(sweep.points) for sweep in result.sweeps)
    assert len(figure.rows) == points == sum(len(trace["x"]) for trace in figure.traces)  # type: ignore[arg-type, misc]
    base = {device.slug: device.base_ms for device in result.devices}
    drawn = {
        (trace["legendgroup"], x, y)
        for trace in figure.traces
        for x, y in zip(trace["x"], trace["y"], strict=True)  # type: ignore[call-overload]
    }
    for sweep in result.sweeps:
        for point in sweep.points:
            assert (sweep.device, point.choice, point.ms / base[sweep.device]) in drawn


def test_devices_share_the_panel_of_a_dimension_and_the_strongest_comes_first(result: SweepResult) -> None:
    (figure,) = sweep_figures(result)
    order = result.by_effect()
    assert order[0] == "decoder_depths"
    for device in result.devices:
        traces = [trace for trace in figure.traces if trace["legendgroup"] == device.slug]
        panels = {trace["xaxis"] for trace in traces}
        assert panels == {"x", *(f"x{n}" for n in range(2, len(order) + 1))}
        assert [trace["showlegend"] for trace in traces].count(True) == 1
    for wanted in (figure.layout, figure.narrow):
        assert wanted is not None
        assert [note["text"] for note in wanted["annotations"]] == [name_of(name) for name in order]  # type: ignore[attr-defined]


@pytest.mark.parametrize("columns", [WIDE, NARROW])
@pytest.mark.parametrize("panels", [1, 2, 5, 6, 9, 10])
def test_panels_never_overlap_and_never_leave_the_figure(panels: int, columns: int) -> None:
    grid = Grid(panels, columns)
    boxes = [(*grid.across(i), *grid.up(i)) for i in range(panels)]
    assert all(0 <= edge <= 1 for box in boxes for edge in box)
    for i, (left, right, low, high) in enumerate(boxes):
        assert left < right
        assert low < high
        for other_left, other_right, other_low, other_high in boxes[:i]:
            assert right <= other_left or other_right <= left or high <= other_low or other_high <= low


def test_names_are_known_for_every_dimension() -> None:
    names = {dimension: name_of(dimension) for dimension in preset("toy").choices}
    assert len(set(names.values())) == 10
    assert not set(names) & set(names.values())


def influenced(ratio: float, error: float = 0.02, flops: float = 1.0) -> Effect:
    return Effect(ratio, ratio / (1 + error), ratio * (1 + error), flops, 0.0, 1.0)


def with_influences(result: SweepResult, **found: Effect) -> SweepResult:
    slug = result.devices[0].slug
    known = {one.dimension: one for one in result.on(slug)}
    sweeps = tuple(
        TimedSweep(slug, dimension, influence, known[dimension].points) for dimension, influence in found.items()
    )
    return replace(result, sweeps=sweeps, devices=result.devices[:1])


def test_the_sentence_names_what_is_both_large_and_sure(result: SweepResult) -> None:
    found = with_influences(
        result,
        decoder_depths=influenced(2.5, flops=2.4),
        decoder_embed_dims=influenced(0.8, flops=0.8),
        encoder_heads=influenced(1.02),
        decoder_ffn_dims=influenced(1.3, error=0.5, flops=1.3),
    )
    text = sweep_sentence(found, found.devices[0])
    assert text.startswith("Decoder layers 1 to 6: ×2.5; decoder width 512 to 640: ×0.80. ")
    assert "The other 2 dimensions change it by 30 % at most." in text
    assert "FLOPs mislead" not in text


def test_the_sentence_says_where_flops_mislead_and_when_nothing_matters(result: SweepResult) -> None:
    found = with_influences(result, encoder_ffn_dims=influenced(1.03, flops=1.5))
    assert "encoder" not in sweep_sentence(found, found.devices[0])
    assert sweep_sentence(found, found.devices[0]).startswith("No dimension changes latency by more than 3.0 %")
    found = with_influences(
        result, encoder_ffn_dims=influenced(1.03, flops=1.5), decoder_depths=influenced(3.0, flops=2.8)
    )
    text = sweep_sentence(found, found.devices[0])
    assert "Encoder FFN width changes it by 3.0 %." in text
    assert text.endswith("FLOPs mislead most on encoder FFN width: ×1.50 the FLOPs, ×1.03 the latency.")


def test_a_busy_device_is_owned_up_to(result: SweepResult) -> None:
    device = result.devices[0]
    assert "Caution" not in sweep_sentence(result, device)
    first, *others = result.sweeps
    worse = replace(first, points=(replace(first.points[0], relative_error=0.123), *first.points[1:]))
    text = sweep_sentence(replace(result, sweeps=(worse, *others)), device)
    assert text.endswith("Caution: the device was not quiet, medians here have errors of up to 12 %.")


@pytest.mark.parametrize(("ratio", "text"), [(0.8, "×0.80"), (1.046, "×1.05"), (2.44, "×2.4"), (12.34, "×12.3")])
def test_ratios_read_easily(ratio: float, text: str) -> None:
    assert times(ratio) == text


def test_terminal_and_page_show_the_same_cells(report: ReportData, result: SweepResult) -> None:
    console = Console(width=170, record=True, file=io.StringIO())
    for table in sweep_tables(result):
        console.print(table)
    shown, text = console.export_text(), page(report)
    for device in result.devices:
        rows = sweep_table(result, device).rows
        assert len(rows) == len(result.by_effect())
        for line in (line for row in rows for cell in row for line in cell.split("\n")):
            assert line in shown
            assert line in text


def test_flops_evidence_names_two_real_architectures(report: ReportData) -> None:
    slug = report.devices[0].slug
    rows = [row for row in report.timed if row.device == slug]
    pair = flops_to_json(report)[slug]["pair"]
    fast, slow = (next(row for row in rows if row.architecture.id == pair[side]["id"]) for side in ("fast", "slow"))
    assert abs(fast.flops / slow.flops - 1) <= 0.05
    assert slow.measured_ms / fast.measured_ms == pair["ratio"] > 1
    text = flops_sentence(rows)
    assert fast.architecture.id in text
    assert slow.architecture.id in text
    assert "among architectures of equal decoder depth" in text
    assert flops_sentence(rows[:3]) == "3 architectures timed on this device."


def test_a_report_without_a_sweep_has_no_section_of_it(small_report: Callable[..., ReportData]) -> None:
    text = page(small_report(sweep=None))
    assert 'id="sweep"' not in text
    assert 'href="#sweep"' not in text

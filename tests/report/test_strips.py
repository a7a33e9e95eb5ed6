"""Strips of inherited loss in bins of latency, and the finalists' losses by update."""

from dataclasses import replace
from itertools import pairwise
from statistics import median, pstdev

import pytest

from hat_ray.report.data import ReportData
from hat_ray.report.topics.search import progress
from hat_ray.report.topics.strips import finalist_rungs, loss_strip
from hat_ray.search.engine.finalists import Finalist, Finals


@pytest.fixture
def with_finals(report: ReportData) -> ReportData:
    """A report whose first device has three finalists under its first winner's limit; the second becomes the best."""
    slug = report.devices[0].slug
    limit = report.winners(slug)[0].limit
    assert limit is not None
    within = sorted((c for c in report.candidates if limit.keeps(c.known(slug))), key=lambda c: c.loss_bits)[:3]
    losses = [(3.0,), (2.8, 2.5), (2.9, 2.7)]
    finalists = [
        Finalist(one.architecture, 4.0 + place / 10, (limit,), after)
        for place, (one, after) in enumerate(zip(within, losses, strict=True))
    ]
    return replace(report, finals=Finals((100, 200), tuple(finalists), complete=True))


def test_each_candidate_stands_in_the_bin_of_its_latency(with_finals: ReportData) -> None:
    device = with_finals.devices[0]
    figure = loss_strip(with_finals, device, "strip-0")
    assert figure is not None
    latency = {c.architecture.id: c.takes_ms(device.slug) for c in with_finals.candidates}
    bins: dict[str, list[float]] = {}
    losses: dict[str, list[float]] = {}
    for name, ms, one, loss, _ in figure.rows:
        assert ms == latency[str(one)]
        bins.setdefault(str(name), []).append(float(ms or 0))
        losses.setdefault(str(name), []).append(float(loss or 0))
    assert len(figure.rows) == len(with_finals.candidates)
    found = list(bins.values())
    assert len(found) == 8
    assert max(map(len, found)) - min(map(len, found)) <= 1
    for fast, slow in pairwise(found):
        assert max(fast) <= min(slow)
    for name, times in bins.items():
        low, high = map(float, name.split(" to "))
        assert (low, high) == pytest.approx((min(times), max(times)), rel=0.005)
    spread = median(map(pstdev, losses.values()))
    assert f"deviation of {spread:.3f} bits" in figure.caption


def test_winners_and_finalists_are_marked(with_finals: ReportData) -> None:
    device = with_finals.devices[0]
    figure = loss_strip(with_finals, device, "strip-0")
    assert figure is not None
    assert with_finals.finals is not None
    kinds = {str(row[2]): row[4] for row in figure.rows}
    winners = {model.architecture.id for model in with_finals.winners(device.slug)}
    finalists = {one.architecture.id for one in with_finals.finals.finalists} - winners
    assert {one for one, kind in kinds.items() if kind == "Winners"} == winners & set(kinds)
    assert {one for one, kind in kinds.items() if kind == "Finalists"} == finalists
    assert finalists
    assert sum(len(trace["x"]) for trace in figure.traces) == len(figure.rows)  # type: ignore[arg-type]


def test_the_finalists_losses_and_places_stand_by_update(with_finals: ReportData) -> None:
    device = with_finals.devices[0]
    figure = finalist_rungs(with_finals, device, "finalists-0")
    assert figure is not None
    assert with_finals.finals is not None
    (trace,) = figure.traces
    one, two, three = with_finals.finals.finalists
    assert trace["x"] == [0, 100, 300, None, 0, 100, 300, None, 0, 100, None]
    assert trace["y"] == [
        *(two.inherited_loss_bits, 2.8, 2.5, None),
        *(three.inherited_loss_bits, 2.9, 2.7, None),
        *(one.inherited_loss_bits, 3.0, None),
    ]
    assert [row[-2:] for row in figure.rows] == [[2, 1], [3, 2], [1, 3]]
    assert figure.rows[2][3:5] == [3.0, None]


def test_a_report_without_finalists_or_with_few_candidates_has_no_such_figures(report: ReportData) -> None:
    device = report.devices[0]
    assert finalist_rungs(report, device, "x") is None
    assert loss_strip(replace(report, candidates=report.candidates[:15]), device, "x") is None
    figures = [figure.id for group in progress(report) for figure in group.figures]
    assert [id for id in figures if id.startswith("strip")] == [f"strip-{i}" for i in range(len(report.devices))]

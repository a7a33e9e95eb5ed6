"""Losses are in bits a token wherever a run shows them: table, outputs, report, page and terminal say one number."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.pipeline.stages.report import gather
from hat_ray.pipeline.stages.search import SEARCH, result_of
from hat_ray.report.comparison.runs import ComparedRun, devices_of
from hat_ray.report.comparison.to_json import comparison_to_json
from hat_ray.report.topics.frontier import frontier as frontier_figure
from tests.golden import figures


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return figures.copied(tmp_path_factory.mktemp("golden"))


def test_a_winners_loss_is_the_same_number_everywhere(place: Path):
    context = figures.opened(place / "run")
    scored = {one.architecture: one.loss_bits for one in result_of(context).candidates}
    data = gather(context)
    reported = {one.architecture: one.loss_bits for one in data.candidates}
    trained = {one.architecture: one.inherited_loss_bits for one in data.chosen}
    page = figures.sections(place)
    shown = CliRunner().invoke(app, ["search", "show", str(place / "run")], catch_exceptions=False).stdout
    winners = context.require(SEARCH).winners
    assert winners
    for winner in winners:
        assert winner.loss_bits == scored[winner.architecture] == reported[winner.architecture]
        assert trained[winner.architecture] == pytest.approx(winner.loss_bits, rel=1e-5)
        assert f"{winner.id}, loss {winner.loss_bits:.4f}" in shown
        assert f"{winner.loss_bits:.3f}" in page["results"]


def test_page_terminal_and_json_name_one_frontier(place: Path):
    context = figures.opened(place / "run")
    data, run = gather(context), str(place / "run")
    told = json.loads(CliRunner().invoke(app, ["search", "show", run, "--json"], catch_exceptions=False).stdout)
    shown = CliRunner().invoke(app, ["search", "show", run], catch_exceptions=False).stdout
    for device in data.devices:
        frontier = [one.architecture.id for one in data.frontier(device.slug)]
        assert [one["id"] for one in told["frontiers"][device.slug]] == frontier
        lines = shown.partition(f"frontier on {device.slug}\n")[2].splitlines()[1 : len(frontier) + 1]
        assert all(id in line for id, line in zip(frontier, lines, strict=True))
        drawn = frontier_figure(data, device, "f")
        assert drawn is not None
        assert {row[2] for row in drawn.rows if row[-1] == "yes"} == set(frontier)
        times = [(one["measured_ms"] or one["latency_ms"]) for one in told["frontiers"][device.slug]]
        assert drawn.traces[1]["x"] == times
    runs = [ComparedRun(letter, letter, letter, data) for letter in "AB"]
    [first, *_] = comparison_to_json(runs, devices_of(runs), [])["devices"]
    assert [one["id"] for one in first["frontiers"]["A"]] == [one["id"] for one in told["frontiers"][first["device"]]]


def test_no_section_of_the_page_speaks_of_nats(place: Path):
    text = " ".join(figures.sections(place).values())
    assert "bits a token" in text
    assert " nats" not in text

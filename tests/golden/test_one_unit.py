"""Losses are in bits a token wherever a run shows them: table, outputs, report, page and terminal say one number."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.pipeline.stages.report import gather
from hat_ray.pipeline.stages.search import SEARCH, result_of
from tests.golden import figures


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return figures.copied(tmp_path_factory.mktemp("golden"))


def test_a_winners_loss_is_the_same_number_everywhere(place: Path):
    context = figures.opened(place / "run")
    scored = {one.architecture: one.loss for one in result_of(context).candidates}
    data = gather(context)
    reported = {one.architecture: one.loss for one in data.candidates}
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


def test_no_section_of_the_page_speaks_of_nats(place: Path):
    text = " ".join(figures.sections(place).values())
    assert "bits a token" in text
    assert " nats" not in text

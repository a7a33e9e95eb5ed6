"""A run of before, its table and its export: opened by today's code they have the figures that were recorded."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.golden import figures
from tests.golden.same import differences, missing


def recorded(name: str) -> Any:
    """Return a file of recorded values."""
    return json.loads((figures.HERE / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the golden folder, so that nothing is written into the repository."""
    return figures.copied(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def now(place: Path) -> dict[str, Any]:
    return figures.figures(place)


@pytest.mark.parametrize("part", ["search", "report", "training", "table", "translations", "predicted"])
def test_a_run_keeps_its_figures(now: dict[str, Any], part: str):
    assert not differences(recorded("values.json")[part], json.loads(json.dumps(now[part])))


def test_a_model_and_its_export_say_the_same_and_something(now: dict[str, Any]):
    said = now["translations"]
    assert said["model"] == said["export"]
    assert len(set(said["model"])) > len(said["model"]) / 2


def test_the_report_keeps_the_text_of_its_sections(place: Path):
    assert not differences(recorded("page.json"), figures.sections(place))


@pytest.mark.parametrize("command", figures.COMMANDS)
def test_a_command_prints_every_recorded_value_as_json(place: Path, command: str):
    assert not missing(recorded("cli.json")[command], figures.printed(place, command))

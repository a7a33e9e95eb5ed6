"""The latency tables that ship with the project: whole, small, and what their README says they are."""

from pathlib import Path

import pytest

from hat_ray.latency.table.summary import describe_table
from hat_ray.latency.table.table import read_table
from hat_ray.latency.table.validate import validate
from hat_ray.space.presets import PRESETS
from tests.spaces import THREE_LAYERS

ROOT = Path(__file__).parents[2] / "latency_data"
SPACES = {"toy, as it was first": THREE_LAYERS, **{name: PRESETS[name] for name in ("space1", "space0")}}


def test_every_file_and_row_is_sound_and_all_are_small() -> None:
    found = validate(str(ROOT))
    assert found.files > 0
    assert found.problems == ()
    assert sum(file.stat().st_size for file in ROOT.rglob("*") if file.is_file()) < 10 * 2**20


@pytest.mark.parametrize("name", SPACES)
def test_each_space_was_timed_with_one_and_two_threads(name: str) -> None:
    rows = read_table(ROOT, SPACES[name].id)
    assert {row.device.threads for row in rows} == {1, 2}
    for row in rows:
        assert row.architecture is not None
        SPACES[name].require(row.architecture)
        assert row.origin.provenance == "measured"


def test_the_readme_lists_what_is_there() -> None:
    text = (ROOT / "README.md").read_text()
    for group in describe_table(str(ROOT)):
        assert group.space_id in text
        assert f"{group.rows} rows" in text

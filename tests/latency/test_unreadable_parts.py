"""Parts that a user may not read are no damage: whatever needs them stops, and nothing is lost or half-written."""

import json
import os
from pathlib import Path

import pytest

from hat_ray.latency.table.parts import part_names
from hat_ray.latency.table.table import read_table, write_rows
from tests.command import hat_ray
from tests.latency.test_lake_commands import a_row


@pytest.fixture
def lake(everybodys: Path) -> Path:
    """A table of four parts that everybody may change, one of which nobody may read."""
    root = everybodys / "lake"
    for seed in range(4):
        write_rows(root, [a_row(seed)])
    for folder, _, _ in os.walk(root):
        Path(folder).chmod(0o777)
    (root / part_names(root)[2]).chmod(0)
    everybodys.chmod(0o777)
    return root


@pytest.mark.parametrize("command", ["show", "validate", "compact", "import", "export"])
def test_a_command_ends_with_one_line_that_names_the_file_and_changes_nothing(
    everybodys: Path, lake: Path, command: str
) -> None:
    before = {name: (lake / name).stat().st_ino for name in part_names(lake)}
    arguments = {"import": ["new", lake], "export": [lake, "new"]}.get(command, [lake])
    done = hat_ray("latency", command, *arguments, cwd=everybodys, without_rights=True)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert f"access to {lake / part_names(lake)[2]} is refused (Permission denied)" in line
    assert done.stdout == ""
    assert {name: (lake / name).stat().st_ino for name in part_names(lake)} == before
    if command == "import":  # a part that was copied is whole, and the same command goes on
        assert set(part_names(everybodys / "new")) < set(before)
    else:
        assert not (everybodys / "new").exists()
    (lake / part_names(lake)[2]).chmod(0o644)
    done = hat_ray("latency", command, *arguments, "--json", cwd=everybodys, without_rights=True)
    assert done.returncode == 0
    assert json.loads(done.stdout)
    assert read_table(everybodys / "new" if command == "import" else lake) == [a_row(seed) for seed in range(4)]

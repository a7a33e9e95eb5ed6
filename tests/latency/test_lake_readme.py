"""The page about the lake tells what is."""

import re
from pathlib import Path

from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.latency.table.row import SCHEMA

PAGE = (Path(__file__).parents[2] / "latency_data" / "README.md").read_text(encoding="utf-8")


def test_the_table_of_columns_is_the_schema() -> None:
    cells = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:3] == "| `"
    ]
    told = [tuple(row[:3]) for row in cells if len(row) == 4]
    assert told == [(field.name, str(field.type), "yes" if field.nullable else "") for field in SCHEMA]
    assert all(row[3] for row in cells if len(row) == 4)


def test_the_commands_that_it_names_exist() -> None:
    named = set(re.findall(r"hat-ray latency (\w+)", PAGE))
    assert named >= {"show", "compact", "import", "export", "validate", "measure"}
    for command in named:
        result = CliRunner().invoke(app, ["latency", command, "--help"])
        assert result.exit_code == 0
        assert "Example" in result.output

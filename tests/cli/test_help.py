"""Every `--help` teaches: what the command does in one whole line, and an example."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.latency.quantities import QUANTITIES
from hat_ray.recipe import load_recipe


def commands(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, *path, name)
    if not hasattr(command, "commands"):
        yield path


ROOT: Any = typer.main.get_command(app)
COMMANDS = list(commands(ROOT))


def told(*path: str) -> str:
    result = CliRunner().invoke(app, [*path, "--help"], prog_name="hat-ray", env={"COLUMNS": "80"})
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_command_shows_an_example_of_itself(path):
    example = told(*path).partition("Example")[2]
    named = (("search", "run"), ("run", "recipe"), ("corpus", "prepare"), ("evaluate", "score"), ("certify", "make"))
    name = path[:1] if path in named else path  # whose name may be left out
    assert f"hat-ray {' '.join(name)}" in " ".join(example.split())


@pytest.mark.parametrize("group", [(), *dict.fromkeys(path[:1] for path in COMMANDS if len(path) > 1)], ids=" ".join)
def test_no_line_of_a_list_of_commands_is_cut(group):
    listed = told(*group).partition("Commands:")[2].partition("\n\n")[0].splitlines()[1:]
    assert listed
    assert not [line for line in listed if line.endswith("...")]
    assert all(len(line.split(maxsplit=1)) == 2 for line in listed)


@pytest.mark.parametrize("name", ROOT.commands)
def test_the_list_of_commands_has_each_ones_own_first_sentence(name):
    """The list is written without importing the commands."""
    listed = told().partition("Commands:\n")[2]
    [line] = re.findall(rf"^  {name} +(.*)$", listed, re.MULTILINE)
    assert line == ROOT.commands[name].get_short_help_str(66)


PATHS = sorted({path[:length] for path in COMMANDS for length in range(len(path) + 1)})


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help_uses_the_standard_verbs(path):
    """A program reports, prints, returns; people tell and say."""
    text = " ".join(told(*path).split())
    assert not re.findall(r"\b(?:tell|tells|told|says?|said|goes on|so many)\b", text, re.IGNORECASE)


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        (("search",), ["search.limits=", "search.limits_ms="]),
        (("search", "run"), ["search.limits=", "search.limits_ms", *QUANTITIES.own_names]),
        (("latency", "measure"), ["search.limits", "latency.quantities=[peak_mb]"]),
        (("predict", "fit"), ["search.limits", "latency.quantities"]),
        (("predict", "score"), ["search.limits", "latency.quantities"]),
        (("predict", "latency"), ["search.limits", "latency.quantities"]),
    ],
)
def test_help_teaches_limits_and_quantities(path: tuple[str, ...], keys: list[str]):
    text = " ".join(told(*path).split())
    assert not [key for key in keys if key not in text]


def test_limits_that_help_shows_are_taken():
    shown = " ".join(" ".join(told("search", "run").split()).split("search.limits_ms bounds the latency")[:1])
    settings = re.findall(r"--set '(search\.limits=[^']+)'", shown)
    assert len(settings) == 2
    for setting in settings:
        assert load_recipe("toy", [setting]).search.limits

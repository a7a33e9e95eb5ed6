"""What the documents tell users to type exists: commands, options, settings, files."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from hat_ray.cli import app
from hat_ray.recipe import load_recipe

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "jobs/README.md", "latency_data/README.md", "hat_ray/recipes/TUTORIAL.md")
BLOCK = re.compile(r"^```(?:bash|console|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def told(document: str) -> list[str]:
    """Return the commands of a document's shell blocks, and those in running text that are whole."""
    text = (ROOT / document).read_text(encoding="utf-8")
    lines = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


COMMANDS = [(document, line) for document in DOCUMENTS for line in told(document)]


def hat_ray_arguments(line: str) -> list[str] | None:
    """Return the arguments of a line's `hat-ray`, without redirections and comments; None: another program's line."""
    words = shlex.split(line, comments=True)
    if words[:1] != ["hat-ray"]:
        return None
    ends = [place for place, word in enumerate(words) if word in ("<", ">", "|", "&&")]
    return words[1 : min(ends, default=len(words))]


@pytest.mark.parametrize(("document", "line"), COMMANDS, ids=[f"{d}: {line.strip()[:60]}" for d, line in COMMANDS])
def test_a_command_of_a_document_is_understood(document: str, line: str) -> None:
    arguments = hat_ray_arguments(line)
    if arguments is not None:
        parse(arguments)
        changes = [after for word, after in itertools.pairwise(arguments) if word == "--set"]
        load_recipe("toy", [change for change in changes if "." in change])
    elif scripts := re.findall(r"\bjobs/\S+", line):
        assert all((ROOT / script).exists() for script in scripts)
    else:
        assert line.split(maxsplit=1)[0] in {"make", "ray", "python", "export", "kubectl", "echo"}, "an unknown program"


def test_every_command_stands_in_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, command in typer.main.get_group(app).commands.items():
        names = [f"{name} {sub}" for sub in getattr(command, "commands", [])] or [name]
        for one in names:
            last = one.split()[-1]
            assert f"`{one}`" in text or (f"`{last}`" in text and name in text), f"README does not name {one}"


def parse(arguments: list[str]) -> None:
    """Parse a command line without running it; raises for what the command line does not know."""
    command, context = typer.main.get_command(app), None
    while True:
        context = typer.Context(command, parent=context)
        command.parse_args(context, list(arguments))
        if not isinstance(command, TyperGroup):
            return
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None, name

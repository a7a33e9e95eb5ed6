"""Command lines of documents and manifests, parsed without running them."""

from typing import Any

import typer
from typer.core import TyperGroup

from hat_ray.cli import app


def parse(arguments: list[str]) -> dict[str, Any]:
    """Return a command's parameters; raises for what the command line does not know."""
    command, context = typer.main.get_command(app), None
    while True:
        context = typer.Context(command, parent=context)
        command.parse_args(context, list(arguments))
        if not isinstance(command, TyperGroup):
            return context.params
        rest = [*context._protected_args, *context.args]
        if not rest:
            return context.params
        name, command, arguments = command.resolve_command(context, rest)
        assert command is not None, name

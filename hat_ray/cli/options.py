"""The arguments and options that commands share."""

from typing import Annotated

import typer

from hat_ray.errors import RunError


def _named(address: str | None) -> str | None:
    """Refuse an empty address: a shell's unset variable would otherwise start a cluster here."""
    if address is not None and not address.strip():
        raise RunError("--address must name a Ray cluster, got an empty name: auto, host:port, or leave --address out")
    return address


RecipeArg = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="Name of a shipped recipe, a YAML file, or a run folder.", show_default=False
    ),
]
RunOpt = Annotated[
    str | None,
    typer.Option(
        "--run", metavar="FOLDER", help="Run folder: a path or URI (s3://, gs://). Default: runs/<recipe's name>."
    ),
]
SetOpt = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, as often as needed.")
]
DataOpt = Annotated[
    str | None, typer.Option("--data", metavar="FOLDER", help="Folder that the recipe's text files stand in.")
]
AddressOpt = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="Ray cluster to use (auto, or host:port). Default: $RAY_ADDRESS, else a local one.",
        callback=_named,
    ),
]
LocalOpt = Annotated[bool, typer.Option("--local", help="Work in this process, without Ray.")]
TakeOverOpt = Annotated[
    bool,
    typer.Option(
        "--take-over", help="Take the run folder from a process that works there: that one ends, in one line."
    ),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
SkipOpt = Annotated[
    bool, typer.Option("--skip-checks", help="Begin at once, without looking first whether all can end well.")
]
ThreadsOpt = Annotated[int | None, typer.Option("--threads", min=1, help="Default: all cores.")]

"""The command line's root and its groups of commands."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hat_ray import __version__
from hat_ray.core import console


def _in_order(*names: str) -> type[TyperGroup]:
    """Return a group that lists its commands as they are used one after the other."""

    class InOrder(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return sorted(super().list_commands(ctx), key=names.index)

    return InOrder


def _by_default(default: str) -> type[TyperGroup]:
    """Return a group whose first command needs no name: `hat-ray run toy` is `hat-ray run recipe toy`."""

    class ByDefault(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
                args = [default, *args]
            parsed: list[str] = super().parse_args(ctx, args)
            return parsed

    return ByDefault


app = typer.Typer(
    cls=_in_order(
        *("run", "corpus", "train", "latency", "predict", "search", "retrain", "evaluate", "report"),
        *("translate", "export", "serve", "distil", "doctor", "recipe", "cost"),
    ),
    name="hat-ray",
    help="Find, for each device that you own, the most accurate translation Transformer within its latency budget.",
    epilog="Start with:  hat-ray run toy   (ten minutes on two cores)",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
run_app = typer.Typer(
    cls=_by_default("recipe"),
    help="Run every stage of a recipe. Or delete results of earlier settings.",
    epilog="""Examples:

hat-ray run toy --set search.evaluations=200 --run runs/mine

hat-ray run clean runs/mine

All options of the first: hat-ray run recipe --help""",
    no_args_is_help=True,
)
search_app = typer.Typer(
    cls=_by_default("run"),
    help="Search architectures under latency limits. Or show a search.",
    epilog="""Examples:

hat-ray search toy --set search.limits_ms=[20,30]

hat-ray search show runs/toy""",
    no_args_is_help=True,
)
train_app = typer.Typer(help="Train the SuperTransformer, or one architecture from scratch.", no_args_is_help=True)
latency_app = typer.Typer(
    cls=_in_order("measure", "sweep", "onboard", "show", "validate", "compact", "import", "export"),
    help="Time architectures on devices.",
    no_args_is_help=True,
)
predict_app = typer.Typer(
    cls=_in_order("fit", "score", "latency"),
    help="Fit latency predictors, score them, and predict.",
    no_args_is_help=True,
)
recipe_app = typer.Typer(help="List, show and check recipes.", no_args_is_help=True)
app.add_typer(run_app, name="run")
app.add_typer(search_app, name="search")
app.add_typer(train_app, name="train")
app.add_typer(latency_app, name="latency")
app.add_typer(predict_app, name="predict")
app.add_typer(recipe_app, name="recipe")


def _version(show: bool) -> None:
    if show:
        typer.echo(f"hat-ray {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show debug messages.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    console.configure_logging(verbose)

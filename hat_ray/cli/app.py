"""The command line's root and its groups of commands."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hat_ray import __version__, console


def _in_order(*names: str) -> type[TyperGroup]:
    """Return a group that lists its commands as they are used one after the other."""

    class InOrder(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return sorted(super().list_commands(ctx), key=names.index)

    return InOrder


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
train_app = typer.Typer(help="Train the SuperTransformer, or one architecture from scratch.", no_args_is_help=True)
latency_app = typer.Typer(
    cls=_in_order("measure", "sweep", "onboard", "show", "validate", "compact", "import", "export"),
    help="Time architectures on devices.",
    no_args_is_help=True,
)
predict_app = typer.Typer(
    cls=_in_order("fit", "score", "latency"), help="Fit latency predictors, and ask them.", no_args_is_help=True
)
recipe_app = typer.Typer(help="List, show and check recipes.", no_args_is_help=True)
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
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more of what happens.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    console.configure_logging(verbose)

"""The command line's root and its groups. A file of `cli/commands` is imported when one of its commands is named."""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_group

from hat_ray import __version__
from hat_ray.core import console


@dataclass(frozen=True)
class _Entry:
    """A command of the root before it is imported."""

    modules: tuple[str, ...]
    """Files of `cli/commands` that define it."""
    summary: str = ""
    """What the root's help lists; a group has its own."""


_ENTRIES = {
    "run": _Entry(("stages",)),
    "corpus": _Entry(("stages", "recipes")),
    "train": _Entry(("stages",)),
    "latency": _Entry(("stages", "one_model", "latency")),
    "predict": _Entry(("stages", "predict")),
    "search": _Entry(("search",)),
    "retrain": _Entry(("stages",), "Train the winners and what they are compared with."),
    "evaluate": _Entry(("one_model",)),
    "report": _Entry(("report",), "Write the page of what was found, or compare runs."),
    "translate": _Entry(("models",), "Translate lines from stdin to stdout, in order."),
    "export": _Entry(("models",), "Export a model with its loader."),
    "certify": _Entry(("certify",)),
    "convert": _Entry(("imports",), "Write a model as Marian's decoder reads it."),
    "serve": _Entry(("serve",), "Serve a model over HTTP with Ray Serve, until Ctrl-C."),
    "distil": _Entry(("models",), "Translate the training sources, or a text."),
    "doctor": _Entry(("doctor",), "Report the abilities of this machine, and what is missing."),
    "recipe": _Entry(("recipes",)),
    "import": _Entry(("imports",)),
    "space": _Entry(("imports",)),
    "cost": _Entry(("one_model",), "Count parameters and FLOPs as HAT does."),
}
"""The root's commands, as they are used one after the other."""


class _Commands(MutableMapping[str, Any]):
    """The root's commands: each is imported when it is named, so that help and mistakes wait for no other command."""

    def __init__(self, groups: Mapping[str, Any]) -> None:
        self.groups = groups
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            for module in _ENTRIES[name].modules:
                import_module(f"hat_ray.cli.commands.{module}")
            self._loaded[name] = cast(_Root, get_group(app)).commands.groups[name]
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_ENTRIES)

    def __len__(self) -> int:
        return len(_ENTRIES)

    def __contains__(self, name: object) -> bool:
        return name in _ENTRIES


class _Root(TyperGroup):
    """The group that has all others."""

    commands: _Commands

    def __init__(self, *, commands: dict[str, Any], **settings: Any) -> None:
        super().__init__(commands=commands, **settings)
        self.commands = _Commands(commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = formatter.width - 6 - max(map(len, _ENTRIES))
        rows = [
            (name, entry.summary or self.commands.groups[name].get_short_help_str(width))
            for name, entry in _ENTRIES.items()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _in_order(*names: str) -> type[TyperGroup]:
    """Return a group that lists its commands as they are used one after the other."""

    class InOrder(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return sorted(super().list_commands(ctx), key=names.index)

    return InOrder


def _by_default(default: str) -> type[TyperGroup]:
    """Return a group whose first command needs no name: `hat-ray run toy` is `hat-ray run recipe toy`."""

    class ByDefault(TyperGroup):
        first_command = default

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
                args = [default, *args]
            parsed: list[str] = super().parse_args(ctx, args)
            return parsed

    return ByDefault


app = typer.Typer(
    cls=_Root,
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
corpus_app = typer.Typer(
    cls=_by_default("prepare"),
    help="Prepare the text: sub-words and token tables. Or preview its filters.",
    epilog="""Examples:

hat-ray corpus multi30k.en-de --data ~/multi30k

hat-ray corpus inspect multi30k.en-de --data ~/multi30k

All options of the first: hat-ray corpus prepare --help""",
    no_args_is_help=True,
)
search_app = typer.Typer(
    cls=_by_default("run"),
    help="Search architectures under latency limits. Or show a search.",
    epilog="""Examples:

hat-ray search toy --set search.limits_ms=[20,30]

hat-ray search toy --set 'search.limits=[{latency_ms: 20, model_mb: 4}]'

hat-ray search show runs/toy""",
    no_args_is_help=True,
)
evaluate_app = typer.Typer(
    cls=_by_default("score"),
    help="Time and score the retrained models. Or compare two systems.",
    epilog="""Examples:

hat-ray evaluate runs/toy

hat-ray evaluate compare mine.txt theirs.txt --reference test.de

All options of the first: hat-ray evaluate score --help""",
    no_args_is_help=True,
)
certify_app = typer.Typer(
    cls=_by_default("make"),
    help="Certify an export: speed, memory, size, quality. Or verify.",
    epilog="""Examples:

hat-ray certify exported --source test.en --reference test.de

hat-ray certify verify exported.certificate.json exported

All options of the first: hat-ray certify make --help""",
    no_args_is_help=True,
)
train_app = typer.Typer(help="Train the SuperTransformer, or one architecture from scratch.", no_args_is_help=True)
latency_app = typer.Typer(
    cls=_in_order("measure", "kit", "sweep", "onboard", "show", "validate", "compact", "import", "export"),
    help="Time architectures on devices.",
    no_args_is_help=True,
)
predict_app = typer.Typer(
    cls=_in_order("fit", "score", "latency"),
    help="Fit latency predictors, score them, and predict.",
    no_args_is_help=True,
)
import_app = typer.Typer(
    cls=_in_order("super", "model", "recipe"),
    help="Bring in what HAT, fairseq and others made.",
    no_args_is_help=True,
)
recipe_app = typer.Typer(help="List, show and check recipes.", no_args_is_help=True)
space_app = typer.Typer(help="Write a search space around a trained model.", no_args_is_help=True)
app.add_typer(run_app, name="run")
app.add_typer(corpus_app, name="corpus")
app.add_typer(search_app, name="search")
app.add_typer(certify_app, name="certify")
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(latency_app, name="latency")
app.add_typer(predict_app, name="predict")
app.add_typer(recipe_app, name="recipe")
app.add_typer(import_app, name="import")
app.add_typer(space_app, name="space")


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

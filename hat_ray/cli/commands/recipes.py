"""Look at a run before it begins: `hat-ray recipe list|show|check|schema`, `hat-ray corpus inspect`."""

from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from hat_ray.cli.app import corpus_app, recipe_app
from hat_ray.cli.options import AddressOpt, DataOpt, JsonOpt, RecipeArg, RunOpt, SetOpt
from hat_ray.cli.output import print_json, resolve
from hat_ray.core import console

if TYPE_CHECKING:
    from hat_ray.corpus.inspect import Inspection

_LONGEST = 50


@recipe_app.command("list", epilog="Example:  hat-ray recipe list")
def recipe_list(as_json: JsonOpt = False) -> None:
    """List the shipped recipes."""
    from hat_ray.recipe import load_recipe, shipped_recipes

    recipes = {name: load_recipe(name).description for name in shipped_recipes()}
    if as_json:
        print_json(recipes)
        return
    for name, description in recipes.items():
        typer.echo(f"{name:18} {description}")


@recipe_app.command("show", epilog="Example:  hat-ray recipe show toy > mine.yaml")
def recipe_show(recipe: RecipeArg, set_: SetOpt = None, as_json: JsonOpt = False) -> None:
    """Print a recipe with every setting.

    A start for one of your own.
    """
    from hat_ray.recipe import to_yaml

    loaded, _ = resolve(recipe, None, set_)
    if as_json:
        print_json(loaded.model_dump(mode="json"))
    else:
        typer.echo(to_yaml(loaded), nl=False)


@recipe_app.command(
    "check",
    epilog="""Examples:

hat-ray recipe check mine.yaml --data ~/text --set latency.beam=4

hat-ray recipe check mine.yaml --address auto --run s3://team/runs/mine     # can that cluster do it, and the store?

Of a run folder only unfinished stages are checked. The exit code is 2 when a check fails.""",
)
def recipe_check(
    recipe: RecipeArg,
    run: RunOpt = None,
    set_: SetOpt = None,
    data: DataOpt = None,
    address: AddressOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Check a recipe, and whether what it needs is there.

    Starts nothing. Prints one line for each check; a warning is only likely, or depends on the machine.
    """
    from hat_ray.cli.checks import MARKS, look
    from hat_ray.pipeline.preflight.table import failures, first_failure
    from hat_ray.storage.folder import Folder

    loaded, place = resolve(recipe, run, set_, data)
    space = loaded.space.build()
    named = place if run is not None or Folder.at(place).exists("run.json") else None
    results = look(loaded, named, address)
    if as_json:
        found = [asdict(result) for result in results]
        about = {"recipe": loaded.name, "space": space.name, "space_id": space.id, "architectures": str(space.size())}
        print_json({**about, "fit": not failures(results), "checks": found})
        if failures(results):
            raise typer.Exit(2)
        return
    for result in results:
        typer.echo(f"{MARKS[result.verdict]} {result.name}" + (f": {result.text}" if result.text else ""))
    if error := first_failure(results):
        raise error
    typer.echo(f"recipe {loaded.name} is fine; its space {space.name} holds {Decimal(space.size()):.3g} architectures")


@recipe_app.command(
    "schema",
    epilog="""Example:  hat-ray recipe schema > recipe.schema.json

With the line  # yaml-language-server: $schema=recipe.schema.json  at the top of a recipe, editors complete and explain
its settings.""",
)
def recipe_schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from hat_ray.recipe import json_schema

    typer.echo(json_schema())


@corpus_app.command(
    "inspect",
    epilog="""Examples:

hat-ray corpus inspect multi30k.en-de --data ~/multi30k

hat-ray corpus inspect mine.yaml --data text --set corpus.max_ratio=2.5 --examples 3 --pairs 0

A star marks the recipe's own values. Each filter is counted by itself: pairs that several leave out count for each.
Lengths are in sub-words, of a vocabulary that is learned from a sample unless the recipe names one. Nothing is
written.""",
)
def corpus_inspect(
    recipe: RecipeArg,
    set_: SetOpt = None,
    data: DataOpt = None,
    pairs: Annotated[
        int, typer.Option("--pairs", min=0, help="Pairs of each pair of training files to look at; 0: all.")
    ] = 100_000,
    examples: Annotated[int, typer.Option("--examples", min=0, max=3, help="Pairs to show for each filter.")] = 1,
    as_json: JsonOpt = False,
) -> None:
    """Preview what each filter leaves out of the training text.

    Also reports sides that do not belong together, and sources of validation and test in the training text.
    """
    from hat_ray.corpus.inspect import inspect_text
    from hat_ray.corpus.text.download import fetch

    loaded, _ = resolve(recipe, None, set_, data)
    if loaded.corpus.downloads:
        with console.progress_bar("downloading") as progress:
            fetch(loaded.corpus, progress)
    with console.progress_bar("reading the text") as progress:
        found = inspect_text(loaded.corpus, loaded.seed, pairs, progress)
    if as_json:
        findings = [{**finding.model_dump(mode="json"), "line": finding.line} for finding in found.findings]
        print_json({**asdict(found), "findings": findings})
        return
    for line in _lines(found, examples):
        typer.echo(line)


def _lines(found: "Inspection", examples: int) -> list[str]:
    """Return the tables and the findings, line by line."""
    from hat_ray.corpus.cleaning.finding import finding_lines
    from hat_ray.storage.plain_file import printable

    lines = [f"{found.pairs:,} training pairs looked at", ""]
    for one in found.filters:
        share = 100 * one.removes / found.pairs
        name = f"{one.setting}={one.value}"
        lines.append(f"{'*' if one.chosen else ' '} {name:32} leaves out {one.removes:9,} ({share:.1f} %)")
        lines += [
            f"      {example.number:,}: {printable(example.source, _LONGEST)} | {printable(example.target, _LONGEST)}"
            for example in one.examples[:examples]
        ]
    lines += ["", *(finding_lines(found.findings) or ["the sides belong together, by lengths and letters"])]
    why = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items())
    return [*lines, f"the recipe leaves out, before lengths are known: {why or 'nothing'}"]

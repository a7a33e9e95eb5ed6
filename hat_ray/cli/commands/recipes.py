"""`hat-ray recipe list|show|check|schema`."""

from dataclasses import asdict
from decimal import Decimal

import typer

from hat_ray.cli.app import recipe_app
from hat_ray.cli.options import AddressOpt, DataOpt, JsonOpt, RecipeArg, RunOpt, SetOpt
from hat_ray.cli.output import print_json, resolve


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

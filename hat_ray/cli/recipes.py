"""`hat-ray recipe list|show|check|schema`."""

import typer

from hat_ray.cli.app import recipe_app
from hat_ray.cli.options import JsonOpt, RecipeArg, SetOpt
from hat_ray.cli.run import print_json, resolve
from hat_ray.recipe import json_schema, load_recipe, shipped_recipes, to_yaml


@recipe_app.command("list", epilog="Example:  hat-ray recipe list")
def recipe_list(as_json: JsonOpt = False) -> None:
    """List the shipped recipes."""
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
    loaded, _ = resolve(recipe, None, set_)
    if as_json:
        print_json(loaded.model_dump(mode="json"))
    else:
        typer.echo(to_yaml(loaded), nl=False)


@recipe_app.command("check", epilog="Example:  hat-ray recipe check mine.yaml --set latency.beam=4")
def recipe_check(recipe: RecipeArg, set_: SetOpt = None, as_json: JsonOpt = False) -> None:
    """Check a recipe, its space included, without doing anything."""
    loaded, _ = resolve(recipe, None, set_)
    space = loaded.space.build()
    if as_json:
        print_json(
            {"recipe": loaded.name, "space": space.name, "space_id": space.id, "architectures": str(space.size())}
        )
        return
    typer.echo(f"recipe {loaded.name} is fine; its space {space.name} holds {space.size():.3g} architectures")


@recipe_app.command(
    "schema",
    epilog="""Example:  hat-ray recipe schema > recipe.schema.json

With the line  # yaml-language-server: $schema=recipe.schema.json  at the top of a recipe, editors complete and explain
its settings.""",
)
def recipe_schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    typer.echo(json_schema())

"""`hat-ray space around`."""

from typing import Annotated

import typer

from hat_ray.cli.app import space_app
from hat_ray.cli.options import JsonOpt
from hat_ray.cli.output import print_json


@space_app.command(
    "around",
    epilog="""Examples:

hat-ray space around model.pt > mine.yaml

hat-ray space around opus-mt-en-de > mine.yaml

The recipe then needs a corpus with the model's vocabulary; `hat-ray recipe check mine.yaml` names what is missing.""",
)
def space_around_model(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="File or folder of a trained model: HAT, fairseq, Marian, Hugging Face, hat-ray."
        ),
    ],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the recipe.")] = "mine",
    as_json: JsonOpt = False,
) -> None:
    """Write a recipe whose space lies around a trained model.

    The largest architecture has the model's widths, depths and heads; training starts from its weights.
    """
    import yaml

    from hat_ray.pipeline.imports.around import recipe_around

    recipe, opened = recipe_around(model, name)
    if as_json:
        print_json(recipe)
        return
    typer.echo(f"# {opened.model.holds}")
    for note in opened.notes:
        typer.echo(f"# {' '.join(note.split())}")
    typer.echo(yaml.safe_dump(recipe, sort_keys=False, default_flow_style=None, allow_unicode=True), nl=False)

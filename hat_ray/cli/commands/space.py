"""`hat-ray space around`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hat_ray.cli.app import space_app
from hat_ray.cli.options import JsonOpt
from hat_ray.cli.output import print_json

if TYPE_CHECKING:
    from hat_ray.foreign.opened import ForeignModel


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

    from hat_ray.foreign.open import open_foreign

    opened = open_foreign(model)
    recipe = _recipe(opened, model, name)
    if as_json:
        print_json(recipe)
        return
    typer.echo(f"# {opened.model.holds}")
    for note in opened.notes:
        typer.echo(f"# {' '.join(note.split())}")
    typer.echo(yaml.safe_dump(recipe, sort_keys=False, default_flow_style=None, allow_unicode=True), nl=False)


def _recipe(opened: "ForeignModel", place: str, name: str) -> dict[str, Any]:
    """Return the recipe's sections that follow from a model."""
    from hat_ray.model.checkpoints.start import network_settings
    from hat_ray.space.derived import space_around

    model = opened.model
    space = opened.space or space_around(model.holds)
    sizes = {"source": model.source_vocab_size, "target": model.target_vocab_size}
    largest = space.largest()
    one_width = largest.encoder.embed_dim == largest.decoder.embed_dim
    settings = network_settings(model.config)
    if one_width or model.config.share_embeddings != "all":
        settings["sharing"] = "importance"
    return {
        "name": name,
        "description": f"Around {place}, of {sizes['source']} source and {sizes['target']} target sub-words",
        "space": {key: value for key, value in space.to_dict().items() if key != "name"},
        "model": settings,
        "supernet": {"init": place},
    }

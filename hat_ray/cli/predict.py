"""`hat-ray predict score`; `fit` stands with the stages."""

from pathlib import Path
from typing import Annotated

import typer

from hat_ray.cli.app import predict_app
from hat_ray.cli.options import JsonOpt
from hat_ray.cli.run import print_json, resolve


@predict_app.command("score", epilog="Example:  hat-ray predict score runs/toy winner.yml")
def predict_score(
    run: Annotated[str, typer.Argument(help="A run folder with fitted predictors.")],
    architecture: Annotated[Path, typer.Argument(help="The architecture: HAT's YAML, or our JSON.")],
    as_json: JsonOpt = False,
) -> None:
    """Predict an architecture's latency on each device of a run."""
    from hat_ray.pipeline.all import predict_one

    loaded, place = resolve(run, None, None)
    predicted = predict_one(loaded, place, architecture)
    if as_json:
        print_json({"predicted_ms": predicted})
    else:
        for device, ms in predicted.items():
            typer.echo(f"{ms:10.2f} ms  {device}")

"""Commands that use or count models: `distil`, `cost`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hat_ray import console
from hat_ray.cli.app import app
from hat_ray.cli.folders import require_folder, resolve_run
from hat_ray.cli.options import JsonOpt
from hat_ray.cli.run import print_json
from hat_ray.space.cost import cost as architecture_cost
from hat_ray.space.hat_yaml import load_architecture


@app.command("distil", epilog="Example:  hat-ray distil runs/toy --out distilled --beam 4")
def distil(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder with retrained models.")],
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Folder for train.source and train.target.")],
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="Id of the model. Default: the first winner.")
    ] = None,
    beam: Annotated[int | None, typer.Option("--beam", min=1, help="Hypotheses kept. Default: the recipe's.")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Translate the training sources: a corpus to teach with.

    Smaller models learn more from what a larger one says. Goes on after a kill.
    """
    from hat_ray.pipeline.all import distil_corpus

    require_folder("--out", out, there=False)
    loaded, place = resolve_run(run, [f"evaluate.beam={beam}"] if beam else None)
    with console.progress_bar("translating the training set") as progress:
        made = distil_corpus(loaded, place, model, out, progress)
    if as_json:
        print_json(asdict(made))
    else:
        console.say(f"{made.lines} sentences: corpus.files.train_source={made.source} train_target={made.target}")


@app.command(epilog="Example:  hat-ray cost HAT_wmt14ende_xeon@204.2ms_bleu@27.6.yml --length 30 --json")
def cost(
    architecture: Annotated[Path, typer.Argument(metavar="FILE", help="The architecture: HAT's YAML, or our JSON.")],
    length: Annotated[
        int, typer.Option("--length", min=1, help="Source and target tokens; HAT: 30 WMT, 23 IWSLT.")
    ] = 30,
    qkv_dim: Annotated[int, typer.Option("--qkv-dim", min=1, help="Where the file does not say it; HAT: 512.")] = 512,
    as_json: JsonOpt = False,
) -> None:
    """Count parameters and FLOPs as HAT does.

    Its convention: no embeddings, no output layer.
    """
    shape = load_architecture(architecture, qkv_dim)
    counted = architecture_cost(shape, length)
    if as_json:
        print_json({"id": shape.id, "length": length, "params": counted.params, "flops": counted.flops})
    else:
        typer.echo(
            f"{counted.params / 1e6:.2f} M parameters, {counted.flops / 1e9:.2f} GFLOPs at length {length}: {shape}"
        )

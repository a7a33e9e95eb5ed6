"""`hat-ray train policies|sub`; `super` and `health` stand with the stages."""

import json
from pathlib import Path
from typing import Annotated

import typer

from hat_ray import console
from hat_ray.cli.app import train_app
from hat_ray.cli.folders import require_folder
from hat_ray.cli.options import AddressOpt, DataOpt, JsonOpt, LocalOpt, RecipeArg, RunOpt, SetOpt, SkipOpt, TakeOverOpt
from hat_ray.cli.run import print_json, resolve, run_stages


@train_app.command(
    "policies",
    epilog="""Examples:

hat-ray train policies multi30k.en-de --data ~/multi30k --seeds 3

hat-ray train policies toy --policies front/uniform,middle/uniform --set supernet.updates=500

A policy reads sharing/policy: sharing is front, middle or importance; policy is uniform, sandwich or stratified. Add
+distill to a sandwich for in-place distillation. All get the compute of supernet.updates uniform updates.""",
)
def train_policies(
    recipe: RecipeArg,
    policies: Annotated[
        str | None,
        typer.Option("--policies", metavar="POLICY,...", help="Policies, separated by commas. Default: the recipe's."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="SuperTransformers a policy. Default: the recipe's.")
    ] = None,
    run: RunOpt = None,
    set_: SetOpt = None,
    data: DataOpt = None,
    address: AddressOpt = None,
    local: LocalOpt = False,
    take_over: TakeOverOpt = False,
    as_json: JsonOpt = False,
    skip_checks: SkipOpt = False,
) -> None:
    """Compare training policies of the SuperTransformer.

    All get equal compute; each is told by how well it ranks architectures.
    """
    changes = list(set_ or [])
    if policies is not None:
        changes.append(f"policies.compare={json.dumps([name.strip() for name in policies.split(',')])}")
    if seeds is not None:
        changes.append(f"policies.seeds={seeds}")
    run_stages(
        recipe,
        run,
        changes,
        data,
        address,
        local,
        as_json,
        only="policies",
        take_over=take_over,
        skip_checks=skip_checks,
    )


@train_app.command("sub", epilog="Example:  hat-ray train sub winner.yml toy --out models/winner")
def train_sub(
    architecture: Annotated[Path, typer.Argument(metavar="FILE", help="The architecture: HAT's YAML, or our JSON.")],
    recipe: RecipeArg,
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Folder for the model.")],
    run: RunOpt = None,
    set_: SetOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Train one architecture from scratch.

    It lies in the recipe's space and gets its corpus and its settings of `retrain`.
    """
    from hat_ray.pipeline.all import train_one

    require_folder("--out", out, there=False)
    if run is not None:
        require_folder("run folder", run)
    loaded, place = resolve(recipe, run, set_)
    with console.progress_bar("training") as progress:
        result = train_one(loaded, place, architecture, out, progress)
    loss = result.valid_loss_bits["model"]
    if as_json:
        print_json({"out": out, "updates": result.updates, "valid_loss_bits": loss, "seconds": result.seconds})
    else:
        console.say(f"trained {out}: {result.updates} updates, validation loss {loss:.4f} bits a token")

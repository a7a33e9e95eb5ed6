"""`run` and the commands of single stages: all have the same options. `one_model.py` has those that take a model.

`hat-ray train policies|sub`; `super` and `ranking` stand with the stages.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hat_ray.cli.app import app, corpus_app, latency_app, predict_app, run_app, train_app
from hat_ray.cli.folders import require_folder
from hat_ray.cli.options import AddressOpt, DataOpt, JsonOpt, LocalOpt, RecipeArg, RunOpt, SetOpt, SkipOpt, TakeOverOpt
from hat_ray.cli.output import print_json, resolve, run_stages, share_of
from hat_ray.core import console


def _stage_command(owner: typer.Typer, name: str, stage: str | None, text: str, example: str) -> None:
    """Add the command of one stage, or of all: the same options for each."""

    def command(
        recipe: RecipeArg,
        run: RunOpt = None,
        set_: SetOpt = None,
        data: DataOpt = None,
        address: AddressOpt = None,
        local: LocalOpt = False,
        take_over: TakeOverOpt = False,
        as_json: JsonOpt = False,
        skip_checks: SkipOpt = False,
    ) -> None:
        run_stages(
            recipe, run, set_, data, address, local, as_json, only=stage, take_over=take_over, skip_checks=skip_checks
        )

    owner.command(name, help=text, epilog=f"Example:  {example}")(command)


_stage_command(
    run_app,
    "recipe",
    None,
    "Run every stage of a recipe, from text to report. Finished stages are skipped; interrupted ones resume.",
    "hat-ray run toy --set search.evaluations=200 --run runs/mine",
)


@run_app.command(
    "clean",
    epilog="""Examples:

hat-ray run clean runs/toy

hat-ray run clean runs/toy --yes

Results of earlier settings are kept: with those settings they are back at once. Current results are never deleted.""",
)
def run_clean(
    place: Annotated[str, typer.Argument(metavar="RUN", help="A run folder: a path or URI.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Delete what is listed. Default: only list it.")] = False,
    take_over: TakeOverOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """List results of earlier settings with their size, and delete them."""
    from hat_ray.pipeline.kept import size_text
    from hat_ray.pipeline.run_folder import clean_run

    results = clean_run(place, delete=yes, take_over=take_over)
    taken = sum(result.bytes for result in results)
    if as_json:
        print_json({"run": place, "deleted": yes, "bytes": taken, "results": [asdict(result) for result in results]})
        return
    for result in results:
        typer.echo(str(result))
    what = f"{len(results)} results of earlier settings, {size_text(taken)}"
    console.say(f"{place}: {what}: {'deleted' if yes else 'delete them with --yes'}" if results else f"{place}: {what}")


_stage_command(
    corpus_app,
    "prepare",
    "corpus",
    "Prepare the text: sub-words and token tables.",
    "hat-ray corpus multi30k.en-de --data ~/multi30k",
)
_stage_command(train_app, "super", "supernet", "Train the recipe's SuperTransformer on Ray.", "hat-ray train super toy")
_stage_command(
    train_app,
    "ranking",
    "ranking",
    "Measure how well inherited weights rank architectures. Trains a sample of them from scratch.",
    """

hat-ray train ranking runs/toy

hat-ray train ranking runs/toy --set ranking.architectures=24 --set ranking.seeds=3 --set ranking.bleu_sentences=200

Trained models are kept in runs/toy/trained and never trained again: an interrupted command resumes, and a larger number
trains only the missing ones.""",
)
_stage_command(
    latency_app,
    "sweep",
    "sweep",
    "Measure the effect of each dimension on latency, one at a time.",
    """

hat-ray latency sweep toy

hat-ray latency sweep runs/toy --set sweep.base=largest --address auto

Rows go to the recipe's latency table like all others. Architectures in the table are not timed again; an interrupted
sweep resumes. After `hat-ray latency measure` the report also compares FLOPs with latency.""",
)


@latency_app.command(
    "onboard",
    epilog="""Examples:

hat-ray latency onboard toy --error 5%

hat-ray latency onboard wmt14.en-de --error 3% --set latency.table=s3://team/latency --address auto

The most informative architectures are timed first; rows of other devices in the table help. The predictors are then
fitted: `hat-ray predict score RUN` reports their quality, and `hat-ray run` resumes from here.""",
)
def latency_onboard(
    recipe: RecipeArg,
    error: Annotated[
        str,
        typer.Option(
            "--error", metavar="SHARE", help="Stop when the predictor errs by less on unseen architectures: 5% or 0.05."
        ),
    ] = "5%",
    max_rows: Annotated[
        int | None, typer.Option("--max-rows", help="Maximum number of rows (default: latency.samples).")
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
    """Time a new device until its predictor is accurate.

    Times as few architectures as the requested error needs.
    """
    changes = [*(set_ or []), f"latency.target_error={share_of(error)}"]
    changes += [] if max_rows is None else [f"latency.samples={max_rows}"]
    records = run_stages(
        recipe,
        run,
        changes,
        data,
        address,
        local,
        as_json,
        only="onboard",
        take_over=take_over,
        skip_checks=skip_checks,
    )
    if as_json:
        return
    from hat_ray.core.codec import from_json
    from hat_ray.latency.output import LatencyOutput

    for slug, device in from_json(LatencyOutput, records[0].output, "the latency stage's output").devices.items():
        if (found := device.calibration) is not None:
            missed = "" if found.met else f", which is not below the {error} asked for"
            typer.echo(f"{slug}: {found.rows} rows, error {100 * found.error:.1f} %{missed}")


_stage_command(
    predict_app,
    "fit",
    "predictor",
    "Fit each device's latency predictor to its table. Others for the quantities that limits bound.",
    """

hat-ray predict fit toy

Quantities beside the latency that search.limits or latency.quantities name (p90_ms, p99_ms, peak_mb, energy_j, those of
an installed package) have a predictor each; model_mb is computed.""",
)
_stage_command(app, "retrain", "retrain", "Train the winners and what they are compared with.", "hat-ray retrain toy")


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

    All get equal compute; each is scored by its ranking of architectures.
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
    from hat_ray.pipeline.trained.one_model import train_one

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

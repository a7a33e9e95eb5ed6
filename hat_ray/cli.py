"""`hat-ray`: one command a stage, and `run` for all of them.

Exit codes: 0 success; 2 a user's mistake, told in one line; 1 a fault, with its traceback. With `--json` a command
prints exactly one JSON object on stdout; progress and logs go to stderr.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from hat_ray import __version__, console
from hat_ray.errors import LatencyError, RunError, user_error
from hat_ray.recipe import Recipe, json_schema, load_recipe, parse_recipe, shipped_recipes, to_yaml
from hat_ray.space.cost import cost as architecture_cost
from hat_ray.space.hat_yaml import load_architecture
from hat_ray.storage import Folder

app = typer.Typer(
    name="hat-ray",
    help="Find, for each device that you own, the most accurate translation Transformer within its latency budget.",
    epilog="Start with:  hat-ray run toy   (ten minutes on two cores)",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
train_app = typer.Typer(help="Train the SuperTransformer, or one architecture from scratch.", no_args_is_help=True)
latency_app = typer.Typer(help="Time architectures on devices.", no_args_is_help=True)
predict_app = typer.Typer(help="Fit latency predictors, and ask them.", no_args_is_help=True)
recipe_app = typer.Typer(help="List, show and check recipes.", no_args_is_help=True)
app.add_typer(train_app, name="train")
app.add_typer(latency_app, name="latency")
app.add_typer(predict_app, name="predict")
app.add_typer(recipe_app, name="recipe")

RecipeArg = Annotated[
    str, typer.Argument(help="Name of a shipped recipe, a YAML file, or a run folder.", show_default=False)
]
RunOpt = Annotated[
    str | None, typer.Option("--run", help="Run folder: a path or URI (s3://, gs://). Default: runs/<recipe's name>.")
]
SetOpt = Annotated[
    list[str] | None, typer.Option("--set", help="Override a setting: key.path=value, as often as needed.")
]
DataOpt = Annotated[str | None, typer.Option("--data", help="Folder that the recipe's text files stand in.")]
AddressOpt = Annotated[
    str | None,
    typer.Option("--address", help="Ray cluster to use (auto, or host:port). Default: $RAY_ADDRESS, else a local one."),
]
LocalOpt = Annotated[bool, typer.Option("--local", help="Work in this process, without Ray.")]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

STUDIES = ("health", "policies")
"""Stages that their own commands do, and whose whole result `--json` prints."""


def _version(show: bool) -> None:
    if show:
        typer.echo(f"hat-ray {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more of what happens.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    console.configure_logging(verbose)


def resolve(recipe: str, run: str | None, overrides: list[str] | None, data: str | None = None) -> tuple[Recipe, str]:
    """Return the recipe and the place of its run folder; a run folder given as recipe brings both."""
    changes = list(overrides or [])
    if data is not None:
        changes.append(f"corpus.files.folder={json.dumps(str(Path(data).absolute()))}")
    if ("://" in recipe or Path(recipe).is_dir()) and (folder := Folder.at(recipe)).exists("run.json"):
        if not folder.exists("recipe.yaml"):
            raise RunError(f"run folder {recipe} lacks its recipe.yaml: name the recipe, and the folder with --run")
        loaded = parse_recipe(folder.read_text("recipe.yaml"), f"{recipe}/recipe.yaml", changes)
        return loaded, run or recipe
    loaded = load_recipe(recipe, changes)
    return loaded, run or str(Path("runs") / loaded.name)


def _run(
    recipe: str,
    run: str | None,
    overrides: list[str] | None,
    data: str | None,
    address: str | None,
    local: bool,
    as_json: bool,
    only: str | None = None,
) -> None:
    """Do one stage, or all, and print what was made."""
    loaded, place = resolve(recipe, run, overrides, data)  # before the heavy imports: a mistake is told at once
    from hat_ray.pipeline.all import close_message, run_recipe, study_result

    records = run_recipe(loaded, place, address=address, local=local, only=only, progress=console.progress_bar)
    if as_json and only in STUDIES:
        print_json({"run": place, only: study_result(place, only)})
    elif as_json:
        print_json({"run": place, "stages": {record.stage: record.summary for record in records}})
    else:
        close_message(place, records)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _stage_command(owner: typer.Typer, name: str, stage: str | None, text: str, example: str) -> None:
    """Add the command of one stage, or of all: the same options for each."""

    def command(
        recipe: RecipeArg,
        run: RunOpt = None,
        set_: SetOpt = None,
        data: DataOpt = None,
        address: AddressOpt = None,
        local: LocalOpt = False,
        as_json: JsonOpt = False,
    ) -> None:
        _run(recipe, run, set_, data, address, local, as_json, only=stage)

    owner.command(name, help=text, epilog=f"Example:  {example}")(command)


_stage_command(
    app,
    "run",
    None,
    "Do a whole recipe, from text to report. What is finished is skipped, what was killed goes on.",
    "hat-ray run toy --set search.evaluations=200 --run runs/mine",
)
_stage_command(
    app,
    "corpus",
    "corpus",
    "Prepare the text: sub-words and token tables.",
    "hat-ray corpus multi30k.en-de --data ~/multi30k",
)
_stage_command(
    train_app, "super", "supernet", "Train the recipe's SuperTransformer with Ray Train.", "hat-ray train super toy"
)
_stage_command(
    train_app,
    "health",
    "health",
    "Train architectures from scratch and report how well inherited weights rank them.",
    """

hat-ray train health runs/toy

hat-ray train health runs/toy --set health.architectures=24 --set health.seeds=3 --set health.bleu_sentences=200

What is trained once is kept in runs/toy/trained and never trained again: a killed command goes on, and a larger number
trains only what is missing.""",
)
_stage_command(
    latency_app,
    "measure",
    "latency",
    "Time sampled architectures on every device into the latency table.",
    "hat-ray latency measure toy --set latency.samples=100",
)
_stage_command(
    predict_app, "fit", "predictor", "Fit each device's latency predictor to its table.", "hat-ray predict fit toy"
)
_stage_command(
    app,
    "search",
    "search",
    "Evolve architectures under latency limits with Ray Tune.",
    "hat-ray search toy --set search.limits_ms=[20,30]",
)
_stage_command(app, "retrain", "retrain", "Train the winners and the baselines from scratch.", "hat-ray retrain toy")
_stage_command(
    app,
    "evaluate",
    "evaluate",
    "Measure the retrained models on their devices and score them with sacreBLEU.",
    "hat-ray evaluate toy --set evaluate.beam=4",
)
_stage_command(app, "report", "report", "Write the page that shows what was found.", "hat-ray report runs/toy")


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
        str | None, typer.Option("--policies", help="Policies, separated by commas. Default: the recipe's.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="SuperTransformers a policy. Default: the recipe's.")
    ] = None,
    run: RunOpt = None,
    set_: SetOpt = None,
    data: DataOpt = None,
    address: AddressOpt = None,
    local: LocalOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Compare training policies of the SuperTransformer at equal compute, and how well each ranks architectures."""
    changes = list(set_ or [])
    if policies is not None:
        changes.append(f"policies.compare={json.dumps([name.strip() for name in policies.split(',')])}")
    if seeds is not None:
        changes.append(f"policies.seeds={seeds}")
    _run(recipe, run, changes, data, address, local, as_json, only="policies")


@train_app.command("sub", epilog="Example:  hat-ray train sub winner.yml toy --out models/winner")
def train_sub(
    architecture: Annotated[Path, typer.Argument(help="The architecture: HAT's YAML, or our JSON.")],
    recipe: RecipeArg,
    out: Annotated[str, typer.Option("--out", help="Folder for the model.")],
    run: RunOpt = None,
    set_: SetOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Train one architecture of the recipe's space from scratch, with the recipe's corpus and retrain settings."""
    from hat_ray.pipeline.all import train_one

    loaded, place = resolve(recipe, run, set_)
    with console.progress_bar("training") as progress:
        result = train_one(loaded, place, architecture, out, progress)
    loss = result.valid_loss_bits["model"]
    if as_json:
        print_json({"out": out, "updates": result.updates, "valid_loss_bits": loss, "seconds": result.seconds})
    else:
        console.say(f"trained {out}: {result.updates} updates, validation loss {loss:.4f} bits a token")


@latency_app.command("show", epilog="Example:  hat-ray latency show runs/toy/latency/table")
def latency_show(
    table: Annotated[str, typer.Argument(help="Root of a latency table: a path or URI.")], as_json: JsonOpt = False
) -> None:
    """List what a latency table holds: devices, spaces, rows, milliseconds, error."""
    from hat_ray.latency.describe import describe_table

    groups = describe_table(table)
    if as_json:
        print_json({"table": table, "groups": [asdict(group) for group in groups]})
        return
    if not groups:
        raise LatencyError(f"{table} holds no latency rows: time some with `hat-ray latency measure`")
    for group in groups:
        error = "" if group.median_relative_error is None else f", error {100 * group.median_relative_error:.2f} %"
        drift = "" if group.worst_drift is None else f", drift up to {100 * group.worst_drift:.1f} %"
        span = f"{group.fastest_ms:.4g}-{group.slowest_ms:.4g} ms"
        typer.echo(f"space {group.space_id}  {group.rows:6d} rows  {span}{error}{drift}  {group.device}")


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


@app.command(epilog="Example:  hat-ray translate runs/toy < source.txt > target.txt")
def translate(
    run: Annotated[str, typer.Argument(help="A run folder with retrained models.")],
    model: Annotated[str | None, typer.Option("--model", help="Id of the model. Default: the first winner.")] = None,
    beam: Annotated[int | None, typer.Option("--beam", min=1, help="Hypotheses kept. Default: the recipe's.")] = None,
) -> None:
    """Translate lines from stdin to stdout, in order."""
    from hat_ray.pipeline.all import translate_lines

    loaded, place = resolve(run, None, [f"evaluate.beam={beam}"] if beam else None)
    try:
        lines = sys.stdin.buffer.read().decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise RunError(f"stdin must be UTF-8 text, got byte {error.object[error.start]:#x} at {error.start}") from error
    with console.progress_bar("translating") as progress:
        for line in translate_lines(loaded, place, model, lines, progress):
            typer.echo(line)


@app.command("distil", epilog="Example:  hat-ray distil runs/toy --out distilled --beam 4")
def distil(
    run: Annotated[str, typer.Argument(help="A run folder with retrained models.")],
    out: Annotated[str, typer.Option("--out", help="Folder for train.source and train.target.")],
    model: Annotated[str | None, typer.Option("--model", help="Id of the model. Default: the first winner.")] = None,
    beam: Annotated[int | None, typer.Option("--beam", min=1, help="Hypotheses kept. Default: the recipe's.")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Translate the training sources, for a corpus that teaches what this model says. Goes on after a kill."""
    from hat_ray.pipeline.all import distil_corpus

    loaded, place = resolve(run, None, [f"evaluate.beam={beam}"] if beam else None)
    with console.progress_bar("translating the training set") as progress:
        made = distil_corpus(loaded, place, model, out, progress)
    if as_json:
        print_json(asdict(made))
    else:
        console.say(f"{made.lines} sentences: corpus.files.train_source={made.source} train_target={made.target}")


@app.command(epilog="Example:  hat-ray cost HAT_wmt14ende_xeon@204.2ms_bleu@27.6.yml --length 30 --json")
def cost(
    architecture: Annotated[Path, typer.Argument(help="The architecture: HAT's YAML, or our JSON.")],
    length: Annotated[
        int, typer.Option("--length", min=1, help="Source and target tokens; HAT: 30 WMT, 23 IWSLT.")
    ] = 30,
    qkv_dim: Annotated[int, typer.Option("--qkv-dim", min=1, help="Where the file does not say it; HAT: 512.")] = 512,
    as_json: JsonOpt = False,
) -> None:
    """Count parameters and FLOPs in HAT's convention: no embeddings, no output layer."""
    shape = load_architecture(architecture, qkv_dim)
    counted = architecture_cost(shape, length)
    if as_json:
        print_json({"id": shape.id, "length": length, "params": counted.params, "flops": counted.flops})
    else:
        typer.echo(
            f"{counted.params / 1e6:.2f} M parameters, {counted.flops / 1e9:.2f} GFLOPs at length {length}: {shape}"
        )


@recipe_app.command("list")
def recipe_list() -> None:
    """List the shipped recipes."""
    for name in shipped_recipes():
        typer.echo(f"{name:18} {load_recipe(name).description}")


@recipe_app.command("show", epilog="Example:  hat-ray recipe show toy > mine.yaml")
def recipe_show(recipe: RecipeArg, set_: SetOpt = None, as_json: JsonOpt = False) -> None:
    """Print a recipe with every setting resolved: a start for one of your own."""
    loaded, _ = resolve(recipe, None, set_)
    if as_json:
        print_json(loaded.model_dump(mode="json"))
    else:
        typer.echo(to_yaml(loaded), nl=False)


@recipe_app.command("check")
def recipe_check(recipe: RecipeArg, set_: SetOpt = None) -> None:
    """Check a recipe, its space included, without doing anything."""
    loaded, _ = resolve(recipe, None, set_)
    space = loaded.space.build()
    typer.echo(f"recipe {loaded.name} is fine; its space {space.name} holds {space.size():.3g} architectures")


@recipe_app.command("schema")
def recipe_schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    typer.echo(json_schema())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    call: Callable[..., Any] = app
    try:
        call(args=list(arguments) if arguments is not None else None, prog_name="hat-ray")
    except KeyboardInterrupt:
        console.say("hat-ray: stopped; the same command goes on from here")
        sys.exit(130)
    except Exception as error:
        mistake = user_error(error)
        if mistake is None:
            raise
        console.say(f"hat-ray: error: {' '.join(str(mistake).split())}")
        sys.exit(2)


if __name__ == "__main__":
    main()

"""Models of other programs: `hat-ray import` brings them in, `space around` is shaped by one, `convert` writes one."""

import os
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hat_ray.cli.app import app, import_app, space_app
from hat_ray.cli.commands.models import ModelOpt, recipe_of
from hat_ray.cli.folders import require_folder
from hat_ray.cli.options import JsonOpt, RunOpt, SetOpt
from hat_ray.cli.output import print_json
from hat_ray.core import console
from hat_ray.errors import RunError
from hat_ray.storage.faults import telling
from hat_ray.storage.places import is_uri

GpusOpt = Annotated[
    int | None,
    typer.Option(
        "--gpus", metavar="N", min=1, max=100_000, help="GPUs to train on, which fairseq takes from its machine."
    ),
]
NameOpt = Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the recipe. Default: by the file.")]


class MarianFormat(StrEnum):
    """What `convert` writes."""

    MODEL = "marian"
    CONFIG = "marian-config"


@import_app.command(
    "recipe",
    epilog="""Examples:

hat-ray import recipe configs/wmt14.en-de/supertransformer/space0.yml --gpus 8 > mine.yaml

hat-ray import recipe SUPER.yml SUB_COMMON.yml EVO.yml LATENCY_DATASET.yml PREDICTOR.yml --out mine.yaml

What each file is follows from its keys. Every key is a setting of the recipe, or a comment with the reason why none
takes it.""",
)
def import_recipe_command(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="HAT's YAML files of one experiment.")],
    name: NameOpt = "",
    gpus: GpusOpt = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="File to write. Default: print the recipe.")
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Turn HAT's YAML files into a recipe."""
    from hat_ray.pipeline.imports.hat_recipe import import_recipe

    _require_new_file(out)
    found = import_recipe(files, name, gpus)
    found.recipe.space.build()
    _write(out, found.to_yaml())
    if as_json:
        print_json({"recipe": found.settings, "mapped": found.mapped, "unmapped": found.unmapped})
    elif out is None:
        typer.echo(found.to_yaml(), nl=False)
    console.say(
        f"{len(found.mapped)} keys became settings; {len(found.unmapped)} did not, with the reasons in comments"
    )


@import_app.command(
    "super",
    epilog="""Examples:

hat-ray import super HAT_wmt14ende_super_space0.pt --space space0.yml --data-bin data-bin/wmt16_en_de --run runs/wmt

hat-ray import super super.pt --data-bin data-bin/mine --set corpus.vocabulary.bpe_codes=code \\
    --set corpus.fairseq.test_source=test.en --set corpus.fairseq.test_target=test.de

Then `hat-ray run runs/wmt` times, fits, searches and trains the winners; the SuperTransformer is not trained again.

Settings of training, batches and beam search come from the checkpoint. No code in it is executed.""",
)
def import_super_command(
    file: Annotated[str, typer.Argument(metavar="FILE.pt", help="Checkpoint of a SuperTransformer that HAT trained.")],
    data_bin: Annotated[
        str,
        typer.Option("--data-bin", metavar="FOLDER", help="The data that it was trained on, by fairseq-preprocess."),
    ],
    space: Annotated[
        str | None,
        typer.Option("--space", metavar="HAT.yml", help="HAT's YAML with the choices. Default: the checkpoint's own."),
    ] = None,
    run: RunOpt = None,
    languages: Annotated[
        str | None,
        typer.Option(
            "--languages", metavar="SRC-TGT", help="Source and target, such as en-de. Default: the files' own."
        ),
    ] = None,
    name: NameOpt = "",
    set_: SetOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Turn a SuperTransformer and its data-bin into a run folder.

    `hat-ray run` resumes from there.
    """
    from hat_ray.pipeline.imports.super_run import SuperImport, import_super

    what = SuperImport(file, data_bin, space, languages, name, tuple(set_ or ()))
    made = import_super(what, run, console.progress_bar)
    losses, folder, updates = dict(made.result.valid_loss_bits), str(made.run.folder), made.result.updates
    if as_json:
        noted = made.noted_loss_bits
        print_json({"run": folder, "updates": updates, "valid_loss_bits": losses, "checkpoint_loss_bits": noted})
        return
    typer.echo(f"{folder}: {updates:,} updates; bits a token on the validation set:")
    for architecture, loss in losses.items():
        typer.echo(f"  {architecture}: {loss:.4f}")
    if made.noted_loss_bits is not None:
        typer.echo(f"  the same by the checkpoint: {made.noted_loss_bits:.4f}")
    console.say(f"next: hat-ray run {shlex.quote(folder)}")


@import_app.command(
    "model",
    epilog="""Examples:

hat-ray import model HAT_wmt14ende_xeon@137.9ms.pt --data-bin data-bin/wmt16_en_de --out models/xeon \\
    --set corpus.vocabulary.bpe_codes=code --set corpus.vocabulary.tokenise=moses

hat-ray import model opus-mt-en-de --languages en-de --out models/opus

hat-ray import model model.npz --out models/marian

Then `hat-ray translate`, `evaluate`, `latency measure`, `export`, `serve` and `cost` take the folder.""",
)
def import_model_command(
    place: Annotated[
        str,
        typer.Argument(
            metavar="PLACE", help="HAT's or fairseq's .pt, Marian's .npz, a folder of Hugging Face's MarianMTModel."
        ),
    ],
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Model folder to make.")],
    data_bin: Annotated[
        str | None,
        typer.Option(
            "--data-bin", metavar="FOLDER", help="Folder with the dictionaries of a .pt, by fairseq-preprocess."
        ),
    ] = None,
    languages: Annotated[
        str | None, typer.Option("--languages", metavar="SRC-TGT", help="Source and target, such as en-de.")
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option("--architecture", metavar="FILE", help="Architecture to cut out of a SuperTransformer."),
    ] = None,
    set_: SetOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Turn a trained model of another program into a model folder."""
    from hat_ray.pipeline.imports.model import ModelImport, import_model

    made = import_model(ModelImport(place, data_bin, languages, architecture, tuple(set_ or ())), out)
    about, (source, target) = made.about, made.sizes
    if as_json:
        shape = made.model.architecture.to_dict()
        print_json({"folder": out, "origin": about.origin, "vocabularies": [source, target], "architecture": shape})
        return
    typer.echo(
        f"{out}: {about.origin}, {about.direction or 'languages unknown'}, vocabularies of {source} and {target}"
    )
    typer.echo(f"  {made.model.architecture}")
    console.say(f"next: hat-ray translate {shlex.quote(out)} < source.txt")


@app.command(
    epilog="""Examples:

hat-ray convert models/mine --out marian

marian-decoder -c marian/decoder.yml --cpu-threads 1 < source.txt   (Marian's own program)

hat-ray convert runs/students.en-de --format marian-config --out student.yml

marian -c student.yml --train-sets corpus.en corpus.de --vocabs vocab.spm vocab.spm --model student.npz

Marian has one width, one number of heads and one feed-forward width a side, and a decoder that attends to the last
encoder layer only. A space with `space.alike_layers: true`, one width, one number of heads and `decoder_cross_layers:
[1]` has such architectures alone. With weights the network's settings must be those of a model that came from Marian
(`model.positions: marian`, `start: zero`, `layer_norm_eps: 1.0e-6`). All else is refused in one line.""",
)
def convert(
    place: Annotated[
        str,
        typer.Argument(
            metavar="PLACE",
            help="A run folder with retrained models, or a model folder. For a configuration also a run after its "
            "search, or the file of an architecture.",
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="PLACE",
            help="Folder for model.npz, the sub-words and decoder.yml, or new file for the configuration. Default of "
            "the latter: print it.",
        ),
    ] = None,
    format_: Annotated[
        MarianFormat,
        typer.Option(
            "--format", help="marian: the weights, for Marian's decoder. marian-config: Marian trains the same shape."
        ),
    ] = MarianFormat.MODEL,
    model: ModelOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Write a model as Marian's decoder reads it.

    With `--format marian-config` it writes the options with which Marian trains the same shape.
    """
    if format_ is MarianFormat.CONFIG:
        _write_config(place, out, model, as_json)
        return
    if out is None:
        raise RunError("--out must name the folder for Marian's files, got none: add --out FOLDER")
    require_folder("--out", out, there=False)
    from hat_ray.exchange import write_for_marian
    from hat_ray.foreign.marian.folder import MODEL, SETTINGS

    recipe, folder = recipe_of(place, None)
    notes = write_for_marian(folder, out, model, recipe)
    if as_json:
        print_json({"folder": out, "model": MODEL, "settings": SETTINGS, "notes": list(notes)})
        return
    for note in notes:
        console.say(note)
    console.say(f"next: marian-decoder -c {shlex.quote(f'{out}/{SETTINGS}')} < source.txt")


def _write_config(place: str, out: str | None, model: str | None, as_json: bool) -> None:
    """Print, or write to a new file, the options with which Marian trains a model's shape."""
    _require_new_file(out)
    from hat_ray.core.yaml_text import read_mapping
    from hat_ray.exchange import config_for_marian

    recipe, folder = recipe_of(place, None)
    text = config_for_marian(folder, model, recipe)
    _write(out, text)
    if as_json:
        print_json(read_mapping(text, place, RunError).values)
    elif out is None:
        typer.echo(text, nl=False)


def _require_new_file(out: str | None) -> None:
    if out is not None and (is_uri(out) or os.path.exists(out)):
        why = "is a URI" if is_uri(out) else "exists"
        raise RunError(f"--out must name a new file of this machine, {out} {why}: name another")


def _write(out: str | None, text: str) -> None:
    if out is not None:
        with telling(out, remote=False):
            Path(out).write_text(text, encoding="utf-8")


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

"""Commands that serve models: `translate`, `export`.

Commands that use or count models: `distil`, `cost`.
"""

import sys
import time
from dataclasses import asdict
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from hat_ray.cli.app import app
from hat_ray.cli.folders import require_folder, resolve_run
from hat_ray.cli.options import JsonOpt
from hat_ray.cli.output import print_json
from hat_ray.core import console
from hat_ray.errors import HatRayError, RunError
from hat_ray.storage.plain_file import read_text

if TYPE_CHECKING:
    from hat_ray.export.stream import TranslationScore
    from hat_ray.serve.model_source import ModelSource

_REFERENCE_BYTES = 1 << 30

ModelOpt = Annotated[
    str | None, typer.Option("--model", metavar="MODEL", help="Id of the model. Default: the first winner.")
]
ShortListOpt = Annotated[
    int | None,
    typer.Option(
        "--short-list", min=1, help="Runtime onnx: target words for each source word. Default: all may follow."
    ),
]
RuntimeOpt = Annotated[
    str | None,
    typer.Option(
        "--runtime", metavar="RUNTIME", help="Runtime of a run's model: eager (default), packed, onnx, ctranslate2."
    ),
]
DtypeOpt = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="DTYPE",
        help="Of a run's model: fp32 (default), bf16 (eager, packed), int8 (onnx, ctranslate2).",
    ),
]
BeamOpt = Annotated[
    int | None, typer.Option("--beam", min=1, help="Hypotheses kept. Default: the recipe's, or the export's.")
]


@app.command(
    epilog="""Examples:

hat-ray translate runs/toy < source.txt > target.txt

hat-ray translate runs/toy --runtime onnx --dtype int8 < source.txt > target.txt

hat-ray translate exported --score reference.txt < source.txt > target.txt

Translations come out as groups of lines come in: a pipe that brings one line gets one back."""
)
def translate(
    place: Annotated[
        str, typer.Argument(metavar="FOLDER", help="A run folder with retrained models, or an exported model's folder.")
    ],
    model: ModelOpt = None,
    beam: BeamOpt = None,
    runtime: RuntimeOpt = None,
    dtype: DtypeOpt = None,
    short_list: ShortListOpt = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Default: all cores.")] = None,
    score: Annotated[
        Path | None,
        typer.Option("--score", metavar="FILE", help="Reference, line by line: report BLEU, chrF, speed and memory."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --score: print its figures as one JSON object instead of translations.")
    ] = False,
) -> None:
    """Translate lines from stdin to stdout, in order."""
    if as_json and score is None:
        raise RunError("--json prints the figures of --score: name a reference with --score, or leave --json out")
    if sys.stdin is None:
        raise RunError("stdin is closed: give lines to translate by `< FILE`")
    references = None if score is None else _lines(score)
    from hat_ray.export.stream import read_groups, score_stream, translate_stream

    served = model_choice(place, model, beam, runtime, dtype, short_list).open(threads or 0)
    pairs: list[tuple[str, str]] = []
    started = time.perf_counter()
    with console.progress_bar("translating") as progress:
        for source, text in translate_stream(served, read_groups(cast(BufferedReader, sys.stdin.buffer)), progress):
            if references is not None:
                pairs.append((source, text))
            if not as_json:
                sys.stdout.write(f"{text}\n")
                sys.stdout.flush()
    if references is not None:
        seconds = time.perf_counter() - started
        figures = score_stream(pairs, references, served.config.tokenizer, seconds)
        print_json(asdict(figures)) if as_json else _tell(figures)


@app.command(
    epilog="""Examples:

hat-ray export runs/toy --out exported

hat-ray export runs/toy --dtype int8 --out exported-int8 --sentences 200

python exported/translate.py < source.txt   (needs numpy, onnxruntime and sentencepiece only)

hat-ray export runs/toy --runtime ctranslate2 --dtype int8 --out exported-ct2   (needs hat-ray[ctranslate2])

CTranslate2 can run what has one number of heads in the encoder and one in the decoder, and a decoder that attends to
the last encoder layer only; hidden widths, depths and the sides' widths are free. All else is refused in one line.

Exit code 2, and no folder, when its translations differ from the model's by more than the bounds."""
)
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder with retrained models.")],
    out: Annotated[
        str, typer.Option("--out", metavar="FOLDER", help="Folder to make; an earlier export there is replaced.")
    ],
    model: ModelOpt = None,
    runtime: Annotated[
        str,
        typer.Option("--runtime", metavar="RUNTIME", help="Runtime of the export: onnx, or ctranslate2 where it can."),
    ] = "onnx",
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="DTYPE", help="Numbers of weights and products: fp32 or int8.")
    ] = "fp32",
    short_list: ShortListOpt = None,
    beam: BeamOpt = None,
    sentences: Annotated[
        int | None, typer.Option("--sentences", min=1, help="Test sentences of the parity check. Default: all.")
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option("--min-agreement", min=0, max=1, help="Share of tokens in common. Default: 0.99; int8: any."),
    ] = None,
    max_bleu_loss: Annotated[
        float | None, typer.Option("--max-bleu-loss", help="BLEU that may be lost. Default: 0.1; int8: 0.3.")
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Export a model with its loader.

    It is checked to give the same translations, and needs nothing of hat-ray.
    """
    require_folder("--out", out, there=False)
    loaded, place = resolve_run(run, [f"evaluate.beam={beam}"] if beam else None)
    from hat_ray.pipeline.models import export_run

    wanted: dict[str, Any] = {"min_agreement": min_agreement, "max_bleu_loss": max_bleu_loss}
    wanted |= {"sentences": sentences, "runtime": runtime, "short_list": short_list or 0}
    with console.progress_bar("translating the test set") as progress:
        made = export_run(loaded, place, model, out, dtype, **wanted, progress=progress)
    if as_json:
        print_json(asdict(made))
        return
    parity = made.parity
    console.say(
        f"{made.folder}: {made.dtype}, {made.file_bytes / 1e6:.1f} MB; {parity.identical} of {parity.sentences} "
        f"translations identical, token agreement {100 * parity.token_agreement:.2f} %, "
        f"BLEU {parity.bleu:.2f} -> {parity.exported_bleu:.2f}, largest logit error {parity.logit_error:.2g} "
        f"({parity.arithmetic})"
    )


def model_choice(
    place: str, model: str | None, beam: int | None, runtime: str | None, dtype: str | None, short_list: int | None
) -> "ModelSource":
    """Return the exported model that a folder is, or a run's model on a runtime."""
    from hat_ray.serve.model_source import ModelSource, is_exported

    if is_exported(place):
        return ModelSource(place, None, model, runtime, dtype, short_list, beam).resolved(_flag_of)
    from hat_ray.runtime.protocol import RuntimeSettings, require_runtime

    require_runtime(runtime or "eager", RuntimeSettings(dtype or "fp32"))
    loaded, folder = resolve_run(place, [f"evaluate.beam={beam}"] if beam else None)
    return ModelSource(folder, loaded, model, runtime or "eager", dtype or "fp32", short_list or 0)


def _flag_of(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def _lines(path: Path) -> list[str]:
    """Return the lines of a reference file."""
    return read_text(path, "--score: reference", HatRayError, _REFERENCE_BYTES).removesuffix("\n").split("\n")


def _tell(figures: "TranslationScore") -> None:
    text, floor = figures.text, figures.copy_floor
    console.say(f"BLEU {text.bleu:.2f} (copying the source: {floor.bleu:.2f})  {text.bleu_signature}")
    if text.chrf is not None and floor.chrf is not None:
        console.say(f"chrF {text.chrf:.2f} (copying the source: {floor.chrf:.2f})  {text.chrf_signature}")
    console.say(
        f"{figures.sentences} sentences, {figures.sentences_per_second:.1f} a second, "
        f"peak memory {figures.peak_memory_bytes / 2**20:.0f} MiB"
    )


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
    """Translate the training sources.

    Use it as training text for a smaller model (sequence-level distillation). Resumable.
    """
    from hat_ray.api import distil_corpus

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
    qkv_dim: Annotated[int, typer.Option("--qkv-dim", min=1, help="Used where the file has none; HAT: 512.")] = 512,
    as_json: JsonOpt = False,
) -> None:
    """Count parameters and FLOPs as HAT does.

    Its convention: no embeddings, no output layer.
    """
    from hat_ray.space.cost import cost as architecture_cost
    from hat_ray.space.hat_yaml import load_architecture

    shape = load_architecture(architecture, qkv_dim)
    counted = architecture_cost(shape, length)
    if as_json:
        print_json({"id": shape.id, "length": length, "params": counted.params, "flops": counted.flops})
    else:
        typer.echo(
            f"{counted.params / 1e6:.2f} M parameters, {counted.flops / 1e9:.2f} GFLOPs at length {length}: {shape}"
        )

"""Commands that use trained models: `translate`, `export`, `distil`."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from hat_ray.cli.app import app
from hat_ray.cli.decoding import DecodingCommand, with_decoding
from hat_ray.cli.folders import require_folder, resolve_run
from hat_ray.cli.glossary import GlossaryOpt, NoProtectOpt, glossary_terms
from hat_ray.cli.options import JsonOpt, ThreadsOpt
from hat_ray.cli.output import print_json
from hat_ray.core import console
from hat_ray.errors import HatRayError, RunError
from hat_ray.model.hypotheses.knobs import Decoding, why_not
from hat_ray.storage import plain_file

if TYPE_CHECKING:
    from hat_ray.evaluate.comet.model import CometModel
    from hat_ray.export.stream import TranslationScore
    from hat_ray.recipe import Recipe
    from hat_ray.serve.model_source import ModelSource

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
        "--runtime",
        metavar="RUNTIME",
        help="Of a run's model: eager, packed, onnx, ctranslate2. Default: the fastest.",
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
NoSplitOpt = Annotated[
    bool,
    typer.Option("--no-split", help="Translate each line whole. One that is too long is translated in parts even so."),
]
MetricOpt = Annotated[
    list[str] | None,
    typer.Option("--metric", metavar="METRIC", help="A further metric: chrf++, ter or comet; may be repeated."),
]
CometOpt = Annotated[
    str | None,
    typer.Option("--comet-model", metavar="FOLDER", help="Of metric comet: local folder of its model, as Marian's."),
]
BeamOpt = Annotated[
    int | None, typer.Option("--beam", min=1, help="Hypotheses kept. Default: the recipe's, or the export's.")
]


@app.command(
    cls=DecodingCommand,
    epilog="""Examples:

hat-ray translate runs/toy < source.txt > target.txt

hat-ray translate runs/toy --runtime onnx --dtype int8 < source.txt > target.txt

hat-ray translate exported --score reference.txt < source.txt > target.txt

hat-ray translate exported --n-best 3 --beam 5 < source.txt > hypotheses.jsonl

hat-ray translate exported --no-repeat-ngram-size 3 --retry-loops < source.txt > target.txt

hat-ray translate exported --sampling --top-k 10 --temperature 0.8 --seed 1 < source.txt > target.txt

Translations come out as groups of lines come in: a pipe that brings one line gets one back. A line ends with a line
feed; an exported translate.py and the service give the same for the same line.

Each line is split into sentences, which are translated one by one and joined again. A sentence that is longer than the
model reads is translated in parts. URLs, e-mail addresses, placeholders, mark-up, numbers, emoji and code come through
as they are, where the model learned to (`corpus.protect`). With --score, as `hat-ray evaluate` does, with --prefix, and
where hypotheses are printed, lines are taken as they are, and cut where they are too long.""",
)
@with_decoding
def translate(
    place: Annotated[
        str, typer.Argument(metavar="FOLDER", help="A run folder with retrained models, a model folder, or an export.")
    ],
    model: ModelOpt = None,
    beam: BeamOpt = None,
    runtime: RuntimeOpt = None,
    dtype: DtypeOpt = None,
    short_list: ShortListOpt = None,
    threads: ThreadsOpt = None,
    score: Annotated[
        list[Path] | None,
        typer.Option(
            "--score",
            metavar="FILE",
            help="Reference, also compressed: report BLEU, chrF, speed and memory. May be repeated.",
        ),
    ] = None,
    metric: MetricOpt = None,
    no_split: NoSplitOpt = False,
    comet_model: CometOpt = None,
    no_protect: NoProtectOpt = False,
    glossary: GlossaryOpt = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --score: print its figures as one JSON object instead of translations.")
    ] = False,
    *,
    decoding: Decoding,
    details: bool,
) -> None:
    """Translate lines from stdin to stdout, in order."""
    if as_json and score is None:
        raise RunError("--json prints the figures of --score: name a reference with --score, or leave --json out")
    if sys.stdin is None:
        raise RunError("stdin is closed: give lines to translate by `< FILE`")
    references = [read_lines("--score", path) for path in score or ()]
    others, comet = metrics_of(metric), comet_of(metric, comet_model, len(score or ()))
    if others and not references:
        raise RunError("--metric adds to the figures of --score: name a reference with --score, or leave --metric out")
    if (reason := why_not(decoding, beam or decoding.n_best)) is not None:
        raise RunError(reason)
    whole = bool(references or decoding.prefix or details)
    terms = glossary_terms(glossary, unfit=whole or no_protect)
    from hat_ray.evaluate.tokenizer_files import require_tokenizer
    from hat_ray.export.stream import details_stream, read_groups, score_stream, translate_stream

    groups = read_groups(cast(BufferedReader, sys.stdin.buffer))
    if references:
        groups = counted(groups, references)
    served = model_choice(place, model, beam, runtime, dtype, short_list).open(threads or 0)
    if references:
        require_tokenizer(served.config.tokenizer, None)
    front = None if whole else served.front_end(not no_split, protect=not no_protect, terms=terms)
    pairs: list[tuple[str, str]] = []
    started = time.perf_counter()
    with console.progress_bar("translating") as progress:
        for source, text, shown in (
            details_stream(served, groups, decoding, progress)
            if details
            else ((*pair, pair[1]) for pair in translate_stream(served, groups, progress, decoding, front))
        ):
            if references:
                pairs.append((source, text))
            if not as_json:
                sys.stdout.buffer.write(f"{shown}\n".encode())  # text would end lines as the system does
                sys.stdout.buffer.flush()
    if front is not None:
        front.finish()
    if references:
        seconds = time.perf_counter() - started
        figures = score_stream(pairs, references, served.config.tokenizer, seconds, others, comet)
        print_json(asdict(figures)) if as_json else tell_score(figures)


@app.command(
    epilog="""Examples:

hat-ray export runs/toy --out exported

hat-ray export runs/toy --dtype int8 --out exported-int8 --sentences 200

hat-ray export models/winner --dtype int8 --out exported --source test.en --reference test.de

python exported/translate.py < source.txt   (needs numpy, onnxruntime and sentencepiece only)

hat-ray export runs/toy --runtime ctranslate2 --dtype int8 --out exported-ct2   (needs hat-ray[ctranslate2])

CTranslate2 can run what has one number of heads in the encoder and one in the decoder, and a decoder that attends to
the last encoder layer only; hidden widths, depths and the sides' widths are free. All else is refused in one line.

Exit code 2, and no folder, when its translations differ from the model's by more than the bounds."""
)
def export(
    place: Annotated[
        str, typer.Argument(metavar="FOLDER", help="A run folder with retrained models, or a model folder.")
    ],
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
    source: Annotated[
        Path | None,
        typer.Option("--source", metavar="FILE", help="Sentences of the parity check. Default: the run's test set."),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", metavar="FILE", help="Their translations, line by line.")
    ] = None,
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
    lines = check_lines(source, reference)
    loaded, place = recipe_of(place, beam)
    from hat_ray.export.parity import CheckText
    from hat_ray.pipeline.models import export_place

    wanted: dict[str, Any] = {"min_agreement": min_agreement, "max_bleu_loss": max_bleu_loss, "beam": beam}
    wanted |= {"sentences": sentences, "runtime": runtime, "short_list": short_list or 0}
    wanted |= {"text": CheckText(*lines) if lines else None}
    with console.progress_bar("translating the test set") as progress:
        made = export_place(place, out, dtype, loaded, model, **wanted, progress=progress)
    if as_json:
        print_json(asdict(made))
        return
    parity = made.parity
    known = parity.bleu is not None and parity.exported_bleu is not None
    bleu = f"BLEU {parity.bleu:.2f} -> {parity.exported_bleu:.2f}, " if known else ""
    console.say(
        f"{made.folder}: {made.dtype}, {made.file_bytes / 1e6:.1f} MB; {parity.identical} of {parity.sentences} "
        f"translations identical, token agreement {100 * parity.token_agreement:.2f} %, "
        f"{bleu}largest logit error {parity.logit_error:.2g} ({parity.arithmetic})"
    )


def model_choice(
    place: str, model: str | None, beam: int | None, runtime: str | None, dtype: str | None, short_list: int | None
) -> "ModelSource":
    """Return the model that a place holds: an export, or that of a model folder or a run on a runtime."""
    from hat_ray.pipeline.places import holds_a_run
    from hat_ray.serve.model_source import ModelSource

    if not holds_a_run(place):
        return ModelSource(place, None, model, runtime, dtype, short_list, beam).resolved(_flag_of)
    from hat_ray.runtime.choice import require
    from hat_ray.runtime.protocol import RuntimeSettings

    require(runtime, RuntimeSettings(dtype or "fp32"))
    loaded, folder = resolve_run(place, [f"evaluate.beam={beam}"] if beam else None)
    return ModelSource(folder, loaded, model, runtime, dtype or "fp32", short_list or 0)


def recipe_of(place: str, beam: int | None) -> "tuple[Recipe | None, str]":
    """Return the recipe and the folder of a run; no recipe of any other place."""
    from hat_ray.pipeline.places import holds_a_run

    if not holds_a_run(place):
        return None, place
    return resolve_run(place, [f"evaluate.beam={beam}"] if beam else None)


def check_lines(source: Path | None, reference: Path | None) -> tuple[list[str], list[str] | None] | None:
    """Return the lines that the options name, as many of both; None where they name none."""
    if source is None:
        if reference is not None:
            raise RunError("--reference translates the lines of --source: name both")
        return None
    sources = read_lines("--source", source)
    references = None if reference is None else read_lines("--reference", reference)
    if references is not None and len(references) != len(sources):
        raise RunError(
            f"--source and --reference must have equally many lines, got {len(sources)} and {len(references)}"
        )
    return sources, references


def _flag_of(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def read_lines(option: str, path: Path) -> list[str]:
    """Return the lines of a text file that an option names; it may be compressed."""
    from hat_ray.storage import packed_text

    return packed_text.read_lines(path, f"{option}: text", HatRayError)


def metrics_of(names: list[str] | None) -> list[str]:
    """Return the metrics that options name; raise RunError for one that is not known."""
    if not names:
        return []
    from hat_ray.evaluate.metrics import METRICS

    if wrong := [name for name in names if name not in METRICS]:
        raise RunError(f"--metric must be {', '.join(METRICS)}, got {plain_file.printable(wrong[0])!r}")
    return names


def comet_of(names: list[str] | None, folder: str | None, references: int) -> "CometModel | None":
    """Return the model of metric comet, where that is named; raise RunError where it cannot be computed."""
    if ("comet" in (names or ())) != (folder is not None):
        raise RunError("--metric comet and --comet-model go together: name both, or neither")
    if folder is None:
        return None
    if references > 1:
        raise RunError(f"--metric comet compares with one reference, got {references}: name one, or leave comet out")
    from hat_ray.evaluate.comet.model import CometModel

    return CometModel.open(folder)


def counted(groups: Iterator[list[str]], references: list[list[str]]) -> Iterator[list[str]]:
    """Read all lines, and refuse another number of them than the references have, before any is translated."""
    read = list(groups)
    require_alike({"stdin": [line for group in read for line in group]}, references)
    return iter(read)


def require_alike(texts: Mapping[str, Sequence[str]], references: Sequence[Sequence[str]]) -> None:
    """Raise RunError unless texts and references all have the same number of lines, and one at least."""
    counts = {name: len(lines) for name, lines in texts.items()}
    counts |= {f"reference {number}": len(lines) for number, lines in enumerate(references, 1)}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} in {name}" for name, count in counts.items())
        raise RunError(f"texts and references must have equally many lines, got {found}: give each sentence one line")


def tell_score(figures: "TranslationScore") -> None:
    """Print quality and cost of a text's translations on stderr."""
    text, floor = figures.text, figures.copy_floor
    console.say(f"BLEU {text.bleu:.2f} (copying the source: {floor.bleu:.2f})  {text.bleu_signature}")
    if text.chrf is not None and floor.chrf is not None:
        console.say(f"chrF {text.chrf:.2f} (copying the source: {floor.chrf:.2f})  {text.chrf_signature}")
    for one, copied in zip(text.others, floor.others, strict=True):
        console.say(f"{one.metric} {one.score:.2f} (copying the source: {copied.score:.2f})  {one.signature}")
    console.say(
        f"{figures.sentences} sentences, {figures.sentences_per_second:.1f} a second, "
        f"peak memory {figures.peak_memory_bytes / 2**20:.0f} MiB"
    )


@app.command(
    "distil",
    epilog="""Examples:

hat-ray distil runs/toy --out distilled --beam 4

hat-ray distil models/opus --source train.en --out distilled

hat-ray distil exported --source train.en --out distilled --threads 4""",
)
def distil(
    place: Annotated[
        str, typer.Argument(metavar="FOLDER", help="A run folder with retrained models, a model folder, or an export.")
    ],
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Folder for train.source and train.target.")],
    source: Annotated[
        Path | None,
        typer.Option("--source", metavar="FILE", help="Sentences, one a line. Default: the run's training sources."),
    ] = None,
    model: ModelOpt = None,
    beam: BeamOpt = None,
    runtime: RuntimeOpt = None,
    dtype: DtypeOpt = None,
    threads: ThreadsOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Translate the training sources, or a text.

    Use it as training text for a smaller model (sequence-level distillation). Resumable.
    """
    from hat_ray.exchange import distil_text

    require_folder("--out", out, there=False)
    lines = None if source is None else read_lines("--source", source)
    chosen = model_choice(place, model, beam, runtime, dtype, None)
    with console.progress_bar("translating the text") as progress:
        made = distil_text(chosen, out, lines, threads or 0, progress, "--source")
    if as_json:
        print_json(asdict(made))
    else:
        console.say(f"{made.lines} sentences: corpus.files.train_source={made.source} train_target={made.target}")

"""Commands of one stage or of one model, wherever it is: `evaluate`, `latency measure`, `cost`."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from hat_ray.cli.app import app, evaluate_app, latency_app
from hat_ray.cli.commands.models import (
    BeamOpt,
    CometOpt,
    DtypeOpt,
    MetricOpt,
    ModelOpt,
    RuntimeOpt,
    check_lines,
    comet_of,
    metrics_of,
    model_choice,
    read_lines,
    require_alike,
    tell_score,
)
from hat_ray.cli.options import AddressOpt, DataOpt, JsonOpt, LocalOpt, RunOpt, SetOpt, SkipOpt, TakeOverOpt, ThreadsOpt
from hat_ray.cli.output import print_json, run_stages
from hat_ray.core import console
from hat_ray.errors import RunError

_SURE = 0.05
"""The chance below which a difference is called one."""

PlaceArg = Annotated[
    str,
    typer.Argument(
        metavar="PLACE",
        help="Name of a shipped recipe, a YAML file, or a run folder; or one model: a model folder or an export.",
        show_default=False,
    ),
]


@evaluate_app.command(
    "score",
    epilog="""Examples:

hat-ray evaluate toy --set evaluate.beam=4

hat-ray evaluate models/winner --source test.en --reference test.de

hat-ray evaluate exported --source test.en --reference test.de --json

With --source and --reference one model is scored on that text: a model folder, an export, or a run's model.""",
)
def evaluate(
    place: PlaceArg,
    run: RunOpt = None,
    set_: SetOpt = None,
    data: DataOpt = None,
    address: AddressOpt = None,
    local: LocalOpt = False,
    take_over: TakeOverOpt = False,
    as_json: JsonOpt = False,
    skip_checks: SkipOpt = False,
    source: Annotated[
        Path | None, typer.Option("--source", metavar="FILE", help="Text to translate, a sentence a line.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", metavar="FILE", help="Its translations, line by line.")
    ] = None,
    model: ModelOpt = None,
    beam: BeamOpt = None,
    runtime: RuntimeOpt = None,
    dtype: DtypeOpt = None,
    threads: ThreadsOpt = None,
    metric: MetricOpt = None,
    comet_model: CometOpt = None,
) -> None:
    """Time the retrained models, and score them with sacreBLEU. Or score one model on a text."""
    of_stage = {"--run": run, "--set": set_, "--data": data, "--address": address, "--local": local or None}
    of_stage |= {"--take-over": take_over or None, "--skip-checks": skip_checks or None}
    of_text: dict[str, object] = {
        "--model": model,
        "--beam": beam,
        "--runtime": runtime,
        "--dtype": dtype,
        "--threads": threads,
    }
    of_text |= {"--metric": metric, "--comet-model": comet_model}
    lines = check_lines(source, reference)
    from hat_ray.pipeline.places import holds_a_run

    if lines is None and holds_a_run(place):
        _refuse(of_text, "is for one model's score on a text, which --source names")
        run_stages(
            place, run, set_, data, address, local, as_json, "evaluate", take_over=take_over, skip_checks=skip_checks
        )
        return
    chosen = model_choice(place, model, beam, runtime, dtype, None)
    _refuse(of_stage, "is for a run's own evaluation")
    if lines is None or lines[1] is None:
        raise RunError(f"{place} is scored on a text: name its sentences with --source and --reference")
    from hat_ray.export.stream import score_stream

    others, comet = metrics_of(metric), comet_of(metric, comet_model, 1)
    loaded = chosen.open(threads or 0)
    started = time.perf_counter()
    with console.progress_bar("translating") as progress:
        translations = loaded.translate(lines[0], progress)
    seconds = time.perf_counter() - started
    pairs = list(zip(lines[0], translations, strict=True))
    figures = score_stream(pairs, [lines[1]], loaded.config.tokenizer, seconds, others, comet)
    print_json(asdict(figures)) if as_json else tell_score(figures)


@evaluate_app.command(
    "compare",
    epilog="""Examples:

hat-ray evaluate compare mine.txt theirs.txt --reference test.de

hat-ray evaluate compare mine.txt theirs.txt.gz --reference test.ja --language ja --metric bleu --metric ter

hat-ray evaluate compare mine.txt theirs.txt --reference test.de --source test.en --metric comet --comet-model comet

Each file holds one translation a line, also compressed (gzip, bzip2, xz, zstd). p is the chance that equally good
systems differ by as much: paired bootstrap by sacreBLEU, 1,000 resamplings of the sentences.""",
)
def evaluate_compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Translations of one system, line by line.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Translations of the same sentences by another one.")],
    reference: Annotated[
        list[Path],
        typer.Option("--reference", metavar="FILE", help="Their reference; name several by several options."),
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", metavar="METRIC", help="bleu, chrf, chrf++, ter, comet; may be repeated. Default: two."
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--source", metavar="FILE", help="The sentences translated, which comet reads.")
    ] = None,
    comet_model: CometOpt = None,
    language: Annotated[
        str | None, typer.Option("--language", metavar="CODE", help="Target language, which BLEU's tokenizer follows.")
    ] = None,
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", metavar="NAME", help="sacreBLEU's tokenizer, instead of the language's.")
    ] = "auto",
    as_json: JsonOpt = False,
) -> None:
    """Compare two systems' translations by paired bootstrap."""
    from hat_ray.evaluate.comet.metric import CometText
    from hat_ray.evaluate.significance import compare_systems
    from hat_ray.evaluate.tokenizer_files import require_tokenizer

    metrics = metrics_of(metric) or ["bleu", "chrf"]
    chosen = require_tokenizer(tokenizer, language)
    systems = [read_lines(name, path) for name, path in (("A", first), ("B", second))]
    references = [read_lines("--reference", path) for path in reference]
    texts = {"A": systems[0], "B": systems[1]}
    if (source is not None) != ("comet" in metrics):
        raise RunError("--metric comet reads the sentences translated: name them with --source, or leave both out")
    model = comet_of(metrics, comet_model, len(references))
    sources = [] if source is None else read_lines("--source", source)
    require_alike(texts if source is None else {**texts, "--source": sources}, references)
    comet = None if model is None else CometText(model, sources)
    found = compare_systems(systems[0], systems[1], references, metrics=metrics, tokenizer=chosen, comet=comet)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    for one in found:
        surely = "chance hardly explains it" if one.p < _SURE else "chance may explain it"
        typer.echo(
            f"{one.metric}: A {one.first:.2f}, B {one.second:.2f}, difference {one.second - one.first:+.2f}, "
            f"p = {one.p:.4f}: {surely} ({one.signature})"
        )


@latency_app.command(
    "measure",
    epilog="""Examples:

hat-ray latency measure toy --set latency.samples=100

hat-ray latency measure toy --set latency.quantities=[peak_mb]

hat-ray latency measure models/winner --set latency.runtime=onnx --set latency.dtype=int8

hat-ray latency measure HAT_wmt14ende_xeon@204.2ms_bleu@27.6.yml --set corpus.vocab_size=32768

Quantities beside the latency that search.limits or latency.quantities name are measured as well, peak_mb in a process
of its own. Where rows of the table lack one, only that is measured.

One model is timed in this process, by the settings of `latency`, and kept in no table: a model folder, an export (on
its own runtime), or an architecture's file (with random weights).""",
)
def latency_measure(
    place: PlaceArg,
    run: RunOpt = None,
    set_: SetOpt = None,
    data: DataOpt = None,
    address: AddressOpt = None,
    local: LocalOpt = False,
    take_over: TakeOverOpt = False,
    as_json: JsonOpt = False,
    skip_checks: SkipOpt = False,
) -> None:
    """Time sampled architectures on every device into the latency table. Or time one model."""
    from hat_ray.pipeline.places import holds_a_run

    if holds_a_run(place):
        run_stages(
            place, run, set_, data, address, local, as_json, "latency", take_over=take_over, skip_checks=skip_checks
        )
        return
    # --local holds: one model is timed in this process
    of_run: dict[str, object] = {"--run": run, "--data": data, "--address": address}
    of_run |= {"--take-over": take_over or None, "--skip-checks": skip_checks or None}
    _refuse(of_run, "is for the timings of a run")
    from hat_ray.pipeline.trained.one_model import time_place
    from hat_ray.recipe import parse_recipe

    timed = time_place(place, parse_recipe("name: one-model", "the settings", set_))
    if as_json:
        print_json(asdict(timed))
        return
    parts = ""
    if timed.encoder_ms is not None and timed.decoder_ms is not None:
        parts = f" (encoder {timed.encoder_ms:.4g}, decoder {timed.decoder_ms:.4g})"
    error = "" if timed.relative_error is None else f", error {100 * timed.relative_error:.1f} %"
    work = timed.workload
    typer.echo(f"{timed.architecture}: {timed.corrected_ms:.4g} ms{parts}{error} on {timed.title}")
    typer.echo(
        f"{timed.repetitions} repetitions of {work.batch} x {work.source_length} to {work.target_length} tokens, "
        f"beam {work.beam}"
    )


@app.command(
    epilog="""Examples:

hat-ray cost HAT_wmt14ende_xeon@204.2ms_bleu@27.6.yml --length 30 --json

hat-ray cost runs/toy

hat-ray cost models/winner"""
)
def cost(
    place: Annotated[
        str,
        typer.Argument(
            metavar="PLACE",
            help="The architecture: HAT's YAML, our JSON, a model folder, an export, or a run folder.",
            show_default=False,
        ),
    ],
    length: Annotated[
        int, typer.Option("--length", min=1, help="Source and target tokens; HAT: 30 WMT, 23 IWSLT.")
    ] = 30,
    qkv_dim: Annotated[int, typer.Option("--qkv-dim", min=1, help="Used where the file has none; HAT: 512.")] = 512,
    model: ModelOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Count parameters and FLOPs as HAT does.

    Its convention: no embeddings, no output layer.
    """
    from hat_ray.space.cost import cost as architecture_cost

    shape = _architecture(place, model, qkv_dim)
    counted = architecture_cost(shape, length)
    if as_json:
        print_json({"id": shape.id, "length": length, "params": counted.params, "flops": counted.flops})
    else:
        typer.echo(
            f"{counted.params / 1e6:.2f} M parameters, {counted.flops / 1e9:.2f} GFLOPs at length {length}: {shape}"
        )


def _architecture(place: str, model: str | None, qkv_dim: int) -> Any:
    """Return the architecture of a place; a file is read without PyTorch."""
    if Path(place).is_dir() or "://" in place:
        from hat_ray.pipeline.trained.one_model import architecture_of

        return architecture_of(place, model, qkv_dim)
    from hat_ray.space.hat_yaml import load_architecture

    if model is not None:
        raise RunError(f"{place} holds one architecture: leave --model out, or name a run folder")
    return load_architecture(place, qkv_dim)


def _refuse(options: Mapping[str, Any], why: str) -> None:
    """Refuse options that the command has no use for."""
    if given := [name for name, value in options.items() if value is not None]:
        raise RunError(f"{given[0]} {why}: leave {' and '.join(given)} out")

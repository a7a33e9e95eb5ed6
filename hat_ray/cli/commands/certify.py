"""`hat-ray certify`: the certificate of an export, and whether one holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hat_ray.cli.app import certify_app
from hat_ray.cli.options import JsonOpt
from hat_ray.cli.output import print_json
from hat_ray.core import console
from hat_ray.errors import HatRayError

if TYPE_CHECKING:
    from hat_ray.certificate.certificate import Certificate

ExportArg = Annotated[
    str,
    typer.Argument(metavar="EXPORT", help="A folder that `hat-ray export` made: a path or URI.", show_default=False),
]


@certify_app.command(
    "make",
    epilog="""Examples:

hat-ray certify exported --source test.en --reference test.de

hat-ray certify exported-int8 --source test.en --reference test.de --against exported-fp32 --out int8.json

hat-ray certify exported --source test.en --queries 100 --seconds 5     # a quick look, and stated as one

Measured are, on one thread: the time of single sentences, one after the other, for 1,024 sentences and 60 seconds at
least, as MLPerf asks of a single stream (median, mean, p90, p99, histogram); sentences a second of the whole text;
resident memory of a translate.py that loads, translates 100 lines and ends; bytes of the files; joules, where this
machine counts them (RAPL); BLEU and chrF; and the share of the fp32 model's quality, which is to be 99 % at least. A
certificate that keeps fewer rules states so. Leave the machine alone meanwhile: others' load is stated as well.

Each figure is of the export's own translate.py, which is executed in fresh processes: certify what you would run.
Nothing is written before all is measured. A command that was killed is begun again.""",
)
def certify_make(
    export: ExportArg,
    source: Annotated[
        Path,
        typer.Option(
            "--source",
            metavar="FILE",
            help="Text to translate, a sentence a line.",
            show_default=False,
        ),
    ],
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="FILE", help="Its translations, line by line. Without: no quality."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="FP32_EXPORT",
            help="Export of the same model in fp32. Default: what the export's parity check found.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The certificate; its page stands beside it. Default: EXPORT.certificate.json in this folder.",
        ),
    ] = None,
    queries: Annotated[int, typer.Option("--queries", min=1, help="Sentences of the stream, at least.")] = 1024,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="Seconds of the stream, at least.")] = 60.0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads that translate.")] = 1,
    no_split: Annotated[
        bool, typer.Option("--no-split", help="Translate each line whole, as `hat-ray evaluate` does.")
    ] = False,
    as_json: JsonOpt = False,
) -> None:
    """Measure an export here, and write certificate and page."""
    from hat_ray.certificate.certificate import CertificateRules
    from hat_ray.certificate.certify import certificate_place, certify, page_name

    rules = CertificateRules(queries, seconds, threads, split=not no_split)
    place = certificate_place(export, out)
    with console.progress_bar("measuring") as progress:
        made = certify(export, source, reference, out=place, against=against, rules=rules, progress=progress)
    if as_json:
        _print_whole(made)
        return
    _print_figures(made)
    console.say(f"certificate: {place}, page: {page_name(place)}")


@certify_app.command(
    "verify",
    epilog="""Examples:

hat-ray certify verify exported.certificate.json

hat-ray certify verify exported.certificate.json exported

hat-ray certify verify exported.certificate.json exported --repeat --source test.en --reference test.de

A changed byte of the certificate, or of a certified file of the export, is refused with exit code 2. The seal is a hash
and no signature: it shows that nothing changed since the certificate was written, and neither who wrote it nor that
its figures are true. --repeat measures again, which executes the export's translate.py, and prints how the figures
differ.""",
)
def certify_verify(
    certificate: Annotated[
        str, typer.Argument(metavar="CERTIFICATE", help="The JSON file of `hat-ray certify`.", show_default=False)
    ],
    export: Annotated[
        str | None,
        typer.Argument(metavar="EXPORT", help="The export, whose files are compared.", show_default=False),
    ] = None,
    repeat: Annotated[bool, typer.Option("--repeat", help="Measure again, by the same rules, and compare.")] = False,
    source: Annotated[
        str | None, typer.Option("--source", metavar="FILE", help="The certified text. Default: where it was.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="FILE", help="Its translations. Default: where they were.")
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Check a certificate's seal, and an export against it."""
    if repeat and export is None:
        raise HatRayError("--repeat measures the export again: name it behind the certificate")
    if not repeat and (source or reference):
        raise HatRayError("--source and --reference are for --repeat: leave them out, or add it")
    from hat_ray.certificate.certificate import WHAT_A_SEAL_PROVES
    from hat_ray.certificate.verify import verify_certificate
    from hat_ray.core.codec import to_json

    found = verify_certificate(certificate, export)
    again = None
    if repeat:
        from hat_ray.certificate.certify import repeated

        assert export is not None, "it was asked for above"
        with console.progress_bar("measuring again") as progress:
            again = repeated(found, export, source, reference, progress)
    if as_json:
        print_json({"certificate": to_json(found), "again": None if again is None else to_json(again)})
        return
    whole = "its seal holds" if export is None else f"its seal holds, and so do the hashes of {export}'s files"
    typer.echo(f"{certificate}: {whole}; made {found.created} on {found.device.title}")
    _print_figures(found) if again is None else _print_differences(found, again)
    console.say(WHAT_A_SEAL_PROVES)


def _print_whole(made: "Certificate") -> None:
    from hat_ray.core.codec import to_json

    print_json(to_json(made))


def _print_figures(made: "Certificate") -> None:
    from hat_ray.certificate.words import cautions, comparison, shown

    for name, (unit, value) in made.figures.items():
        typer.echo(f"{name}: {shown(value, unit)}")
    notes = cautions(made) if made.original.keeps is False else [*cautions(made), comparison(made.original)]
    for text in notes:
        typer.echo(text)


def _print_differences(old: "Certificate", new: "Certificate") -> None:
    """Print each figure as certified and as measured again, with the difference."""
    from hat_ray.certificate.words import shown

    for name, (unit, before) in old.figures.items():
        now = new.figures[name][1]
        change = f" ({100 * (now / before - 1):+.1f} %)" if before and now is not None else ""
        typer.echo(f"{name}: {shown(before, unit)} certified, {shown(now, unit)} now{change}")
    same = old.translations_sha256 == new.translations_sha256
    typer.echo(f"Translations: {'the same' if same else 'others'}")
    if old.device.slug != new.device.slug:
        typer.echo(f"Measured again on another device: {new.device.title}")

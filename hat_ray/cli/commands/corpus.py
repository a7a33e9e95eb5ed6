"""`hat-ray corpus inspect`: what each filter would leave out of a training text."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from hat_ray.cli.app import corpus_app
from hat_ray.cli.options import DataOpt, JsonOpt, RecipeArg, SetOpt
from hat_ray.cli.output import print_json, resolve
from hat_ray.core import console

if TYPE_CHECKING:
    from hat_ray.corpus.inspect import Inspection

_LONGEST = 50


@corpus_app.command(
    "inspect",
    epilog="""Examples:

hat-ray corpus inspect multi30k.en-de --data ~/multi30k

hat-ray corpus inspect mine.yaml --data text --set corpus.max_ratio=2.5 --examples 3 --pairs 0

A star marks the recipe's own values. Each filter is counted by itself: pairs that several leave out count for each.
Lengths are in sub-words, of a vocabulary that is learned from a sample unless the recipe names one. Nothing is
written.""",
)
def corpus_inspect(
    recipe: RecipeArg,
    set_: SetOpt = None,
    data: DataOpt = None,
    pairs: Annotated[
        int, typer.Option("--pairs", min=0, help="Pairs of each pair of training files to look at; 0: all.")
    ] = 100_000,
    examples: Annotated[int, typer.Option("--examples", min=0, max=3, help="Pairs to show for each filter.")] = 1,
    as_json: JsonOpt = False,
) -> None:
    """Preview what each filter leaves out of the training text.

    Also reports sides that do not belong together, and sources of validation and test in the training text.
    """
    from hat_ray.corpus.inspect import inspect_text
    from hat_ray.corpus.text.download import fetch

    loaded, _ = resolve(recipe, None, set_, data)
    if loaded.corpus.downloads:
        with console.progress_bar("downloading") as progress:
            fetch(loaded.corpus, progress)
    with console.progress_bar("reading the text") as progress:
        found = inspect_text(loaded.corpus, loaded.seed, pairs, progress)
    if as_json:
        findings = [{**finding.model_dump(mode="json"), "line": finding.line} for finding in found.findings]
        print_json({**asdict(found), "findings": findings})
        return
    for line in _lines(found, examples):
        typer.echo(line)


def _lines(found: "Inspection", examples: int) -> list[str]:
    """Return the tables and the findings, line by line."""
    from hat_ray.corpus.cleaning.finding import finding_lines
    from hat_ray.storage.plain_file import printable

    lines = [f"{found.pairs:,} training pairs looked at", ""]
    for one in found.filters:
        share = 100 * one.removes / found.pairs
        name = f"{one.setting}={one.value}"
        lines.append(f"{'*' if one.chosen else ' '} {name:32} leaves out {one.removes:9,} ({share:.1f} %)")
        lines += [
            f"      {example.number:,}: {printable(example.source, _LONGEST)} | {printable(example.target, _LONGEST)}"
            for example in one.examples[:examples]
        ]
    lines += ["", *(finding_lines(found.findings) or ["the sides belong together, by lengths and letters"])]
    why = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items())
    return [*lines, f"the recipe leaves out, before lengths are known: {why or 'nothing'}"]

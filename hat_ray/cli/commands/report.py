"""`hat-ray report RUN [RUN ...]`: the page of one run, or one page that compares several."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from hat_ray.cli.app import app
from hat_ray.cli.options import AddressOpt, DataOpt, JsonOpt, LocalOpt, RunOpt, SetOpt, TakeOverOpt
from hat_ray.cli.output import print_json, run_stages
from hat_ray.core import console
from hat_ray.errors import RunError


@app.command(
    "report",
    epilog="""Examples:

hat-ray report runs/toy

hat-ray report runs/toy --set report.grid_g_co2e_per_kwh=56

hat-ray report runs/toy runs/mine --out mine-against-toy.html

hat-ray report s3://team/runs/monday s3://team/runs/tuesday --json

With one run, its page is written into the run folder, as report/report.html. With several, one page holds them against
one another: their winners, their frontiers on each device that they share, the settings that differ, what they took,
and what must not be compared because text, test set or search space differ. Each needs its own report first.""",
)
def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="One run folder, recipe name or YAML file; or several run folders (paths or URIs) to compare.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="File of the comparison of several runs. Default: comparison.html in this folder.",
        ),
    ] = None,
    run: RunOpt = None,
    set_: SetOpt = None,
    data: DataOpt = None,
    address: AddressOpt = None,
    local: LocalOpt = False,
    take_over: TakeOverOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Write the page of what was found, or compare runs."""
    for place in runs:
        _require_run(place)
    if len(runs) == 1:
        if out is not None:
            raise RunError(
                "--out names the page that compares several runs, got one run: name more, or leave --out out"
            )
        run_stages(runs[0], run, set_, data, address, local, as_json, only="report", take_over=take_over)
        return
    _refuse(
        {
            "--run": run,
            "--set": set_,
            "--data": data,
            "--address": address,
            "--local": local or None,
            "--take-over": take_over or None,
        }
    )
    from hat_ray.report.comparison.load import DEFAULT_OUT, compare_runs

    value = compare_runs(runs, out or DEFAULT_OUT)
    if as_json:
        print_json(value)
        return
    for caution in value["cautions"]:
        console.say(f"caution: {caution['text']}")
    console.say(f"comparison: {value['page']}")


def _require_run(place: str) -> None:
    """Raise RunError for one model where a run should be: it has no search to report."""
    from hat_ray.pipeline.places import Place, place_of

    if (found := place_of(place)) in (Place.MODEL, Place.EXPORT, Place.ARCHITECTURE):
        raise RunError(
            f"{place} is {found}, and a report is of a whole run: name its run folder; `hat-ray evaluate` scores one "
            "model, `hat-ray latency measure` times it"
        )


def _refuse(options: Mapping[str, Any]) -> None:
    """Refuse what only one run has a use for."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise RunError(
            f"{given[0]} changes how one run's report is made, got several runs: leave it out, or do "
            f"`hat-ray report RUN {given[0]} ...` for each run first"
        )

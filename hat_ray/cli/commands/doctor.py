"""`hat-ray doctor`: what this machine and a cluster can do, and what they lack."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hat_ray.cli.app import app
from hat_ray.cli.options import AddressOpt, DataOpt, JsonOpt, RunOpt, SetOpt
from hat_ray.cli.output import print_json, resolve
from hat_ray.errors import HatRayError

if TYPE_CHECKING:
    from hat_ray.core.placement import ClusterConfig
    from hat_ray.doctor.result import DoctorResult, Verdict
    from hat_ray.recipe import Recipe

_MARKS = {"good": "good   ", "advice": "ADVICE ", "missing": "MISSING"}


@app.command(
    "doctor",
    epilog="""Examples:

hat-ray doctor                    # this machine

hat-ray doctor --address auto     # and the Ray cluster that it is part of: every node answers for itself

hat-ray doctor mine.yaml --data ~/text     # and the checks of this recipe, as in `recipe check`

It takes about ten seconds and changes nothing. The exit code is 2 when something is missing that a run needs.""",
)
def doctor(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A recipe to check as well.", show_default=False)
    ] = None,
    run: RunOpt = None,
    set_: SetOpt = None,
    data: DataOpt = None,
    address: AddressOpt = None,
    runs: Annotated[Path, typer.Option("--runs", metavar="FOLDER", help="Where runs would be written.")] = Path("runs"),
    as_json: JsonOpt = False,
) -> None:
    """Report the abilities of this machine, and what is missing.

    With a Ray cluster: the abilities of each node, and whether it trains, searches, scores and times.
    """
    from hat_ray.doctor.result import is_fit

    findings = []
    address = address or os.environ.get("RAY_ADDRESS")
    asked = None if recipe is None else resolve(recipe, run, set_, data)
    of_recipe = () if asked is None else _of_recipe(asked[0], asked[1], address)
    for finding in chain(_findings(address, runs, None if asked is None else asked[0].cluster), of_recipe):
        findings.append(finding)
        if not as_json:
            remedy = f"\n{'':8}-> {finding.remedy}" if finding.remedy else ""
            typer.echo(f"{_MARKS[finding.verdict]} {finding.name}: {finding.seen}{remedy}")
    fit = is_fit(findings)
    if as_json:
        print_json({"fit": fit, "findings": [asdict(finding) for finding in findings]})
    else:
        told = "Fit for a run: try `hat-ray run toy`." if fit else "Not fit for a run: see what is MISSING above."
        typer.echo(f"\n{told}")
    if not fit:
        raise typer.Exit(2)


def _findings(address: str | None, runs: Path, rules: "ClusterConfig | None") -> Iterator["DoctorResult"]:
    from hat_ray.doctor.result import DoctorResult
    from hat_ray.doctor.torch_build import examine_torch

    build = examine_torch()
    if build is not None:
        yield build
        if build.verdict == "missing":  # to import it would end this process
            return
    from hat_ray.doctor.machine import examine_machine

    yield from examine_machine(runs)
    if address is None:
        yield DoctorResult("Ray cluster", "good", "none named (--address): a run starts one here, bound to loopback")
        return
    from hat_ray.cluster.doctor import examine_cluster
    from hat_ray.cluster.execution import RayExecution

    cluster = RayExecution(address)
    try:
        cluster.connect()
        yield from examine_cluster(rules)
    except HatRayError as error:
        yield DoctorResult(
            "Ray cluster", "missing", str(error), "start one with `ray start --head`, or leave --address out"
        )
    finally:
        cluster.close()


def _of_recipe(recipe: "Recipe", place: str, address: str | None) -> Iterator["DoctorResult"]:
    """Yield the results of a recipe's checks."""
    from hat_ray.cli.checks import look
    from hat_ray.doctor.result import DoctorResult

    verdicts: dict[str, Verdict] = {"ok": "good", "warning": "advice", "failure": "missing"}
    recipe.space.build()
    try:
        for result in look(recipe, place, address):
            yield DoctorResult(f"recipe {recipe.name}: {result.name}", verdicts[result.verdict], result.text or "fine")
    except HatRayError as error:
        yield DoctorResult(f"recipe {recipe.name}", "missing", str(error))

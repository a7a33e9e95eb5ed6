"""`hat-ray doctor`: what this machine and a cluster can do, and what they lack."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hat_ray.cli.app import app
from hat_ray.cli.options import AddressOpt, JsonOpt
from hat_ray.cli.run import print_json
from hat_ray.errors import HatRayError

if TYPE_CHECKING:
    from hat_ray.doctor.finding import Finding

_MARKS = {"good": "good   ", "advice": "ADVICE ", "missing": "MISSING"}


@app.command(
    "doctor",
    epilog="""Examples:

hat-ray doctor                    # this machine

hat-ray doctor --address auto     # and the Ray cluster that it is part of: every node answers for itself

It takes about ten seconds and changes nothing. The exit code is 2 when something is missing that a run needs.""",
)
def doctor(
    address: AddressOpt = None,
    runs: Annotated[Path, typer.Option("--runs", metavar="FOLDER", help="Where runs would be written.")] = Path("runs"),
    as_json: JsonOpt = False,
) -> None:
    """Say what this machine can do, and what is missing.

    With a Ray cluster: what each of its nodes can do.
    """
    from hat_ray.doctor.finding import is_fit

    findings = []
    for finding in _findings(address or os.environ.get("RAY_ADDRESS"), runs):
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


def _findings(address: str | None, runs: Path) -> Iterator["Finding"]:
    from hat_ray.doctor.finding import Finding
    from hat_ray.doctor.machine import examine_machine

    yield from examine_machine(runs)
    if address is None:
        yield Finding("Ray cluster", "good", "none named (--address): a run starts one here, bound to loopback")
        return
    from hat_ray.doctor.cluster import examine_cluster
    from hat_ray.pipeline.cluster import RayExecution

    cluster = RayExecution(address)
    try:
        cluster.connect()
        yield from examine_cluster()
    except HatRayError as error:
        yield Finding("Ray cluster", "missing", str(error), "start one with `ray start --head`, or leave --address out")
    finally:
        cluster.close()

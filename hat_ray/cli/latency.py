"""`hat-ray latency show`; `measure` stands with the stages."""

from dataclasses import asdict
from typing import Annotated

import typer

from hat_ray.cli.app import latency_app
from hat_ray.cli.options import JsonOpt
from hat_ray.cli.run import print_json
from hat_ray.errors import LatencyError


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

"""`hat-ray search RECIPE`, and `hat-ray search show`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from hat_ray.cli.app import search_app
from hat_ray.cli.folders import require_folder
from hat_ray.cli.options import AddressOpt, DataOpt, JsonOpt, LocalOpt, RecipeArg, RunOpt, SetOpt, SkipOpt, TakeOverOpt
from hat_ray.cli.output import print_json, run_stages

if TYPE_CHECKING:
    from hat_ray.search.view import SearchView
    from hat_ray.search.winners import LimitWinner


@search_app.command(
    "run",
    epilog="""Examples:

hat-ray search toy --set search.limits_ms=[20,30]

hat-ray search toy --set 'search.limits=[{latency_ms: 20, p90_ms: 25, model_mb: 4}, {peak_mb: 300}]'

hat-ray search mine.yaml --set 'search.limits={pi4: {latency_ms: 400}, xeon: [{latency_ms: 40}, {latency_ms: 80}]}'

hat-ray search runs/toy --set search.max_seconds=600 --set search.patience_evaluations=200

hat-ray search toy --run runs/more --set search.warm_start=[runs/toy]

hat-ray search toy --set search.algorithm=aging --set search.algorithm_options.population=60

`run` may be left out. An interrupted search resumes. Winners are timed on their devices: where one misses its limit,
the predictor is fitted again and the search continues (search.refine_rounds, search.refine_evaluations). With
search.finalists the best candidates of each limit are then trained on for a little, and the lowest loss wins.

Limits: search.limits_ms bounds the latency, for every device or by name. search.limits bounds several quantities, which
all hold: latency_ms, p90_ms, p99_ms, model_mb, peak_mb, energy_j, or one of an installed package. Bounds that nothing
keeps are refused, with the nearest values that hold.

Algorithms: surrogate (default), aging, random, hat, or one of an installed package (its registered name or
package:Class).""",
)
def search_run(
    recipe: RecipeArg,
    run: RunOpt = None,
    set_: SetOpt = None,
    data: DataOpt = None,
    address: AddressOpt = None,
    local: LocalOpt = False,
    take_over: TakeOverOpt = False,
    as_json: JsonOpt = False,
    skip_checks: SkipOpt = False,
) -> None:
    """Search architectures under latency limits with Ray Tune.

    One search serves all devices and all limits.
    """
    records = run_stages(
        recipe, run, set_, data, address, local, as_json, only="search", take_over=take_over, skip_checks=skip_checks
    )
    if not as_json:
        from hat_ray.core.codec import from_json
        from hat_ray.search.winners import SearchOutput

        for line in _winner_lines(from_json(SearchOutput, records[0].output, "the search's output").winners):
            typer.echo(line)


@search_app.command(
    "show",
    epilog="""Examples:

hat-ray search show runs/toy

hat-ray search show s3://team/runs/wmt --device pi4 --json

A search that is running or interrupted is shown as well.""",
)
def search_show(
    place: Annotated[str, typer.Argument(metavar="FOLDER", help="A run folder, or a folder that holds candidates.")],
    device: Annotated[
        str | None, typer.Option("--device", metavar="DEVICE", help="Only this device: its slug or its name.")
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Show the result of a search, also while it runs.

    Its candidates, each device's frontier, and the winner of each limit.
    """
    from hat_ray.search.view import view, view_to_json

    require_folder("folder", place)
    found = view(place).only(device)
    if as_json:
        print_json(view_to_json(found))
        return
    for line in _lines(found):
        typer.echo(line)


def _lines(search: "SearchView") -> list[str]:
    counts = search.counts
    lines = [
        f"{search.place}: {counts['candidates']:g} candidates"
        + (f", {counts['from_earlier_runs']:g} of earlier runs" if counts["from_earlier_runs"] else "")
        + (f", {counts['without_loss']:g} without a loss" if counts["without_loss"] else "")
        + f"; {counts['scoring_seconds']:g} s of scoring by {counts['workers']:g} workers",
        "  origins: " + ", ".join(f"{name} {count}" for name, count in search.origins.items()),
    ]
    if search.early_stop is not None:
        lines.append(f"  {search.early_stop}")
    for device in search.devices:
        lines.append(f"frontier on {device}")
        lines.append(f"  {'ms':>10} {'90 % interval':>19} {'measured':>10} {'loss':>8}  architecture")
        for one in search.frontier(device):
            low, high, measured = (values.get(device) for values in (one.low_ms, one.high_ms, one.measured_ms))
            between = "" if low is None or high is None else f"{low:.4g} to {high:.4g}"
            timed = "" if measured is None else f"{measured:.4g}"
            lines.append(
                f"  {one.latency_ms[device]:10.4g} {between:>19} {timed:>10} {one.loss_bits:8.4f}  "
                f"{one.architecture.id}  {one.architecture}"
            )
    if search.finals is not None:
        from hat_ray.search.view import finalist_lines

        lines += finalist_lines(search.finals, search.device)
    return lines + _winner_lines(search.winners)


def _winner_lines(winners: "Sequence[LimitWinner]") -> list[str]:
    """Return each limit's winner, and where several runtimes share one, which of them is best."""
    from hat_ray.search.winners import runtime_rankings

    return [*map(_winner_line, winners), *(ranking.line for ranking in runtime_rankings(winners))]


def _winner_line(winner: "LimitWinner") -> str:
    from hat_ray.search.limits import Verdict, quantity_text

    values = [f"{winner.predicted_ms:.4g} ms predicted"]
    values.append("not timed" if winner.measured_ms is None else f"{winner.measured_ms:.4g} ms measured")
    for name, one in winner.quantities.items():
        measured = "" if one.measured in (None, one.predicted) else f" ({one.measured:.4g} measured)"
        values.append(quantity_text(name, one.predicted) + measured)
    found = "" if winner.verdict is Verdict.NOT_MEASURED else f" ({winner.verdict})"
    return f"winner under {winner.limit}: {winner.id}, loss {winner.loss_bits:.4f}, {', '.join(values)}{found}"

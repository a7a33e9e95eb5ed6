"""`hat-ray predict score|latency`; `fit` stands with the stages."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hat_ray.cli.app import predict_app
from hat_ray.cli.folders import require_folder, resolve_run
from hat_ray.cli.options import JsonOpt
from hat_ray.cli.output import print_json

if TYPE_CHECKING:
    from hat_ray.predictor.assess import Assessment


@predict_app.command(
    "score",
    epilog="""Examples:

hat-ray predict score runs/toy

hat-ray predict score s3://team/latency --device rig-intel-xeon-e5-2640-v4-avx2-1t-eager-fp32 --json

Every figure is of architectures that the predictor had not seen. Quantities beside the latency that search.limits or
latency.quantities name have a predictor each, and a line of their own. Of a latency table a predictor is fitted to each
space, device and workload that has rows enough, and judged; nothing is written.""",
)
def predict_score(
    place: Annotated[
        str,
        typer.Argument(metavar="FOLDER", help="A run folder with fitted predictors, or the root of a latency table."),
    ],
    space: Annotated[
        str | None, typer.Option("--space", metavar="SPACE", help="Of a table: only this space, by its id.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="DEVICE", help="Only this device, by its slug.")
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Report predictor quality.

    Error, interval coverage, learning curve, error by depth, outliers.
    """
    from hat_ray.api import assess_run
    from hat_ray.core.codec import to_json
    from hat_ray.predictor.fit import assess_table
    from hat_ray.storage.folder import Folder

    require_folder("folder", place)
    if Folder.at(place).exists("run.json"):
        loaded, run = resolve_run(place, None)
        found = [one for one in assess_run(loaded, run) if device in (None, one.device)]
    else:
        found = assess_table(place, space, device)
    if as_json:
        print_json({"place": place, "predictors": [to_json(one) for one in found]})
        return
    for one in found:
        for line in _lines(one):
            typer.echo(line)


@predict_app.command(
    "latency",
    epilog="""Example:  hat-ray predict latency runs/toy winner.yml --coverage 0.95

Of quantities beside the latency, which search.limits or latency.quantities name, `hat-ray predict score` shows the
error, and `hat-ray search show` the winners' values.""",
)
def predict_latency(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder with fitted predictors.")],
    architecture: Annotated[Path, typer.Argument(metavar="FILE", help="The architecture: HAT's YAML, or our JSON.")],
    coverage: Annotated[
        float, typer.Option("--coverage", help="Probability with which the latency lies in the interval.")
    ] = 0.9,
    as_json: JsonOpt = False,
) -> None:
    """Predict an architecture's latency on each device, with an interval."""
    from hat_ray.api import Run
    from hat_ray.space.hat_yaml import load_architecture
    from hat_ray.storage.folder import Folder

    loaded, place = resolve_run(run, None)
    opened = Run(loaded, Folder.at(place))
    predicted = opened.predict(load_architecture(architecture, loaded.space.build().qkv_dim), coverage)
    if as_json:
        print_json({"coverage": coverage, "devices": {slug: asdict(one) for slug, one in predicted.items()}})
        return
    for slug, one in predicted.items():
        unseen = f"  ({one.unseen})" if one.unseen else ""
        typer.echo(f"{one.predicted_ms:10.2f} ms  [{one.low_ms:.2f} to {one.high_ms:.2f}]  {slug}{unseen}")


def _lines(one: "Assessment") -> list[str]:
    """Return one predictor's quality as lines."""
    from hat_ray.latency.quantities import QUANTITIES

    lines = [f"{one.device}  (space {one.space_id})", f"  {one.quality}"]
    if one.timing_error_pct is not None:
        lines.append(f"  the timings themselves: {one.timing_error_pct:.2f} % (their median's standard error)")
    if one.coverage_pct is not None:
        lines.append(f"  the 90 % interval covers {one.coverage_pct:.0f} % of unseen rows")
    elif one.coverage_unknown is not None:
        lines.append(f"  whether the 90 % interval holds is unknown: {one.coverage_unknown}")
    if one.slow_rows:
        lines.append(f"  {one.slow_rows} rows were timed in slow stretches and set aside")
    if one.curve:
        lines.append("  error by rows: " + ", ".join(f"{point.rows}: {point.mape:.2f} %" for point in one.curve))
    if one.by_depth:
        told = ", ".join(f"{group.depth}: {group.mape:.2f} %" for group in one.by_depth)
        lines.append(f"  error by decoder layers: {told}")
    if one.source_predictors:
        lines.append(f"  helped by the table's other devices: {', '.join(one.source_predictors)}")
    for quantity in one.quantities:
        facts = QUANTITIES.facts(quantity.name)
        covers = ""
        if quantity.coverage_pct is not None:
            covers = f", interval {quantity.coverage_pct:.0f} % of unseen rows"
        elif quantity.coverage_unknown is not None:
            covers = f", whether its 90 % interval holds is unknown: {quantity.coverage_unknown}"
        lines.append(f"  {quantity.name} ({facts.title}): {quantity.quality}{covers}")
    for outlier in one.outliers:
        lines.append(
            f"  outlier {outlier.name}: measured {outlier.measured_ms:.4g} ms, predicted {outlier.predicted_ms:.4g} ms"
        )
    return lines

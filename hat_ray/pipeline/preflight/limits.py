"""Limits against what a latency table tells already: before a predictor says it, a SuperTransformer is trained."""

from collections.abc import Iterator, Mapping

from hat_ray.errors import HatRayError, StorageError
from hat_ray.latency.parts import list_parts, partition_values, partitions
from hat_ray.pipeline.preflight.check import Finding, Situation
from hat_ray.pipeline.preflight.stores import PATIENCE_S
from hat_ray.recipe import Recipe
from hat_ray.search.config import names_device
from hat_ray.storage import Folder

_MOST_FILES = 64
"""Files of a device that are read; those of a large table tell enough."""
_WORKLOAD = ("batch", "beam", "source_length", "target_length")


def check_limits(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """No limit lies below the fastest architecture that the table has; the smallest is timed before all others."""
    config, table = recipe.search, _table(recipe, situation)
    if table is None or not config.limits_ms or recipe.latency.length_mix:
        return
    workload = {name: getattr(recipe.latency, name) for name in _WORKLOAD}
    try:
        places = partitions(table, recipe.space.build().id)
        timed = {partition_values(place)[1]: _fastest_ms(table, place, workload) for place in places}
    except (HatRayError, StorageError, OSError):
        return  # told by the check of the table, or by whoever reads it whole
    for device, fastest in timed.items():
        if fastest is None:
            continue
        limits = config.limits_ms
        if isinstance(limits, dict):
            limits = next((values for key, values in limits.items() if names_device(key, device)), ())
        for limit in sorted(limits):
            if limit < fastest:
                yield (
                    "warning",
                    f"search.limits_ms should be within reach, got {limit:g} ms on {device}, where the fastest "
                    f"architecture timed so far takes {fastest:.4g} ms: raise it or widen the space",
                )


def _table(recipe: Recipe, situation: Situation) -> Folder | None:
    """Return the table, where one is named or the run has its own."""
    if recipe.latency.table:
        return Folder.at(recipe.latency.table).asked_for(PATIENCE_S)
    folder = situation.run_folder
    return None if folder is None else folder.child("latency", "table").asked_for(PATIENCE_S)


def _fastest_ms(table: Folder, partition: str, workload: Mapping[str, int]) -> float | None:
    """Return the fewest milliseconds of a device's rows of this workload; None where there are none."""
    times: list[float] = []
    for name in list_parts(table, partition)[:_MOST_FILES]:
        try:
            rows = table.read_table(name).select([*workload, "latency_corrected_ms"]).to_pylist()
        except (HatRayError, KeyError, ValueError):
            continue  # a part that is damaged is named by whoever reads the table for its rows
        times += [
            row["latency_corrected_ms"] for row in rows if all(row[key] == value for key, value in workload.items())
        ]
    return min((ms for ms in times if ms and ms > 0), default=None)

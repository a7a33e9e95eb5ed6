"""Limits against the rows of a latency table: a check before a SuperTransformer and a predictor are trained.

Decisions
- A limit is refused only by timings: the run's latency stage is finished, the space's smallest architecture is
  among its rows, and on no device that the limit is for is anything timed within `_SPREAD` of it. No prediction counts.
- Otherwise it is a warning: the table's devices may be another team's, or its architectures a few large ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hat_ray.core.text import text_above, text_exact
from hat_ray.errors import HatRayError, SearchError, StorageError
from hat_ray.latency.device import names_device
from hat_ray.latency.output import LatencyOutput
from hat_ray.latency.quantities import LATENCY
from hat_ray.latency.table.parts import list_parts, partition_values, partitions
from hat_ray.pipeline.preflight.check import Finding, Situation
from hat_ray.pipeline.preflight.settings import limits_against
from hat_ray.pipeline.preflight.stores import PATIENCE_S
from hat_ray.pipeline.run_folder import Run
from hat_ray.recipe import Recipe
from hat_ray.storage.folder import Folder

_MOST_FILES = 64
"""Files of a device that are read; those of a large table are enough."""
_WORKLOAD = ("batch", "beam", "source_length", "target_length")
_SPREAD = 0.05
"""Share by which timings of one architecture differ between sessions; most lie within a third of it."""


@dataclass(frozen=True)
class _Timed:
    """One device's rows in a table."""

    device: str
    fastest_ms: float
    smallest: bool
    """Whether the space's smallest architecture is among the rows."""


def check_limits(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """No limit lies below the fastest architecture that the table has; the smallest is timed before all others."""
    config, table = recipe.search, _table(recipe, situation)
    if table is None or config.as_fractions or recipe.latency.length_mix:
        return
    try:
        own = _devices_of_run(recipe, situation)
        timed = list(_read(recipe, table, own))
    except (HatRayError, StorageError, OSError):
        return  # reported by the check of the table, or by the reader of all of it
    for one in timed:
        for limit in sorted(ms for ms in _limits(recipe, one.device) if ms < one.fastest_ms):
            fellows = [other for other in timed if _group(recipe, other.device) == _group(recipe, one.device)]
            certain = len(timed) == len(own) and all(_excludes(limit, other) for other in fellows)
            yield (
                "failure" if certain else "warning",
                f"{config.stated[0]} {'must' if certain else 'should'} be within reach, got {text_exact(limit)} ms on "
                f"{one.device}, where the fastest architecture timed so far takes {text_above(one.fastest_ms)} ms: "
                "raise it or widen the space",
            )


def check_devices_of_run(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Limits by device name the devices that the run has timed, and every one of these has some."""
    try:
        devices = _devices_of_run(recipe, situation)
    except (HatRayError, StorageError, OSError):
        return  # reported by the reader of the stage's output
    if devices:
        yield from (("failure", line) for line in limits_against(recipe, devices, "devices that the run has timed"))


def _excludes(limit: float, timed: _Timed) -> bool:
    return timed.smallest and limit < timed.fastest_ms * (1 - _SPREAD)


def _limits(recipe: Recipe, device: str) -> Sequence[float]:
    """Return the bounds of the latency on a device; none where no limit names the device."""
    try:
        return [bounds[LATENCY] for bounds in recipe.search.limits_of(device) if LATENCY in bounds]
    except SearchError:
        return ()


def _group(recipe: Recipe, device: str) -> str:
    """Return the recipe's name for a device: those that share it are one machine, of which one has to keep a limit."""
    names = (selector.called for selector in recipe.latency.devices)
    return next((name for name in names if name and names_device(name, device)), "")


def _devices_of_run(recipe: Recipe, situation: Situation) -> tuple[str, ...]:
    """Return the devices that the run's finished latency stage timed; none where it is still to be done."""
    if situation.run_folder is None or "latency" in situation.stages:
        return ()
    output = Run(situation.run_folder.asked_for(PATIENCE_S), recipe).output("latency", LatencyOutput)
    return tuple(output.devices) if output else ()


def _read(recipe: Recipe, table: Folder, devices: Sequence[str]) -> Iterator[_Timed]:
    """Yield the table's rows of the devices named, or of all where none is."""
    space = recipe.space.build()
    workload = {name: getattr(recipe.latency, name) for name in _WORKLOAD}
    for place in partitions(table, space.id):
        device = partition_values(place)[1]
        if devices and device not in devices:
            continue
        times = _times(table, place, workload)
        if times:
            yield _Timed(device, min(times.values()), space.smallest().id in times)


def _table(recipe: Recipe, situation: Situation) -> Folder | None:
    """Return the table, where one is named or the run has its own."""
    if recipe.latency.table:
        return Folder.at(recipe.latency.table).asked_for(PATIENCE_S)
    folder = situation.run_folder
    return None if folder is None else folder.child("latency", "table").asked_for(PATIENCE_S)


def _times(table: Folder, partition: str, workload: Mapping[str, int]) -> dict[str | None, float]:
    """Return the fewest milliseconds of each architecture of a device, by its id, under this workload."""
    times: dict[str | None, float] = {}
    for name in list_parts(table, partition)[:_MOST_FILES]:
        try:
            rows = table.read_table(name).select([*workload, "architecture_id", "latency_corrected_ms"]).to_pylist()
        except (HatRayError, KeyError, ValueError):
            continue  # a damaged part is named when the table is read for its rows
        for row in rows:
            ms, architecture = row["latency_corrected_ms"], row["architecture_id"]
            if ms and ms > 0 and all(row[key] == value for key, value in workload.items()):
                times[architecture] = min(ms, times.get(architecture, ms))
    return times

"""The list of checks, for `recipe check` and `doctor`."""

from hat_ray.pipeline.preflight.all import asks_nodes, examine_all
from hat_ray.pipeline.preflight.check import CheckResult, Situation
from hat_ray.pipeline.preflight.here import situation_here
from hat_ray.pipeline.preflight.stores import try_run_folder
from hat_ray.pipeline.preflight.table import failures
from hat_ray.recipe import Recipe

MARKS = {"ok": "ok     ", "warning": "WARNING", "failure": "FAILED "}


def look(recipe: Recipe, place: str | None, address: str | None) -> list[CheckResult]:
    """Check a recipe on this machine, or on the cluster at an address; `place` is its run folder, where it has one."""
    tried = [] if place is None else try_run_folder(place)
    situation = situation_here(recipe, None if failures(tried) else place, committed=False)
    return [*tried, *_look(recipe, situation, address)]


def _look(recipe: Recipe, situation: Situation, address: str | None) -> list[CheckResult]:
    if address is None:
        return examine_all(recipe, situation)
    from hat_ray.cluster.execution import RayExecution

    cluster = RayExecution(address, config=recipe.cluster)
    try:
        situation = cluster.situation(situation, ask=asks_nodes(recipe))
        return examine_all(recipe, situation)
    finally:
        cluster.close()

"""The list of checks, for `recipe check` and `doctor`."""

from hat_ray.pipeline.preflight.all import asks_nodes, examine_all
from hat_ray.pipeline.preflight.check import CheckResult
from hat_ray.pipeline.preflight.here import situation_here
from hat_ray.recipe import Recipe

MARKS = {"ok": "ok     ", "warning": "WARNING", "failure": "FAILED "}


def look(recipe: Recipe, place: str | None, address: str | None) -> list[CheckResult]:
    """Check a recipe on this machine, or on the cluster at an address; `place` is its run folder, where it has one."""
    situation = situation_here(recipe, place, committed=False)
    if address is None:
        return examine_all(recipe, situation)
    from hat_ray.pipeline.cluster import RayExecution

    cluster = RayExecution(address)
    try:
        situation = cluster.situation(situation, ask=asks_nodes(recipe))
        return examine_all(recipe, situation)
    finally:
        cluster.close()

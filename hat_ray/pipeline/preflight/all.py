"""Every check that a recipe needs; those that load PyTorch are imported only where one does."""

from hat_ray.evaluate.tokenizers import NEEDS
from hat_ray.latency.quantities import LATENCY
from hat_ray.pipeline.preflight.check import Check, CheckResult, Situation
from hat_ray.pipeline.preflight.table import CHECKS, examine
from hat_ray.recipe import Recipe
from hat_ray.runtime.choice import AUTO, FASTEST_FIRST
from hat_ray.train.config import INHERITED, SCRATCH


def examine_all(recipe: Recipe, situation: Situation) -> list[CheckResult]:
    """Return the results of all checks that the stages still to be done need."""
    return examine(recipe, situation, _checks(recipe, situation))


def asks_nodes(recipe: Recipe) -> bool:
    """Return whether something is needed that only the node itself can report: instructions, or a package."""
    mlflow = recipe.supernet.mlflow or recipe.retrain.mlflow
    return bool(_asks_device(recipe) or mlflow or recipe.evaluate.tokenizer in NEEDS)


def _checks(recipe: Recipe, situation: Situation) -> tuple[Check, ...]:
    checks: tuple[Check, ...] = CHECKS
    if recipe.supernet.init is not None or {*recipe.retrain.starts} - {SCRATCH, INHERITED}:
        from hat_ray.pipeline.starting import START_CHECK

        checks = (*checks, START_CHECK)
    if not (situation.cluster or recipe.latency.of_table or _asks_device(recipe)):
        return checks
    from hat_ray.pipeline.preflight.devices import DEVICE_CHECKS

    return (*checks, *DEVICE_CHECKS)


def _asks_device(recipe: Recipe) -> bool:
    """Return whether a device is to run more than any can in fp32, to measure more than time, or to have an id that
    limits name. Each runs the fastest of its runtimes in fp32: PyTorch's own is one of them."""
    configs = [recipe.latency.of(device) for device in recipe.latency.timed]
    if any(config.runtime not in (AUTO, FASTEST_FIRST[-1]) or config.dtype != "fp32" for config in configs):
        return True
    named = {*recipe.latency.quantities, *(name for _, names in recipe.search.bounded for name in names)}
    return bool(named - {LATENCY}) or isinstance(recipe.search.stated[1], dict)

"""Every check that a recipe needs; those that load PyTorch are imported only where one does."""

from hat_ray.pipeline.preflight.check import Check, CheckResult, Situation
from hat_ray.pipeline.preflight.packages import TOKENIZERS
from hat_ray.pipeline.preflight.table import CHECKS, examine
from hat_ray.recipe import Recipe


def examine_all(recipe: Recipe, situation: Situation) -> list[CheckResult]:
    """Return the results of all checks that the stages still to be done need."""
    return examine(recipe, situation, _checks(recipe, situation))


def asks_nodes(recipe: Recipe) -> bool:
    """Return whether something is needed that only the node itself can report: instructions, or a package."""
    mlflow = recipe.supernet.mlflow or recipe.retrain.mlflow
    return bool(_asks_processor(recipe) or mlflow or recipe.evaluate.tokenizer in TOKENIZERS)


def _checks(recipe: Recipe, situation: Situation) -> tuple[Check, ...]:
    if not (situation.cluster or _asks_processor(recipe)):
        return CHECKS
    from hat_ray.pipeline.preflight.devices import DEVICE_CHECKS

    return (*CHECKS, *DEVICE_CHECKS)


def _asks_processor(recipe: Recipe) -> bool:
    """Return whether a device is to run more than PyTorch's own runtime in fp32."""
    configs = [recipe.latency.of(device) for device in recipe.latency.devices or (None,)]
    return any((config.runtime, config.dtype) != ("eager", "fp32") for config in configs)

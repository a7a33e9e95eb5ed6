"""The table of all checks, and the handling of their results."""

import logging
from collections.abc import Iterable, Sequence

from hat_ray.errors import CheckError
from hat_ray.pipeline.preflight import limits, packages, resources, settings, stores, text
from hat_ray.pipeline.preflight import resources as room
from hat_ray.pipeline.preflight.check import Check, CheckResult, Look, Situation
from hat_ray.recipe import Recipe

log = logging.getLogger(__name__)

_TRAINING = ("supernet", "retrain", "ranking", "policies")
_TIMING = ("latency", "sweep")


def _check(name: str, look: Look, *stages: str, again: bool = False) -> Check:
    return Check(name, look, frozenset(stages), again)


CHECKS = (
    _check("latency table", stores.check_latency_table, *_TIMING, "predictor"),
    _check("candidates to start from", stores.check_warm_start, "search"),
    _check("cache", stores.check_cache, "corpus", *_TRAINING, "search", "evaluate"),
    _check("text files", text.check_texts, "corpus"),
    _check("nodes of the work", resources.check_placement, *_TRAINING, "search", "evaluate"),
    _check("room for training", resources.check_training, *_TRAINING),
    _check("room for timing", resources.check_timing, *_TIMING),
    _check("room for the search", resources.check_search, "search"),
    _check("room for translating", resources.check_evaluation, "evaluate", "ranking", "policies"),
    _check("disk", room.check_disk, "supernet", "latency", "search", "retrain", "evaluate", "report"),
    _check("memory", room.check_memory, "supernet", "search", "retrain"),
    _check("rows for the predictor", settings.check_rows, "predictor"),
    _check("vocabulary size", settings.check_vocabulary_size, "corpus"),
    _check("own vocabularies", text.check_own_vocabularies, "corpus", *_TRAINING),
    _check("vocabulary for the text", text.check_vocabulary, "corpus"),
    _check("tokenizer of the score", packages.check_tokenizer, "evaluate"),
    _check("COMET's model", packages.check_comet, "evaluate"),
    _check("MLflow", packages.check_tracking, "supernet", "retrain"),
    _check("compiler", packages.check_compiler, "retrain"),
    _check("libraries of runtimes", packages.check_runtime_packages, *_TIMING),
    _check("architectures of runtimes", packages.check_expressible, *_TIMING),
    _check("positions in training", settings.check_training_positions, *_TRAINING, again=True),
    _check("positions in timing", settings.check_timed_positions, *_TIMING),
    _check("positions in translation", settings.check_translated_positions, "evaluate", again=True),
    _check("beam in timing", settings.check_timed_beam, *_TIMING, again=True),
    _check("beam in translation", settings.check_evaluation_beam, "evaluate", again=True),
    _check("batches", settings.check_batches, "supernet", "retrain", again=True),
    _check("best checkpoint", settings.check_best, "supernet", "retrain"),
    _check("teachers", stores.check_teachers, "corpus", "supernet", "retrain"),
    _check("shared channels", settings.check_sharing, "supernet", "policies"),
    _check("early stop", settings.check_early_stop, "search", again=True),
    _check("search algorithm", settings.check_algorithm, "search"),
    _check("limits within reach", limits.check_limits, "search", again=True),
    _check("limits by device", settings.check_limited_devices, "search"),
    _check("devices that limits name", limits.check_devices_of_run, "search", again=True),
    _check("devices without a cluster", settings.check_devices_here, *_TIMING),
    _check("architectures to rank", settings.check_ranking, "ranking", "policies"),
    _check("dimensions to sweep", settings.check_sweep, "sweep"),
)


def examine(recipe: Recipe, situation: Situation, checks: Iterable[Check] = CHECKS) -> list[CheckResult]:
    """Return the results of the checks that the stages still to be done need."""
    wanted = [check for check in checks if check.stages & set(situation.stages)]
    return [result for check in wanted for result in check.run(recipe, situation)]


def require(results: Sequence[CheckResult]) -> None:
    """Log each warning in a line; raise CheckError where something cannot end well."""
    for result in results:
        if result.verdict == "warning":
            log.warning("%s", result.text)
    failed = failures(results)
    for result in failed if len(failed) > 1 else ():
        log.error("%s: %s", result.name, result.text)
    if error := first_failure(results):
        raise error


def failures(results: Iterable[CheckResult]) -> list[CheckResult]:
    """Return the failures."""
    return [result for result in results if result.verdict == "failure"]


def first_failure(results: Iterable[CheckResult]) -> CheckError | None:
    """Return the first failure as an error that counts the others, or None where all can end well."""
    failed = failures(results)
    if not failed:
        return None
    more = f" (and {len(failed) - 1} more, above)" if len(failed) > 1 else ""
    return CheckError(f"{failed[0].text}{more}")


class Watch:
    """Checks before the first stage, and again before each stage what earlier ones have made known."""

    def __init__(self, recipe: Recipe, situation: Situation) -> None:
        self._recipe, self._situation = recipe, situation
        self._shown: set[str] = set()

    def begin(self, results: Sequence[CheckResult]) -> None:
        """Take the results from before the first stage."""
        self._require(results)

    def before(self, stage: str) -> None:
        """Look again at what depends on results; raise CheckError before a stage that could not end well."""
        stages = self._situation.stages
        later = stages[stages.index(stage) :] if stage in stages else (stage,)
        now = self._situation.after(later)
        self._require(examine(self._recipe, now, [check for check in CHECKS if check.again]))

    def _require(self, results: Sequence[CheckResult]) -> None:
        new = [result for result in results if result.text not in self._shown]
        self._shown |= {result.text for result in new}
        require(new)

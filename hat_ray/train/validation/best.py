"""Which validation is better, and whether a training has stopped improving: pure functions of its history.

So a resumed training decides as the unbroken one did.
"""

from collections.abc import Mapping, Sequence

from hat_ray.errors import HatRayError
from hat_ray.train.config import TrainConfig
from hat_ray.train.state import TrainPoint


def best_check(config: TrainConfig, checks: Mapping[str, object]) -> str | None:
    """Return the name of the model whose validations count; None where nothing is validated."""
    if config.best_check is None:
        return next(iter(checks), None)
    if config.best_check not in checks:
        raise HatRayError(
            f"train.best_check must be a validation of this training, one of {', '.join(checks)}, "
            f"got {config.best_check}"
        )
    return config.best_check


def score_of(point: TrainPoint, config: TrainConfig, check: str) -> float:
    """Return the number that decides which validation is better, the lower the better."""
    return -point.valid_bleu[check] if config.stop_on == "bleu" else point.valid_loss_bits[check]


def best_point(history: Sequence[TrainPoint], config: TrainConfig, check: str) -> TrainPoint | None:
    """Return the best validation, the earlier of equals; None without one that counts."""
    scored = [point for point in history if config.stop_on == "loss" or check in point.valid_bleu]
    return min(scored, key=lambda point: score_of(point, config, check), default=None)


def gave_up(history: Sequence[TrainPoint], config: TrainConfig, check: str | None) -> bool:
    """Return whether the last `stop_after` validations all fell short of the best one before them."""
    if config.stop_after is None or check is None or len(history) <= config.stop_after:
        return False
    scores = [score_of(point, config, check) for point in history]
    return min(scores[-config.stop_after :]) >= min(scores[: -config.stop_after])

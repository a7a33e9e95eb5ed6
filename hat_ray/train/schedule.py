"""Learning rates as pure functions of the update's number, counted from 0. HAT: fairseq's schedules, exactly."""

import math

from hat_ray.train.config import TrainConfig


def learning_rate(config: TrainConfig, update: int) -> float:
    """Return the learning rate that update number `update` is made with."""
    if update < config.warmup_updates:
        return config.warmup_init_lr + update * (config.lr - config.warmup_init_lr) / config.warmup_updates
    if config.schedule == "inverse_sqrt":
        return config.lr * math.sqrt(max(1, config.warmup_updates) / max(1, update))
    period = max(1, config.updates - config.warmup_updates)
    phase = min(1.0, (update - config.warmup_updates) / period)
    return config.min_lr + 0.5 * (config.lr - config.min_lr) * (1 + math.cos(math.pi * phase))

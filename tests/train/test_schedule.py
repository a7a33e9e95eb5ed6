import math

import pytest
from pydantic import ValidationError

from hat_ray.train.config import TrainConfig
from hat_ray.train.optimizer import learning_rate


def test_warm_up_equals_what_hat_used(reference):
    config = TrainConfig(schedule="inverse_sqrt", lr=0.004, warmup_updates=200, warmup_init_lr=1e-7, updates=1500)
    for step in reference.facts["trajectory"]:
        assert learning_rate(config, step["update"]) == pytest.approx(step["lr_used"], rel=1e-12)


def test_inverse_square_root_falls_from_the_end_of_the_warm_up():
    config = TrainConfig(schedule="inverse_sqrt", lr=5e-4, warmup_updates=4000, updates=50_000)
    assert learning_rate(config, 4000) == 5e-4
    assert learning_rate(config, 16_000) == pytest.approx(2.5e-4)


def test_cosine_goes_from_lr_through_the_middle_to_min_lr():
    config = TrainConfig(schedule="cosine", lr=1e-3, min_lr=1e-7, warmup_updates=10_000, updates=40_000)
    assert learning_rate(config, 9_999) < learning_rate(config, 10_000) == 1e-3
    assert learning_rate(config, 25_000) == pytest.approx((1e-3 + 1e-7) / 2)
    assert learning_rate(config, 40_000) == pytest.approx(1e-7)
    third = 1e-7 + 0.5 * (1e-3 - 1e-7) * (1 + math.cos(math.pi / 3))
    assert learning_rate(config, 20_000) == pytest.approx(third)


def test_no_warm_up_starts_at_lr():
    for schedule in ("cosine", "inverse_sqrt"):
        assert learning_rate(TrainConfig(schedule=schedule, warmup_updates=0, lr=0.01), 0) == 0.01


def test_a_worker_without_a_batch_is_refused():
    with pytest.raises(ValidationError, match="accumulate must be at least workers, got 2 for 3"):
        TrainConfig(workers=3, accumulate=2)

"""Settings of trainings that start from trained weights: a third of the rate, else as from scratch or as named."""

from typing import Any

import pytest

from hat_ray.train.config import RetrainConfig

SCRATCH = RetrainConfig(updates=900, lr=0.003, warmup_updates=90, min_lr=1e-5, max_tokens=512)


@pytest.mark.parametrize(
    ("inherited", "changes"),
    [
        ({}, {"lr": 1e-3}),
        ({"updates": 300}, {"lr": 1e-3, "updates": 300, "warmup_updates": 30}),
        ({"lr": 2e-3}, {"lr": 2e-3}),
        ({"lr": 1e-6}, {"lr": 1e-6, "min_lr": 1e-6}),
        ({"updates": 300, "warmup_updates": 0}, {"lr": 1e-3, "updates": 300, "warmup_updates": 0}),
        ({"updates": 1800, "warmup_updates": 7}, {"lr": 1e-3, "updates": 1800, "warmup_updates": 7}),
    ],
)
def test_what_is_not_named_is_as_from_scratch(inherited: dict[str, Any], changes: dict[str, Any]) -> None:
    values = {**SCRATCH.model_dump(), "inherited": inherited}
    assert RetrainConfig(**values).from_trained == RetrainConfig(**{**values, **changes})


def test_they_decide_no_training_from_scratch() -> None:
    other = RetrainConfig(**{**SCRATCH.model_dump(), "inherited": {"updates": 3}})
    assert other.what_is_learnt() == SCRATCH.what_is_learnt()
    assert other.from_trained.what_is_learnt() != SCRATCH.what_is_learnt()

"""Which models are trained from scratch, and that the comparison with random ones is fair."""

import random

import numpy as np

from hat_ray.latency.quantities import LATENCY
from hat_ray.search.limits import Limit
from hat_ray.search.selection import select, slower_rivals, unique_architectures
from hat_ray.space.cost import count_params
from hat_ray.space.presets import TOY


def params_as_ms(architectures):
    return np.array([count_params(architecture) / 1e4 for architecture in architectures], dtype=np.float64)


FUNCTIONS = {LATENCY: params_as_ms}


def test_rivals_are_no_faster_than_the_winner_and_hardly_slower():
    rng = random.Random(0)
    for _ in range(5):
        winner = TOY.sample(rng)
        rivals = slower_rivals(TOY, winner, FUNCTIONS, Limit("d", ()), 3, random.Random(1))
        ratios = params_as_ms(rivals) / params_as_ms([winner])
        assert len(set(rivals)) == 3
        assert winner not in rivals
        assert all(1 <= ratio <= 1.1 for ratio in ratios)


def test_nothing_slower_than_the_largest_is_found_and_that_is_no_error(caplog):
    assert slower_rivals(TOY, TOY.largest(), FUNCTIONS, Limit("d", ()), 1, random.Random(1)) == []
    assert "only 0 of 1 random architectures" in caplog.text


def test_two_limits_with_one_winner_train_it_once():
    winner = TOY.sample(random.Random(2))
    winners = {Limit.of("d", latency_ms=10.0): winner, Limit.of("d", latency_ms=20.0): winner}
    chosen = select(TOY, winners, {"d": FUNCTIONS}, largest=True, randoms=1, seed=1)
    assert [entry.kind for entry in chosen] == ["winner", "random", "winner", "random", "largest"]
    assert len(unique_architectures(chosen)) == len({entry.architecture for entry in chosen}) == 4
    again = select(TOY, winners, {"d": FUNCTIONS}, largest=True, randoms=1, seed=1)
    assert chosen == again


def test_rivals_keep_what_the_limit_of_the_winner_bounds_beside_the_latency():
    def encoder_mb(architectures):
        return np.array([sum(one.encoder.ffn_dims) / 100 for one in architectures], dtype=np.float64)

    functions, group = FUNCTIONS | {"model_mb": encoder_mb}, Limit.of("d", model_mb=2.0)
    winner = next(one for one in (TOY.sample(random.Random(seed)) for seed in range(99)) if encoder_mb([one])[0] <= 2)
    rivals = slower_rivals(TOY, winner, functions, group, 5, random.Random(1))
    assert len(rivals) == 5
    assert encoder_mb(rivals).max() <= 2
    assert encoder_mb(slower_rivals(TOY, winner, functions, Limit("d", ()), 5, random.Random(1))).max() > 2

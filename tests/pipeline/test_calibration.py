"""How many architectures the latency stage times, with a clock of its own."""

import math

import pytest

from hat_ray.latency.detection import detect
from hat_ray.latency.timing.job import TimingJob
from hat_ray.pipeline.calibration import Budget, FixedNumber
from hat_ray.recipe import Recipe, load_recipe
from hat_ray.storage.folder import Folder

DEVICES = [detect(accelerator="cpu")]


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def a_recipe(minutes: float | None) -> Recipe:
    text = "null" if minutes is None else str(minutes)
    settings = [f"latency.max_minutes={text}", "latency.samples=30", "latency.target_error=null"]
    return load_recipe("toy", settings)


def a_job(recipe: Recipe) -> TimingJob:
    return TimingJob(recipe.space.build(), recipe.model, 64, recipe.latency, Folder.at("/nowhere"))


def test_a_budget_counts_from_its_beginning() -> None:
    clock = Clock()
    budget = Budget(2.0, clock)
    clock.now_s = 500.0
    assert budget.left_s == math.inf
    budget.begin()
    clock.now_s = 560.0
    budget.begin()
    assert (budget.left_s, budget.is_spent) == (60.0, False)
    clock.now_s = 621.0
    assert (budget.left_s, budget.is_spent) == (0.0, True)
    without = Budget(None, clock)
    without.begin()
    assert (without.left_s, without.is_spent) == (math.inf, False)


@pytest.mark.parametrize("minutes", [5.0, None])
def test_the_rows_that_a_predictor_needs_are_timed_whatever_the_time_and_the_rest_within_it(
    minutes: float | None,
) -> None:
    clock, recipe = Clock(), a_recipe(minutes)
    rounds, orders = FixedNumber(a_job(recipe), recipe, Budget(minutes, clock)), []
    while (order := rounds(DEVICES)) is not None:
        orders.append(order)
        clock.now_s += 200
    sizes = [(len(order.architectures), order.within_s) for order in orders]
    assert sizes == ([(30, math.inf)] if minutes is None else [(10, math.inf), (20, 100.0)])
    every = [architecture for order in orders for architecture in order.architectures]
    assert len(set(every)) == 30

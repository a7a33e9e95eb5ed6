"""How many architectures a trial gets."""

import pytest

from hat_ray.cluster.population import BatchSizes


def sizes(workers: int, seconds: float, evaluations: int = 10_000, most: int = 64, batch_seconds: float = 2.0):
    found = BatchSizes(workers, batch_seconds, most, evaluations)
    found.scored(seconds)
    return found


def test_the_first_trial_measures() -> None:
    assert BatchSizes(2, 2.0, 64, 1000).next(1000) == 1


def test_a_trial_takes_about_the_seconds_that_it_should() -> None:
    assert sizes(2, 0.25).next(10_000) == 8
    assert sizes(2, 30.0).next(10_000) == 1
    assert sizes(2, 0.001).next(10_000) == 64  # the most


@pytest.mark.parametrize("workers", [1, 4, 16, 64, 256])
@pytest.mark.parametrize("seconds", [0.3, 1.0, 5.0])
def test_the_driver_can_keep_all_workers_busy(workers: int, seconds: float) -> None:
    size = sizes(workers, seconds, most=1000).next(100_000)
    driver_s = 0.1 * workers  # what it spends while each worker does one trial
    assert size * seconds >= driver_s


def test_trials_shrink_towards_the_end_and_every_worker_gets_a_share() -> None:
    one = sizes(4, 0.2, batch_seconds=4.0)
    left, given = 150, []
    while left > 0:
        given.append(min(one.next(left), left))
        left -= given[-1]
    assert given[0] == 19
    assert given == sorted(given, reverse=True)
    assert given[-1] <= 2
    assert sizes(4, 0.001).next(8) == 2


def test_what_is_under_way_leaves_evolution_something_to_learn_from() -> None:
    assert sizes(2, 0.11, evaluations=200).next(200) == 5  # on both workers a twentieth of the search


def test_slow_asking_makes_trials_larger() -> None:
    before, after = sizes(8, 0.5), sizes(8, 0.5)
    for _ in range(30):
        after.asked(1.0)
    assert after.next(10_000) > 2 * before.next(10_000)

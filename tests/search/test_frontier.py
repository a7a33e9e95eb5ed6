"""The frontier and its hypervolume against brute force."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hat_ray.search.frontier import GrowingFront, Staircase, hypervolume, pareto_front

small = st.integers(0, 6).map(float)
points = st.lists(st.tuples(small, small), max_size=25)


def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] <= b[1] and a != b


@given(points)
@settings(max_examples=300)
def test_front_equals_brute_force(some: list[tuple[float, float]]) -> None:
    front = pareto_front([p[0] for p in some], [p[1] for p in some])
    expected = [i for i, p in enumerate(some) if not any(beats(q, p) for q in some)]
    assert sorted(front) == expected
    assert [some[i][1] for i in front] == sorted(some[i][1] for i in front)


@given(points)
@settings(max_examples=200)
def test_hypervolume_equals_the_count_of_dominated_cells(some: list[tuple[float, float]]) -> None:
    reference = (5.0, 4.0)
    cells = sum(
        any(loss <= x and latency <= y for loss, latency in some)
        for x in range(int(reference[0]))
        for y in range(int(reference[1]))
    )
    assert hypervolume([p[0] for p in some], [p[1] for p in some], reference) == cells


def test_points_without_a_number_stand_aside() -> None:
    assert pareto_front([math.nan, 1.0, math.inf], [0.0, 5.0, 0.0]) == [1]
    assert pareto_front([], []) == []
    assert hypervolume(np.array([math.inf]), np.array([1.0]), (5.0, 5.0)) == 0.0


@given(points, points)
@settings(max_examples=300)
def test_what_a_point_adds_to_the_stairs_equals_the_difference_of_hypervolumes(
    some: list[tuple[float, float]], new: list[tuple[float, float]]
) -> None:
    reference = (5.0, 4.5)
    losses, times = ([p[0] for p in some], [p[1] for p in some])
    stairs = Staircase.of(np.array(losses), np.array(times), reference)
    before = hypervolume(losses, times, reference)
    expected = [hypervolume([*losses, p[0]], [*times, p[1]], reference) - before for p in new]
    np.testing.assert_allclose(stairs.gains(*np.array(new).reshape(-1, 2).T), expected, atol=1e-9)
    for point in new:
        gain = float(stairs.gains(np.array(point[:1]), np.array(point[1:]))[0])
        stairs = stairs.with_point(*point)
        before += gain
    assert hypervolume(losses + [p[0] for p in new], times + [p[1] for p in new], reference) == pytest.approx(before)


POINTS = st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0, 7.0, np.inf, np.nan])] * 2), max_size=40)


@given(POINTS)
def test_a_front_that_grows_point_by_point_is_the_front_of_all(points: list[tuple[float, float]]) -> None:
    front, changes = GrowingFront[int](), 0
    for place, (loss, ms) in enumerate(points):
        before = list(front.items)
        changed = front.add(loss, ms, place)
        assert changed == (front.items != before)
        changes += changed
        whole = pareto_front([a for a, _ in points[: place + 1]], [b for _, b in points[: place + 1]])
        assert front.items == whole
        assert (front.losses, front.latencies_ms) == ([points[i][0] for i in whole], [points[i][1] for i in whole])
    for ms in (-1.0, 0.0, 1.2, 3.0, 8.0):
        known = [loss for loss, took in points if took <= ms and np.isfinite(loss) and np.isfinite(took)]
        assert front.least_loss(ms) == min(known, default=np.inf)

"""The frontier and its hypervolume against brute force."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hat_ray.search.frontier import hypervolume, pareto_front

small = st.integers(0, 6).map(float)
points = st.lists(st.tuples(small, small), max_size=25)


def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] <= b[1] and a != b


@given(points)
@settings(max_examples=300, deadline=None)
def test_front_equals_brute_force(some: list[tuple[float, float]]) -> None:
    front = pareto_front([p[0] for p in some], [p[1] for p in some])
    expected = [i for i, p in enumerate(some) if not any(beats(q, p) for q in some)]
    assert sorted(front) == expected
    assert [some[i][1] for i in front] == sorted(some[i][1] for i in front)


@given(points)
@settings(max_examples=200, deadline=None)
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

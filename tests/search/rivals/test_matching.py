"""The slowest member of a family that keeps a limit, found by few timings."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest

from hat_ray.latency.quantities import LATENCY
from hat_ray.search.engine.device_predictions import Measurements
from hat_ray.search.limits import Limit
from hat_ray.search.rivals.families import hand_scaled
from hat_ray.search.rivals.matching import Bisection, bisection, match_all, rival_of
from hat_ray.search.selection import OF_EVERY_SPACE, HandScaled, MissingRival, SelectedModel
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import cost
from hat_ray.space.features import FloatArray
from hat_ray.space.presets import DEEP_SHALLOW
from tests.search.rivals.spaces import SMALL

DEVICE = "d"


def flops_as_ms(architectures: Sequence[Architecture]) -> FloatArray:
    return np.array([cost(one).flops / 1e6 for one in architectures], dtype=np.float64)


class Machine:
    """Takes a share more or less than predicted, and notes what it timed."""

    def __init__(self, factor: Callable[[Architecture], float] = lambda _: 1.0, gone_after: int = 99) -> None:
        self.factor, self.gone_after = factor, gone_after
        self.rounds: list[list[Architecture]] = []

    def ms(self, one: Architecture) -> float:
        return float(flops_as_ms([one])[0]) * self.factor(one)

    def __call__(self, some: Sequence[Architecture]) -> Mapping[str, Measurements]:
        self.rounds.append(list(some))
        return {} if len(self.rounds) > self.gone_after else {DEVICE: {one: {LATENCY: self.ms(one)} for one in some}}


def search(kind: HandScaled, limit: Limit, *, attached: bool = True) -> Bisection:
    return bisection(kind, limit, hand_scaled(SMALL, kind), {DEVICE: {LATENCY: flops_as_ms}}, attached)


def within(ms: float) -> Limit:
    return Limit.of(DEVICE, latency_ms=ms)


def nothing_outside(_: Architecture) -> str | None:
    return None


@pytest.mark.parametrize("kind", ["scaled-depth", "scaled-width"])
@pytest.mark.parametrize("factor", [lambda _: 1.0, lambda _: 1.7, lambda one: 0.4 + one.encoder.embed_dim / 300])
def test_it_is_the_slowest_that_keeps_the_limit_as_timed(
    kind: HandScaled, factor: Callable[[Architecture], float]
) -> None:
    members = hand_scaled(SMALL, kind)
    for share in (0.15, 0.3, 0.6, 0.97):
        machine = Machine(factor)
        limit = within(share * machine.ms(members[0]))
        one = search(kind, limit)
        match_all([one], machine)
        slowest = next((a for a in members if machine.ms(a) <= limit.ms), None)
        found = rival_of(one, nothing_outside)
        if slowest is None:
            assert isinstance(found, MissingRival)
        else:
            assert isinstance(found, SelectedModel)
            assert found.architecture == slowest
            assert found.matching is not None
            assert (found.matching.measured, found.matching.latency_ms) == (True, machine.ms(slowest))
        timed = [a for some in machine.rounds for a in some]
        assert len(timed) <= 4 + 2 * math.ceil(math.log2(len(members)))


def test_a_right_prediction_is_decided_by_two_timings_in_one_round() -> None:
    machine, members = Machine(), hand_scaled(SMALL, "scaled-width")
    one = search("scaled-width", within((machine.ms(members[7]) + machine.ms(members[6])) / 2))
    match_all([one], machine)
    assert machine.rounds == [[members[6], members[7]]]


def test_what_the_first_timings_took_longer_than_predicted_guides_the_second_ones() -> None:
    machine, members = Machine(lambda _: 1.7), hand_scaled(SMALL, "scaled-width")
    one = search("scaled-width", within((machine.ms(members[17]) + machine.ms(members[16])) / 2))
    match_all([one], machine)
    assert [len(some) for some in machine.rounds] == [2, 2]
    assert machine.rounds[1] == [members[16], members[17]]


def test_families_and_limits_share_rounds_and_what_is_timed_twice_is_asked_once_a_round() -> None:
    machine = Machine(lambda _: 1.3)
    searches = [search(kind, within(ms)) for kind in OF_EVERY_SPACE for ms in (60.0, 60.0, 90.0)]
    match_all(searches, machine)
    assert all(len(some) == len(set(some)) for some in machine.rounds)
    alone = Machine(lambda _: 1.3)
    for kind in OF_EVERY_SPACE:
        match_all([search(kind, within(60.0))], alone)
    assert len(machine.rounds) < len(alone.rounds)
    assert [a.found() for a, b in pairwise(searches) if a.limit == b.limit and a.kind == b.kind] == [
        b.found() for a, b in pairwise(searches) if a.limit == b.limit and a.kind == b.kind
    ]


def test_where_none_keeps_the_limit_the_fastest_and_its_time_are_named() -> None:
    machine, members = Machine(lambda _: 2.0), hand_scaled(SMALL, "scaled-depth")
    one = search("scaled-depth", within(machine.ms(members[-1]) * 0.9))
    match_all([one], machine)
    found = rival_of(one, nothing_outside)
    assert isinstance(found, MissingRival)
    assert found.reason == (f"none keeps {found.limit.text}: the fastest takes {machine.ms(members[-1]):.4g} ms")


def test_a_device_that_only_a_table_knows_and_one_that_is_gone_rest_on_predictions() -> None:
    machine, members = Machine(), hand_scaled(SMALL, "scaled-width")
    limit = within(machine.ms(members[9]) * 1.001)
    for attached, gone_after in ((False, 99), (True, 0)):
        machine = Machine(gone_after=gone_after)
        one = search("scaled-width", limit, attached=attached)
        match_all([one], machine)
        found = rival_of(one, nothing_outside)
        assert isinstance(found, SelectedModel)
        assert found.architecture == members[9]
        assert found.matching is not None
        assert not found.matching.measured
        assert len(machine.rounds) == (1 if attached else 0)


def test_every_bound_of_a_joint_limit_holds() -> None:
    def millions(architectures: Sequence[Architecture]) -> FloatArray:
        return np.array([cost(one).params / 1e6 for one in architectures], dtype=np.float64)

    members = hand_scaled(DEEP_SHALLOW, "scaled-width")
    machine, most = Machine(), float(millions([members[12]])[0])
    limit = Limit.of(DEVICE, latency_ms=machine.ms(members[2]), model_mb=most)

    def with_size(some: Sequence[Architecture]) -> Mapping[str, Measurements]:
        return {DEVICE: {one: {LATENCY: machine.ms(one), "model_mb": float(millions([one])[0])} for one in some}}

    one = bisection("scaled-width", limit, members, {DEVICE: {LATENCY: flops_as_ms, "model_mb": millions}}, True)
    match_all([one], with_size)
    found = rival_of(one, lambda _: "too narrow")
    assert isinstance(found, SelectedModel)
    assert found.architecture == members[12]
    assert found.matching is not None
    assert found.matching.outside == "too narrow"

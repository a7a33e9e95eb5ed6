"""The finalists of a search: which candidates they are, and how they are halved."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hat_ray.core.codec import from_json, to_json
from hat_ray.search.candidates import Candidate
from hat_ray.search.engine.finalists import (
    DISTANCE,
    Finals,
    after_rung,
    contested,
    first_rung,
    halved,
    pick_finalists,
)
from hat_ray.search.limits import Limit
from hat_ray.search.rivals.families import hand_scaled
from hat_ray.space.architecture import Architecture, choices_of
from hat_ray.space.genes import GeneCode
from tests.spaces import THREE_LAYERS

TIGHT, WIDE = Limit.of("pi4", latency_ms=10), Limit.of("pi4", latency_ms=20)


def drawn(count: int, seed: int = 1) -> list[Architecture]:
    rng = random.Random(seed)
    return list(dict.fromkeys(THREE_LAYERS.sample(rng) for _ in range(4 * count)))[:count]


def candidates(count: int, seed: int = 1) -> list[Candidate]:
    rng = random.Random(seed)
    return [
        Candidate(one, 4 + rng.random(), {"pi4": rng.uniform(5, 25)}, order)
        for order, one in enumerate(drawn(count, seed))
    ]


def share_of_genes_that_differ(one: Architecture, other: Architecture) -> float:
    """The distance as its definition reads, choice by choice."""
    differ = either = 0
    for dimension in THREE_LAYERS.dimensions:
        mine, theirs = list(choices_of(one, dimension)), list(choices_of(other, dimension))
        if dimension.capped_by:  # a capped choice stands for the next one above it
            choices = sorted(THREE_LAYERS[dimension.name])
            mine, theirs = ([min(c for c in choices if c >= v) for v in some] for some in (mine, theirs))
        longest = max(len(mine), len(theirs))
        either += longest
        differ += sum(a != b for a, b in zip(mine, theirs, strict=False)) + longest - min(len(mine), len(theirs))
    return differ / either


def outline(one: Architecture) -> tuple[int, int, int, int]:
    return one.encoder.embed_dim, one.encoder.depth, one.decoder.embed_dim, one.decoder.depth


def test_finalists_keep_their_limit_and_are_the_best_of_the_best_outlines() -> None:
    some = candidates(400)
    picked = pick_finalists(some, [TIGHT, WIDE], 6, THREE_LAYERS)
    for limit, found in picked.items():
        within = sorted((one for one in some if one.latency_ms["pi4"] <= limit.ms), key=lambda one: one.loss_bits)
        best = {outline(one.architecture): one for one in reversed(within)}
        assert found == sorted(best.values(), key=lambda one: one.loss_bits)[:6]
        assert len(found) == 6


def test_of_one_outline_finalists_differ_in_genes() -> None:
    first = THREE_LAYERS.largest()
    some = [one for one in candidates(4000) if outline(one.architecture) == outline(first)]
    assert len(some) > 20
    found = pick_finalists(some, [Limit.of("pi4", latency_ms=100)], 6, THREE_LAYERS).popitem()[1]
    assert found[0] == min(some, key=lambda one: one.loss_bits)
    assert len(found) == 6
    assert [one.loss_bits for one in found] == sorted(one.loss_bits for one in found)
    for place, one in enumerate(found):
        for other in found[:place]:
            assert share_of_genes_that_differ(one.architecture, other.architecture) >= DISTANCE
    # whoever is better than the last and was left out is too near to one that is in
    for one in sorted(some, key=lambda one: one.loss_bits):
        assert (
            one in found
            or one.loss_bits > found[-1].loss_bits
            or any(share_of_genes_that_differ(one.architecture, other.architecture) < DISTANCE for other in found)
        )


def test_near_twins_fill_the_places_that_nothing_else_takes() -> None:
    code = GeneCode(THREE_LAYERS)
    row = code.encode([THREE_LAYERS.largest()])[0]
    column = int(code.columns["decoder_ffn_dims"][0])
    twin = np.array(row)
    twin[column] = 1
    far = THREE_LAYERS.smallest()
    ones = [THREE_LAYERS.largest(), code.decode(twin), far]
    some = [Candidate(one, 4 + place, {"pi4": 5.0}, place) for place, one in enumerate(ones)]
    assert [one.architecture for one in pick_finalists(some, [TIGHT], 2, THREE_LAYERS)[TIGHT]] == [ones[0], far]
    assert [one.architecture for one in pick_finalists(some, [TIGHT], 3, THREE_LAYERS)[TIGHT]] == ones


def test_measured_latency_counts_and_estimates_and_losses_without_a_number_do_not() -> None:
    one, other, third, fourth = drawn(4)
    some = [
        Candidate(one, 4.0, {"pi4": 9.0}, 0, measured_ms={"pi4": 11.0}),
        Candidate(other, 4.1, {"pi4": 9.0}, 1, scored_share=0.5),
        Candidate(third, math.inf, {"pi4": 9.0}, 2),
        Candidate(fourth, 4.2, {"pi4": 12.0}, 3, measured_ms={"pi4": 9.5}),
    ]
    assert [found.architecture for found in pick_finalists(some, [TIGHT], 4, THREE_LAYERS)[TIGHT]] == [fourth]


def test_the_slowest_member_of_each_family_scaled_by_hand_is_a_finalist_whatever_its_loss() -> None:
    some = candidates(40)
    family = hand_scaled(THREE_LAYERS, "scaled-depth", inside=True)
    assert len(family) > 1
    last = len(some)
    scaled = [Candidate(one, 9.0, {"pi4": 9.0 - place}, last + place) for place, one in enumerate(family)]
    plain = pick_finalists(some, [TIGHT], 3, THREE_LAYERS)[TIGHT]
    picked = pick_finalists([*some, *scaled], [TIGHT], 3, THREE_LAYERS, ["scaled-depth", "scaled-width"])[TIGHT]
    assert picked == [*plain, scaled[0]]

    missed = replace(scaled[0], measured_ms={"pi4": 10.5})
    picked = pick_finalists([*some, missed, *scaled[1:]], [TIGHT], 3, THREE_LAYERS, ["scaled-depth"])[TIGHT]
    assert picked == [*plain, scaled[1]], "timed, the slowest misses the limit"


def finals_by(losses: dict[Architecture, tuple[float, ...]], picked: dict[Limit, list[Candidate]]) -> Finals:
    """Play all rungs with the given loss of each architecture after each rung."""
    rungs = len(next(iter(losses.values())))
    finals, alive = first_rung(picked, [10] * rungs)
    for rung in range(rungs):
        made = {one: losses[one][rung] for one in contested(alive)}
        finals = after_rung(finals, made, 1.5 * len(made))
        alive = halved(alive, made)
    return finals


def test_the_worse_half_of_each_limit_is_dropped_and_the_last_loss_decides() -> None:
    ones = drawn(4)
    some = [Candidate(one, 4 + place / 10, {"pi4": 9.0}, place) for place, one in enumerate(ones)]
    losses = dict(zip(ones, [(3.9, 3.5), (3.2, 3.1), (3.3, 2.9), (3.4, 1.0)], strict=True))
    finals = finals_by(losses, {TIGHT: some})
    assert {one.architecture: one.rung_losses_bits for one in finals.finalists} == {
        ones[0]: (3.9,),
        ones[1]: (3.2, 3.1),
        ones[2]: (3.3, 2.9),
        ones[3]: (3.4,),
    }
    assert [one.architecture for one in finals.of(TIGHT)] == [ones[2], ones[1], ones[3], ones[0]]
    assert finals.best(TIGHT) == ones[2]
    assert [(place.before, place.after) for place in finals.places(TIGHT)] == [(3, 1), (2, 2), (4, 3), (1, 4)]
    assert finals.updates_made == 4 * 10 + 2 * 10
    assert finals.seconds == 1.5 * 6


def test_limits_share_finalists_and_one_that_another_limit_keeps_goes_on_for_all() -> None:
    one, two, three = drawn(3)
    of = {a: Candidate(a, 4 + place / 10, {"pi4": 9.0}, place) for place, a in enumerate((one, two, three))}
    picked = {TIGHT: [of[one], of[two]], WIDE: [of[two], of[three]]}
    # `two` is the worse half of the tight limit and the better one of the wide limit; its second rung counts for both
    finals = finals_by({one: (3.0, 2.9), two: (3.1, 2.0), three: (3.2, 2.5)}, picked)
    assert finals.best(WIDE) == two
    losses = {entry.architecture: entry.rung_losses_bits for entry in finals.finalists}
    assert losses[three] == (3.2,)
    assert len(finals.finalists) == 3


def test_a_loss_that_is_no_number_stands_last_and_a_single_finalist_is_not_trained() -> None:
    one, two = drawn(2)
    some = [Candidate(a, 4.0 + place, {"pi4": 9.0}, place) for place, a in enumerate((one, two))]
    assert finals_by({one: (math.nan,), two: (5.0,)}, {TIGHT: some}).best(TIGHT) == two
    assert contested(first_rung({TIGHT: some[:1], WIDE: []}, [10])[1]) == []
    finals = finals_by({one: (), two: ()}, {TIGHT: some[:1], WIDE: []})
    assert finals.best(TIGHT) == one
    assert finals.best(WIDE) is None


@settings(max_examples=50)
@given(st.integers(1, 12), st.integers(1, 4), st.randoms(use_true_random=False))
def test_halving_leaves_the_larger_half_each_time_and_never_drops_the_best(
    count: int, rungs: int, rng: random.Random
) -> None:
    ones = drawn(count)
    alive = {TIGHT: ones}
    for _ in range(rungs):
        losses = {one: rng.random() for one in ones}
        before = len(alive[TIGHT])
        best = min(alive[TIGHT], key=losses.__getitem__)
        alive = dict(halved(alive, losses))
        assert len(alive[TIGHT]) == -(-before // 2)
        assert best in alive[TIGHT]


def test_finals_come_back_from_json() -> None:
    ones = drawn(2)
    some = [Candidate(one, 4.0, {"pi4": 9.0}, place) for place, one in enumerate(ones)]
    finals = replace(finals_by({ones[0]: (3.0,), ones[1]: (math.inf,)}, {TIGHT: some, WIDE: some}), complete=True)
    assert from_json(Finals, to_json(finals), "here") == finals
    assert finals.limits == (TIGHT, WIDE)


def test_the_distance_of_the_definition_is_that_of_the_genes() -> None:
    code, some = GeneCode(THREE_LAYERS), drawn(30)
    rows = code.encode(some)
    for place, one in enumerate(some[1:], 1):
        either = (rows[0] > 0) | (rows[place] > 0)
        expected = float(np.mean((rows[0] != rows[place])[either]))
        assert share_of_genes_that_differ(some[0], one) == pytest.approx(expected)

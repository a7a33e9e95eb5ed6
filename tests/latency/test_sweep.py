"""The architectures of a sweep against brute force over the whole space, and what their rows say."""

import math
from functools import cache
from itertools import product

import numpy as np
import pytest

from hat_ray.core.codec import from_json, to_json
from hat_ray.errors import RecipeError, SpaceError
from hat_ray.latency.effects import SweepResult, SweptDevice, TimedPoint, TimedSweep, effect_of
from hat_ray.latency.flops import ALIKE, flops_evidence, most_unequal_pair
from hat_ray.latency.sweep import Base, plan_sweep
from hat_ray.recipe import load_recipe
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.presets import PRESETS, preset

BASES: tuple[Base, ...] = ("middle", "largest", "smallest")


def by_hand(choice: dict[str, int], qkv_dim: int) -> Architecture:
    """An architecture with all layers alike, written down without the space's own code."""
    e, d = choice["encoder_depths"], choice["decoder_depths"]
    encoder = (choice["encoder_ffn_dims"],) * e, (choice["encoder_heads"],) * e
    heads = (choice["decoder_self_heads"],) * d, (choice["decoder_cross_heads"],) * d
    reach = (min(choice["decoder_cross_layers"], e),) * d
    return Architecture(
        EncoderShape(choice["encoder_embed_dims"], *encoder),
        DecoderShape(choice["decoder_embed_dims"], (choice["decoder_ffn_dims"],) * d, *heads, reach),
        qkv_dim,
    )


@cache
def all_uniform(name: str) -> dict[Architecture, list[dict[str, int]]]:
    """Every architecture of a preset space with all layers alike, with the choices that make it."""
    space = preset(name)
    names, found = list(space.choices), {}
    for values in product(*space.choices.values()):
        choice = dict(zip(names, values, strict=True))
        found.setdefault(by_hand(choice, space.qkv_dim), []).append(choice)
    return found


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", ["toy", "space1", "deep-shallow"])
def test_a_sweep_is_all_that_differs_from_the_base_in_one_dimension(name: str, base: Base):
    space = preset(name)
    middle = {n: sorted(c)[len(c) // 2] for n, c in space.choices.items()}
    choice = {
        "middle": middle,
        "largest": {n: max(c) for n, c in space.choices.items()},
        "smallest": {n: min(c) for n, c in space.choices.items()},
    }[base]
    alone: dict[str, set[Architecture]] = {n: set() for n in space.choices}
    for architecture, choices in all_uniform(name).items():
        for one in choices:
            changed = [n for n in one if one[n] != choice[n]]
            if len(changed) <= 1:
                for n in changed or space.choices:
                    alone[n].add(architecture)
    plan = plan_sweep(space, base)
    assert plan.base == by_hand(choice, space.qkv_dim)
    assert {one.dimension: {p.architecture for p in one.points} for one in plan.dimensions} == {
        n: members for n, members in alone.items() if len(members) > 1
    }


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_choice_has_its_point_and_every_point_lies_in_the_space(name: str, base: Base):
    space = preset(name)
    plan = plan_sweep(space, base)
    for sweep in plan.dimensions:
        choices = [point.choice for point in sweep.points]
        assert choices == sorted(set(choices))
        assert plan.base in [point.architecture for point in sweep.points]
        wanted = space.choices[sweep.dimension]
        if sweep.dimension == "decoder_cross_layers":
            wanted = tuple(value for value in wanted if value <= plan.base.encoder.depth)
        assert set(choices) == set(wanted)
        for point in sweep.points:
            space.require(point.architecture)
    elastic = {n for n, choices in space.choices.items() if len(choices) > 1}
    if plan.base.encoder.depth == 1:
        elastic -= {"decoder_cross_layers"}
    assert {sweep.dimension for sweep in plan.dimensions} == elastic


def test_the_base_and_what_two_dimensions_share_is_timed_once():
    plan = plan_sweep(preset("toy"))
    assert plan.architectures[0] == plan.base
    assert len(plan.architectures) == len(set(plan.architectures))
    assert len(plan.architectures) == 1 + sum(len(sweep.points) - 1 for sweep in plan.dimensions)


def test_a_space_without_a_choice_has_nothing_to_sweep():
    one = {name: (choices[0],) for name, choices in preset("toy").choices.items()}
    with pytest.raises(SpaceError, match="one choice in every dimension"):
        plan_sweep(preset("toy").replaced(**one))


def test_an_unknown_base_is_told_with_the_known_ones():
    with pytest.raises(RecipeError, match=r"sweep\.base: input should be 'middle', 'largest' or 'smallest', got 'big'"):
        load_recipe("toy", ["sweep.base=big"])


def point(choice: int, ms: float, error: float | None = 0.01, flops: int = 100) -> TimedPoint:
    architecture = preset("toy").smallest()
    return TimedPoint(choice, architecture, flops, ms, ms * 0.98, ms * 1.1, 1.0, ms - 1.0, error)


def test_influence_compares_the_ends_and_knows_its_error():
    found = effect_of([point(1, 10.0), point(2, 99.0), point(3, 20.0, flops=300)])
    assert (found.ratio, found.flops_ratio, found.encoder_ms, found.decoder_ms) == (2.0, 3.0, 0.0, 10.0)
    half_width = 1.96 * math.sqrt(0.01**2 + 0.01**2)
    assert math.log(found.high / found.ratio) == pytest.approx(half_width)
    assert math.log(found.ratio / found.low) == pytest.approx(half_width)
    assert found.is_sure
    assert not effect_of([point(1, 10.0), point(2, 10.2)]).is_sure
    assert not effect_of([point(1, 10.0, None), point(2, 10.0, None)]).is_sure
    assert effect_of([point(1, 10.0), point(2, 12.0)]).is_sure
    assert not effect_of([point(1, 10.0), point(2, 12.0)], error_floor=0.1).is_sure


def swept(device: str, dimension: str, last_ms: float) -> TimedSweep:
    points = (point(1, 10.0), point(2, last_ms))
    return TimedSweep(device, dimension, effect_of(points), points)


def test_dimensions_are_ordered_by_influence_in_either_direction_and_survive_json():
    sweeps = (swept("pi", "a", 11.0), swept("pi", "b", 5.0), swept("pi", "c", 15.0), swept("xeon", "c", 90.0))
    devices = (SweptDevice("pi", "Pi", 10.0), SweptDevice("xeon", "Xeon", 10.0))
    result = SweepResult("toy", preset("toy").smallest(), "smallest", devices, sweeps)
    assert [one.dimension for one in result.on("pi")] == ["b", "c", "a"]
    assert result.by_effect() == ["c", "b", "a"]
    assert from_json(SweepResult, to_json(result), "the sweep") == result


def test_the_equal_flops_pair_is_the_one_that_brute_force_finds():
    rng = np.random.default_rng(3)
    for size in (2, 3, 10, 80):
        flops, ms = rng.uniform(1.0, 4.0, size), rng.uniform(5.0, 20.0, size)
        alike = [
            (ms[slow] / ms[fast], fast, slow)
            for fast in range(size)
            for slow in range(size)
            if max(flops[fast], flops[slow]) <= (1 + ALIKE) * min(flops[fast], flops[slow]) and ms[slow] > ms[fast]
        ]
        found = most_unequal_pair(flops, ms)
        if not alike:
            assert found is None
        else:
            assert found is not None
            assert (found.ratio, found.fast, found.slow) == max(alike)


def test_flops_that_only_count_layers_correlate_over_all_and_not_within_a_depth():
    rng = np.random.default_rng(5)
    depths = np.repeat([1, 2, 3, 4], 50)
    flops, ms = depths * 1000.0 + rng.uniform(0, 400, 200), depths * 10.0 + rng.uniform(0, 1, 200)
    found = flops_evidence(flops.tolist(), ms.tolist(), depths.tolist())
    assert found is not None
    assert found.overall.architectures == 200
    assert found.overall.pearson > 0.95
    assert set(found.within) == {1, 2, 3, 4}
    assert all(abs(one.kendall_tau) < 0.3 for one in found.within.values())


def test_few_or_constant_figures_have_no_correlation():
    assert flops_evidence([1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0], [1, 1, 1, 1]) is None
    same = flops_evidence([7] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1, 1, 1, 1, 1, 2])
    assert same is not None
    assert same.overall.pearson is None
    assert same.overall.kendall_tau is None
    assert list(same.within) == [1]
    assert same.pair is not None
    assert same.pair.ratio == 6.0

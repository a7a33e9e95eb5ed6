"""Spaces whose layers are alike: every place that draws, counts, breeds, covers or writes them, by brute force."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from hat_ray.core.config import canonical
from hat_ray.errors import SpaceError
from hat_ray.recipe import parse_recipe
from hat_ray.search.algorithms.surrogate.features import GROUPS, GeneFeatures
from hat_ray.search.rivals.families import hand_scaled
from hat_ray.space.architecture import Architecture, own_choices_of
from hat_ray.space.config import SpaceConfig
from hat_ray.space.derived import space_shown_by
from hat_ray.space.dimensions import DIMENSIONS
from hat_ray.space.features import cost_features, hat_features, layer_features
from hat_ray.space.genes import GeneCode
from hat_ray.space.hat_yaml import read_space, write_space
from hat_ray.space.presets import PRESETS, TOY
from hat_ray.space.search_space import SearchSpace
from tests.space.test_search_space import TINY

CELLS = TOY.replaced(name="cells", decoder_cells=("attention", "ssru"), decoder_cross_layers=(1, 2, 3))
FREE = (
    TINY,
    TINY.replaced(decoder_cells=("attention", "ssru"), encoder_heads=(2, 1), decoder_ffn_dims=(16, 8)),
    TINY.replaced(decoder_cells=("ssru",), decoder_depths=(3, 1)),
)


def alike(architecture: Architecture) -> bool:
    return all(len({*own_choices_of(architecture, one)}) <= 1 for one in DIMENSIONS)


def members(space: SearchSpace) -> set[Architecture]:
    """Return the architectures of a free space whose layers are alike, by looking at all of them."""
    return {one for one in GeneCode(space).all() if alike(one)}


@pytest.mark.parametrize("free", FREE)
def test_it_holds_exactly_the_architectures_whose_layers_are_alike(free: SearchSpace) -> None:
    space, wanted = free.replaced(alike_layers=True), members(free)
    listed = GeneCode(space).all()
    assert set(listed) == wanted
    assert len(listed) == space.size() == len(wanted) < free.size()
    draw = random.Random(1)
    assert {space.sample(draw) for _ in range(60 * len(wanted))} == wanted
    assert all(space.contains(one) == alike(one) for one in GeneCode(free).all())
    assert space.largest() == free.largest()
    assert space.smallest() == free.smallest()


@pytest.mark.parametrize("free", [*FREE, CELLS])
def test_genes_give_back_architectures_shapes_and_canonical_rows(free: SearchSpace) -> None:
    space = free.replaced(alike_layers=True)
    code, draw, numbers = GeneCode(space), random.Random(1), np.random.default_rng(1)
    some = [space.sample(draw) for _ in range(300)]
    rows = code.encode(some)
    assert rows.shape == (300, len(space.dimensions))
    assert list(code.decoded(rows)) == some
    assert (code.canonical(rows) == rows).all()
    for of in (cost_features, layer_features, hat_features):
        np.testing.assert_array_equal(of(code.decoded(rows)), of(some))
    bred = code.bred(rows[:150], rows[150:], numbers.random(150) < 0.5, (0.1, 0.5), numbers)
    children: Sequence[Architecture] = [code.decode(row) for row in bred.tolist()]
    assert all(map(space.contains, children))
    assert (code.encode(children) == bred).all()
    assert space.contains(code.child(some[:2], draw, 0.3))


def test_the_linear_model_sees_single_genes_and_their_pairs() -> None:
    space = CELLS.replaced(alike_layers=True)
    code, features = GeneCode(space), GeneFeatures(GeneCode(space))
    rows = code.encode([space.sample(random.Random(seed)) for seed in range(400)])
    found = features(rows)
    assert found.shape == (400, len(features.groups))
    assert {GROUPS[group] for group in features.groups} == {"constant", "whole"}
    distinct = {row.tobytes() for row in rows}
    assert len({row.tobytes() for row in found}) == len(distinct)


def test_it_is_the_free_space_where_no_two_layers_could_differ() -> None:
    fixed = TINY.replaced(encoder_ffn_dims=(16,), decoder_self_heads=(2,), decoder_cross_layers=(1,))
    assert fixed.replaced(alike_layers=True) == fixed
    shallow = TINY.replaced(encoder_depths=(1,), decoder_depths=(1,))
    assert shallow.replaced(alike_layers=True).id == shallow.id
    assert TINY.replaced(alike_layers=True).id != TINY.id


def test_what_covers_it_and_what_it_covers() -> None:
    space = CELLS.replaced(alike_layers=True)
    assert CELLS.covers(space)
    assert not space.covers(CELLS)
    assert space.covers(space.replaced(encoder_depths=(2, 1)))
    shallow = CELLS.replaced(encoder_depths=(1,), decoder_depths=(1,))
    assert space.covers(shallow)
    draw = random.Random(2)
    shown = space_shown_by([space.sample(draw) for _ in range(400)])
    assert shown is not None
    assert shown.id == space.id
    shown = space_shown_by([CELLS.sample(draw) for _ in range(400)])
    assert shown is not None
    assert not shown.alike_layers
    assert shown.covers(space)


def test_it_comes_back_from_yaml_dictionaries_and_recipes() -> None:
    space = CELLS.replaced(alike_layers=True)
    assert read_space(write_space(space), space.name) == space
    assert SearchSpace.from_dict(space.to_dict()) == space
    assert "alike_layers" not in CELLS.to_dict()
    recipe = parse_recipe("{name: x, space: {alike_layers: true, decoder_cells: [attention, ssru]}}", "here")
    assert recipe.space.build().alike_layers
    assert "alike_layers" not in canonical(SpaceConfig())  # fingerprints of before stay
    with pytest.raises(SpaceError, match="alike-layers must be true or false, got 'yes please'"):
        read_space(write_space(space).replace("alike-layers: true", "alike-layers: yes please"), "x")
    with pytest.raises(SpaceError, match="alike_layers must be true or false, got 1"):
        SearchSpace.from_dict({**space.to_dict(), "alike_layers": 1})


def test_what_lies_outside_is_named() -> None:
    space = TINY.replaced(alike_layers=True)
    unlike = next(one for one in GeneCode(TINY).all() if one.encoder.ffn_dims == (16, 8))
    with pytest.raises(SpaceError, match=r"encoder_ffn_dims must be the same in all layers .*, got 16, 8"):
        space.require(unlike)


@pytest.mark.parametrize("free", [CELLS, *PRESETS.values()])
def test_models_scaled_by_hand_lie_inside(free: SearchSpace) -> None:
    space = free.replaced(alike_layers=True)
    for kind in ("scaled-depth", "scaled-width", "deep-shallow", "deep-shallow-ssru"):
        assert all(map(space.contains, hand_scaled(space, kind, inside=True)))

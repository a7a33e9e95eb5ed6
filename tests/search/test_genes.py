"""Gene rows against the architectures that they stand for."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_stand_ins import EIGHT, ODD

from hat_ray.search.algorithms.surrogate.features import GROUPS, GeneFeatures
from hat_ray.space.features import cost_features, hat_features, layer_features, places_of
from hat_ray.space.genes import GeneCode
from hat_ray.space.presets import DEEP_SHALLOW, HAT_LATENCY, SMALL, SPACE0, SPACE1, TOY
from hat_ray.space.search_space import SearchSpace

FINE = TOY.replaced(name="fine", encoder_ffn_dims=tuple(range(8, 8 * 301, 8)))  # more choices than a byte counts
SPACES = pytest.mark.parametrize(
    "space", [TOY, SPACE0, HAT_LATENCY, SMALL, DEEP_SHALLOW, EIGHT, ODD, FINE], ids=lambda space: space.name
)


@SPACES
def test_a_row_gives_back_its_architecture(space: SearchSpace) -> None:
    rng = random.Random(0)
    some = [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(200))]
    code = GeneCode(space)
    rows = code.encode(some)
    assert [code.decode(row) for row in rows] == some
    assert np.array_equal(code.canonical(rows), rows)


def test_rows_are_bytes_wherever_bytes_suffice() -> None:
    """Random draws depend on the width of the rows, and so seeds would move."""
    byte, more = (TOY.replaced(encoder_ffn_dims=tuple(range(8, 8 * count + 1, 8))) for count in (127, 128))
    assert [GeneCode(space).dtype for space in (TOY, byte, more)] == [np.int8, np.int8, np.int16]
    assert GeneCode(byte).random_rows(9999, np.random.default_rng(0)).max() == 127


@SPACES
def test_canonical_rows_are_equal_where_architectures_are(space: SearchSpace) -> None:
    code = GeneCode(space)
    full = code.random_rows(300, np.random.default_rng(0))
    architectures = [code.decode(row) for row in full]
    assert all(space.contains(architecture) for architecture in architectures)
    assert np.array_equal(code.canonical(full), code.encode(architectures))


@SPACES
def test_architectures_of_rows_are_made_when_looked_at_and_have_their_features_without(space: SearchSpace) -> None:
    code = GeneCode(space)
    rows = code.canonical(code.random_rows(300, np.random.default_rng(3)))
    decoded, made = code.decoded(rows), [code.decode(row) for row in rows]
    for features in (hat_features, cost_features, layer_features):
        assert np.array_equal(features(decoded), features(made))
        assert np.array_equal(features(decoded[7:9]), features(made[7:9]))
        assert features(decoded[:0]).shape == features([]).shape
    assert list(decoded) == made
    assert [decoded[0], decoded[-1], *decoded[3:9:2]] == [made[0], made[-1], *made[3:9:2]]
    wanted = {made[5], made[250], SPACE1.largest(), DEEP_SHALLOW.smallest()}
    assert places_of(decoded, wanted) == places_of(made, wanted)
    assert {5, 250} <= {place for place, _ in places_of(decoded, wanted)}


@SPACES
def test_children_lie_in_the_space_and_resemble_their_parents(space: SearchSpace) -> None:
    code, rng = GeneCode(space), np.random.default_rng(1)
    first, second = (code.canonical(code.random_rows(200, rng)) for _ in range(2))
    assert np.array_equal(code.mutated(first, np.zeros(200), rng), first)
    children = code.mutated(code.crossed(first, second, rng), np.zeros(200), rng)
    assert np.array_equal(code.encode([code.decode(row) for row in children]), children)
    taken = (children == first) | (children == second) | (first == 0) | (second == 0)
    reach = code.columns["decoder_cross_layers"]  # may be cut to a shallower encoder
    assert np.delete(taken, reach, axis=1).all()


@given(st.sampled_from([TOY, SPACE0, SMALL, DEEP_SHALLOW, EIGHT, ODD]), st.integers(0, 10**6), st.floats(0, 1))
def test_single_children_lie_in_the_space(space: SearchSpace, seed: int, probability: float) -> None:
    rng, code = random.Random(seed), GeneCode(space)
    first, second = space.sample(rng), space.sample(rng)
    space.require(code.child([first], rng, probability))
    space.require(code.child([first, second], rng))


def test_mutation_with_probability_nought_changes_nothing_and_with_one_redraws_everything() -> None:
    rng, code = random.Random(3), GeneCode(SPACE0)
    architecture = SPACE0.sample(rng)
    assert code.child([architecture], rng, 0.0) == architecture
    assert len({code.child([architecture], rng, 1.0) for _ in range(50)}) == 50


def test_mutation_changes_choices_as_often_as_its_probability_says() -> None:
    rng, code, parent = random.Random(5), GeneCode(SPACE0), SPACE0.largest()
    changed = [code.child([parent], rng, 0.3).encoder.ffn_dims[0] != 3072 for _ in range(4000)]
    assert sum(changed) / len(changed) == pytest.approx(0.3 * 2 / 3, abs=0.02)


def test_a_child_of_two_parents_has_each_layer_from_one_of_them() -> None:
    rng, code = random.Random(6), GeneCode(SPACE0)
    for _ in range(200):
        first, second = SPACE0.sample(rng), SPACE0.sample(rng)
        child = code.child([first, second], rng)
        for index, ffn in enumerate(child.encoder.ffn_dims):
            assert ffn in (first.encoder.ffn_dims[index], second.encoder.ffn_dims[index])
        assert child.decoder.depth in (first.decoder.depth, second.decoder.depth)


@pytest.mark.parametrize("space", [EIGHT, ODD], ids=lambda space: space.name)
def test_all_counts_each_network_of_a_small_space_once(space: SearchSpace) -> None:
    everything = GeneCode(space).all()
    assert len(everything) == len(set(everything)) == space.size()


@SPACES
def test_features_tell_any_two_architectures_apart(space: SearchSpace) -> None:
    code = GeneCode(space)
    features = GeneFeatures(code)
    some = 50 if space is FINE else 300  # hundreds of thousands of features each
    rows = np.unique(code.canonical(code.random_rows(some, np.random.default_rng(2))), axis=0)
    x = features(rows)
    assert x.shape == (len(rows), len(features.groups))
    assert len(np.unique(x, axis=0)) == len(rows)
    assert (x[:, features.groups == GROUPS.index("constant")] == 1).all()
    assert (x.min(), x.max()) == (0, 1)

"""Search spaces: draws, moves, counts, against brute force where it can be counted."""

import random
from itertools import product

import pytest

from hat_ray.errors import SpaceError
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.presets import PRESETS, TOY, preset
from hat_ray.space.search_space import SearchSpace

TINY = SearchSpace(
    name="tiny",
    encoder_embed_dims=(16, 8),
    encoder_depths=(2, 1),
    encoder_ffn_dims=(16, 8),
    encoder_heads=(2,),
    decoder_embed_dims=(8,),
    decoder_depths=(2, 1),
    decoder_ffn_dims=(16,),
    decoder_self_heads=(2, 1),
    decoder_cross_heads=(2,),
    decoder_cross_layers=(1, 3),
    qkv_dim=8,
)


def every_architecture(space: SearchSpace) -> set[Architecture]:
    found = set()
    for e_dim, d_dim, e_depth, d_depth in product(
        space["encoder_embed_dims"], space["decoder_embed_dims"], space["encoder_depths"], space["decoder_depths"]
    ):
        encoder_layers = product(space["encoder_ffn_dims"], space["encoder_heads"])
        decoder_layers = list(
            product(
                space["decoder_ffn_dims"],
                space["decoder_self_heads"],
                space["decoder_cross_heads"],
                space["decoder_cross_layers"],
            )
        )
        for encoder in product(list(encoder_layers), repeat=e_depth):
            for decoder in product(decoder_layers, repeat=d_depth):
                shape = EncoderShape(e_dim, *map(tuple, zip(*encoder, strict=True)))
                found.add(
                    Architecture(shape, DecoderShape(d_dim, *map(tuple, zip(*decoder, strict=True))), space.qkv_dim)
                )
    return found


def test_size_counts_the_different_networks():
    assert TINY.size() == len(every_architecture(TINY))


def test_sampling_reaches_every_architecture_and_nothing_else():
    rng = random.Random(0)
    assert {TINY.sample(rng) for _ in range(20_000)} == every_architecture(TINY)


def test_contains_exactly_its_own_architectures():
    everything = every_architecture(TINY)
    assert all(TINY.contains(architecture) for architecture in everything)
    outside = TOY.sample(random.Random(1))
    assert not TINY.contains(outside)
    with pytest.raises(SpaceError, match=r"outside space tiny: qkv_dim must be one of \[8\], got 128"):
        TINY.require(outside)


def test_largest_and_smallest_bound_every_draw():
    from hat_ray.space.cost import cost

    rng, most, least = random.Random(7), cost(TOY.largest()), cost(TOY.smallest())
    for _ in range(300):
        drawn = cost(TOY.sample(rng))
        assert least.params <= drawn.params <= most.params
        assert least.flops <= drawn.flops <= most.flops


def test_the_same_choices_are_the_same_space_under_any_name_and_order():
    renamed = SearchSpace.from_dict({**TINY.to_dict(), "name": "other", "encoder_embed_dims": [8, 16]})
    assert renamed.id == TINY.id
    assert len({space.id for space in PRESETS.values()}) == len(PRESETS)


def test_ill_formed_spaces_and_unknown_presets_are_refused():
    with pytest.raises(SpaceError, match="needs distinct choices"):
        SearchSpace.from_dict({**TINY.to_dict(), "encoder_embed_dims": []})
    with pytest.raises(SpaceError, match="heads must divide"):
        SearchSpace.from_dict({**TINY.to_dict(), "encoder_heads": [3]})
    with pytest.raises(SpaceError, match="did you mean space0"):
        preset("spce0")

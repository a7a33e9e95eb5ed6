"""Families of models that an engineer scales by hand."""

from itertools import pairwise

import pytest

from hat_ray.search.rivals.families import hand_scaled
from hat_ray.search.selection import OF_EVERY_SPACE, HandScaled
from hat_ray.space.cost import cost
from hat_ray.space.presets import HAT_LATENCY, PRESETS, TOY
from tests.search.rivals.spaces import SMALL

EVERY = [(name, kind) for name in PRESETS for kind in OF_EVERY_SPACE]


def depths(kind: HandScaled) -> list[tuple[int, int]]:
    return [(one.encoder.depth, one.decoder.depth) for one in hand_scaled(SMALL, kind)]


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_no_member_is_larger_than_the_largest_and_none_is_the_largest(name: str, kind: HandScaled) -> None:
    space = PRESETS[name]
    largest, members = space.largest(), hand_scaled(space, kind)
    assert members
    assert len(set(members)) == len(members)
    assert largest not in members
    for one in members:
        assert one.encoder.depth <= largest.encoder.depth
        assert one.decoder.depth <= largest.decoder.depth
        assert max(one.encoder.ffn_dims) <= max(largest.encoder.ffn_dims)
        assert one.qkv_dim <= largest.qkv_dim
        assert set(one.decoder.cross_layers) == {1}
        assert cost(one).flops < cost(largest).flops


@pytest.mark.parametrize("name", PRESETS)
def test_members_of_one_way_to_scale_run_from_the_largest_to_the_smallest(name: str) -> None:
    for kind in ("scaled-depth", "scaled-width"):
        flops = [cost(one).flops for one in hand_scaled(PRESETS[name], kind)]
        assert all(more > less for more, less in pairwise(flops)), (kind, flops)


def test_equal_layers_are_removed_until_each_side_has_one() -> None:
    assert depths("scaled-depth") == [(5, 3), (4, 2), (3, 1), (2, 1), (1, 1)]
    one = hand_scaled(SMALL, "scaled-depth")[1]
    assert (one.encoder.embed_dim, one.encoder.ffn_dims, one.qkv_dim) == (256, (1024,) * 4, 256)


def test_a_space_of_one_encoder_depth_does_not_bind_who_scales_by_hand() -> None:
    assert [one.encoder.depth for one in hand_scaled(HAT_LATENCY, "scaled-depth")] == [5, 4, 3, 2, 1]


def test_all_widths_shrink_equally_and_heads_divide_what_they_share() -> None:
    half = next(one for one in hand_scaled(SMALL, "scaled-width") if one.encoder.embed_dim == 128)
    assert half.decoder.embed_dim == half.qkv_dim == 128
    assert {*half.encoder.ffn_dims, *half.decoder.ffn_dims} == {512}
    assert {*half.encoder.heads, *half.decoder.self_heads, *half.decoder.cross_heads} == {2}
    assert depths("scaled-width") == [(6, 4)] * len(hand_scaled(SMALL, "scaled-width"))


def test_the_deepest_encoder_has_two_decoder_layers_then_one_and_widths_shrink_last() -> None:
    found = hand_scaled(SMALL, "deep-shallow")
    assert (found[0].encoder.depth, found[0].decoder.depth, found[0].encoder.embed_dim) == (6, 2, 256)
    shallow = next(one for one in found if one.decoder.depth == 1)
    assert (shallow.encoder.embed_dim, shallow.decoder.ffn_dims, shallow.qkv_dim) == (256, (1024,), 256)
    assert {one.decoder.depth for one in found[found.index(shallow) :]} == {1}
    assert found[-1].encoder.embed_dim == 32


def test_a_width_that_predictors_do_not_see_is_kept_where_nothing_is_timed() -> None:
    assert {one.qkv_dim for one in hand_scaled(TOY, "scaled-width", keep_qkv=True)} == {TOY.qkv_dim}
    assert len({one.qkv_dim for one in hand_scaled(TOY, "scaled-width")}) > 5


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_members_that_are_to_inherit_weights_lie_in_the_space(name: str, kind: HandScaled) -> None:
    space = PRESETS[name]
    members = hand_scaled(space, kind, inside=True)
    assert all(space.why_outside(one) is None for one in members)
    assert len(set(members)) == len(members)
    assert space.largest() not in members


def test_a_member_inside_is_the_nearest_of_the_space() -> None:
    widths = [one.encoder.embed_dim for one in hand_scaled(TOY, "scaled-width", inside=True)]
    assert widths == sorted(widths, reverse=True)
    assert set(widths) == {96, 64, 48}
    assert [(one.encoder.depth, one.decoder.depth) for one in hand_scaled(TOY, "scaled-depth", inside=True)] == [
        (5, 3), (4, 2), (3, 1), (2, 1), (1, 1)
    ]  # fmt: skip


def test_students_with_ssru_decoders_need_a_space_that_has_the_choice() -> None:
    assert hand_scaled(SMALL, "deep-shallow-ssru") == []
    assert hand_scaled(SMALL.replaced(decoder_cells=("ssru",)), "deep-shallow-ssru") == []
    space = SMALL.replaced(decoder_cells=("attention", "ssru"))
    plain = hand_scaled(space, "deep-shallow")
    assert plain == hand_scaled(SMALL, "deep-shallow")
    for inside in (False, True):
        students = hand_scaled(space, "deep-shallow-ssru", inside=inside)
        assert len(students) == len(hand_scaled(space, "deep-shallow", inside=inside))
        for one, other in zip(students, hand_scaled(space, "deep-shallow", inside=inside), strict=True):
            assert one.cells == ("ssru",) * one.decoder.depth
            assert one.encoder == other.encoder
            assert one.decoder.ffn_dims == other.decoder.ffn_dims
            assert cost(one).flops < cost(other).flops
            assert not inside or space.contains(one)

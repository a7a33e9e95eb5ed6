"""Which space contains another, and what the architectures of a space show of it."""

import random
from itertools import product

import pytest

from hat_ray.space.architecture import Architecture
from hat_ray.space.derived import space_shown_by
from hat_ray.space.presets import HAT_LATENCY, SPACE0, SPACE1, TOY, preset
from hat_ray.space.search_space import SearchSpace
from tests.space.test_search_space import every_architecture

ENCODER_DEPTHS, REACHES, WIDTHS = ((2,), (1, 2), (3, 1)), ((1,), (2,), (1, 3), (1, 2, 3)), ((16,), (16, 8))


def spaces() -> list[SearchSpace]:
    return [
        SearchSpace(
            "s",
            16,
            **{"encoder_embed_dims": widths, "encoder_depths": depths, "encoder_ffn_dims": (8,), "encoder_heads": (1,)},
            **{"decoder_embed_dims": (16,), "decoder_depths": (2, 1), "decoder_ffn_dims": (8,)},
            **{"decoder_self_heads": (1,), "decoder_cross_heads": (1,), "decoder_cross_layers": reaches},
        )
        for widths, depths, reaches in product(WIDTHS, ENCODER_DEPTHS, REACHES)
    ]


def test_a_space_covers_another_where_it_has_all_its_networks() -> None:
    networks = [(space, every_architecture(space)) for space in spaces()]
    found = {True: 0, False: 0}
    for (large, its), (small, others) in product(networks, networks):
        found[large.covers(small)] += 1
        assert large.covers(small) == (others <= its), (large.to_dict(), small.to_dict())
    assert min(found.values()) > 50


def test_hats_space_of_latency_tables_covers_its_search_spaces() -> None:
    assert HAT_LATENCY.covers(SPACE0)
    assert HAT_LATENCY.covers(SPACE1)
    assert not SPACE0.covers(HAT_LATENCY)
    assert not SPACE0.replaced(qkv_dim=1024).covers(SPACE0)


@pytest.mark.parametrize("seed", range(4))
def test_architectures_never_show_more_than_their_space_has(seed: int) -> None:
    rng = random.Random(seed)
    for space in spaces():
        every = every_architecture(space)
        drawn = rng.sample(sorted(every, key=Architecture.to_json), rng.randint(1, len(every)))
        shown = space_shown_by(drawn)
        assert shown is not None
        assert space.covers(shown)
        assert every_architecture(shown) <= every
        assert shown.covers(space) or len(drawn) < len(every)


def test_two_hundred_draws_show_the_whole_toy_space() -> None:
    rng = random.Random(1)
    shown = space_shown_by(TOY.sample(rng) for _ in range(200))
    assert shown is not None
    assert shown.id == preset("toy").id


def test_nothing_is_shown_by_none_or_by_unlike_widths() -> None:
    assert space_shown_by([]) is None
    assert space_shown_by([SPACE0.smallest(), TOY.smallest()]) is None

"""Architectures spread over latency, and policies by their short names."""

import numpy as np
import pytest

from hat_ray.errors import SpaceError
from hat_ray.space.cost import count_params
from hat_ray.space.presets import TOY
from hat_ray.space.search_space import SearchSpace
from hat_ray.studies.policy_names import PolicySpec, parse_policy
from hat_ray.studies.stratify import stratify


def params(architectures):
    return np.array([count_params(architecture) for architecture in architectures], dtype=np.float64)


def test_each_bin_gets_its_share_and_bins_do_not_overlap():
    picked = stratify(TOY, params, 14, 4, seed=3)
    assert [sum(one.bin == b for one in picked) for b in range(4)] == [4, 4, 3, 3]
    assert len({one.architecture for one in picked}) == 14
    for one in picked:
        assert one.latency == count_params(one.architecture)
        assert TOY.contains(one.architecture)
    for b in range(3):
        assert max(o.latency for o in picked if o.bin == b) <= min(o.latency for o in picked if o.bin == b + 1)


def test_more_architectures_hold_the_fewer_so_that_nothing_is_trained_twice():
    few, many = (stratify(TOY, params, count, 3, seed=5) for count in (6, 20))
    assert {(one.architecture, one.bin) for one in few} <= {(one.architecture, one.bin) for one in many}
    assert stratify(TOY, params, 6, 3, seed=5) == few
    assert stratify(TOY, params, 6, 3, seed=6) != few


def test_a_space_that_is_too_small_is_told():
    one = {name: (max(choices),) for name, choices in TOY.choices.items()}
    space = SearchSpace("single", **one, qkv_dim=TOY.qkv_dim)
    with pytest.raises(SpaceError, match=r"at least ranking\.architectures = 4 different architectures, 1 were found"):
        stratify(space, params, 4, 2, seed=1)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("front/uniform", PolicySpec("front", "uniform")),
        (" importance/stratified ", PolicySpec("importance", "stratified")),
        ("middle/sandwich+distill", PolicySpec("middle", "sandwich", 0.0)),
        ("front/sandwich+distill=0.3", PolicySpec("front", "sandwich", 0.3)),
    ],
)
def test_policies_are_read_and_written_alike(text: str, spec: PolicySpec):
    assert parse_policy(text) == spec
    assert spec.name == text.strip()
    assert set(spec.slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")


def test_the_share_that_is_distilled_is_the_names_then_the_recipes_then_ours():
    assert parse_policy("front/sandwich").share(0.7) == 0
    assert parse_policy("front/sandwich+distill").share(0.7) == 0.7
    assert parse_policy("front/sandwich+distill").share(0.0) == 0.5
    assert parse_policy("front/sandwich+distill=0.3").share(0.7) == 0.3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uniform", "must read sharing/policy"),
        ("frnt/uniform", "unknown sharing 'frnt'; did you mean front"),
        ("front/unifrom", "unknown policy 'unifrom'; did you mean uniform"),
        ("front/uniform+distill", r"\+distill needs the sandwich policy"),
        ("front/sandwich+distil", "did you mean distill"),
        ("front/sandwich+distill=2", "must lie above 0 and not above 1"),
        ("front/sandwich+distill=x", "must lie above 0 and not above 1"),
    ],
)
def test_what_is_no_policy_is_told_with_what_is(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        parse_policy(text)

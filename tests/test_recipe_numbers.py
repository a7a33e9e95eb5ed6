"""Absurd numbers in a recipe, a search space or an architecture are refused before anything is made from them."""

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml

from hat_ray.errors import HatRayError, RecipeError, SpaceError
from hat_ray.recipe import load_recipe, to_yaml
from hat_ray.space.hat_yaml import load_architecture, read_space, write_architecture, write_space
from hat_ray.space.presets import SPACE0


def refused(change: str) -> str:
    with pytest.raises(HatRayError) as refusal:
        load_recipe("toy", [change]).space.build()
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300
    return str(refusal.value)


SIZES = [
    *("corpus.vocab_size", "corpus.max_length", "model.max_positions", "supernet.max_tokens", "retrain.max_tokens"),
    *("latency.batch", "latency.beam", "latency.source_length", "latency.target_length", "latency.threads"),
    *("evaluate.beam", "evaluate.batch_tokens", "supernet.workers", "search.workers", "search.max_batch"),
    *("latency.samples", "ranking.resamples", "predictor.rounds", "supernet.average_last"),
]


@pytest.mark.parametrize("key", SIZES)
def test_a_size_that_takes_memory_has_a_bound(key: str):
    assert f"--set {key}=1000000000000: {key}: input should be less than or equal to" in refused(f"{key}={10**12}")


def all_numbers(tree: Any, path: str = "") -> list[tuple[str, int | float]]:
    if isinstance(tree, dict):
        return [found for key, value in tree.items() for found in all_numbers(value, f"{path}.{key}".strip("."))]
    return [(path, tree)] if isinstance(tree, int | float) and not isinstance(tree, bool) else []


@pytest.mark.parametrize(("key", "value"), all_numbers(yaml.safe_load(to_yaml(load_recipe("toy")))))
def test_every_number_of_a_recipe_is_finite_and_bounded(key: str, value: float):
    if isinstance(value, int):
        refused(f"{key}={10**30}")
        refused(f"{key}={-(10**30)}")
    for wrong in (".nan", ".inf", "-.inf"):
        assert key in refused(f"{key}={wrong}")


@pytest.mark.parametrize(("key", "value"), all_numbers(yaml.safe_load(to_yaml(load_recipe("toy")))))
def test_a_truth_value_is_no_number(key: str, value: float):
    for wrong in ("true", "false"):
        assert key in refused(f"{key}={wrong}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("search.limits=[{latency_ms: 40, model_mb: true}]", "search.limits: model_mb must be a number, not true"),
        ("search.limits={pi4: {latency_ms: true}}", "search.limits: pi4.latency_ms must be a number, not true"),
        ("search.limits={pi4: [{p90_ms: 4}, {latency_ms: on}]}", "pi4.latency_ms must be a number, not true"),
        ("search.limits_ms=[40, true]", "search.limits_ms: must be a number, not true"),
        ("search.limits_ms={pi4: [true]}", "search.limits_ms: pi4 must be a number, not true"),
        ("search.limits_fraction=[false, 0.5]", "search.limits_fraction: must be a number, not false"),
    ],
)
def test_a_truth_value_is_no_bound(change: str, words: str):
    assert words in refused(change)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("encoder_embed_dims", "must be whole numbers from 1 to 131072, got 1000000000000"),
        ("encoder_depths", "must be whole numbers from 1 to 128, got 1000000000000"),
        ("decoder_depths", "must be whole numbers from 1 to 128"),
        ("decoder_ffn_dims", "must be whole numbers from 1 to 131072"),
        ("decoder_cross_heads", "must be whole numbers from 1 to 131072"),
    ],
)
def test_a_space_of_absurd_sizes_is_refused_before_an_architecture_is_built(key: str, words: str):
    tracemalloc.start()
    assert words in refused(f"space.{key}=[{10**12}]")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    assert "at most 1000 choices, got 1500" in refused(f"space.{key}={list(range(1, 1501))}")
    assert "must be" in refused(f"space.{key}=[0]")


def test_hats_files_are_bounded_too(tmp_path: Path):
    values = yaml.safe_load(write_architecture(SPACE0.largest()))
    for key in values:
        for wrong in (10**12, -1, 0, "wide", None, {"a": 1}, 1.5, True, [10**12] * 9, [{}], [[1]] * 9):
            if key == "decoder-arbitrary-ende-attn-all-subtransformer" and wrong == -1:
                continue
            (tmp_path / "a.yml").write_text(yaml.safe_dump({**values, key: wrong}))
            with pytest.raises(SpaceError, match=r"a\.yml"):
                pytest.fail(f"{key} {wrong}: {load_architecture(tmp_path / 'a.yml')}")
    space = yaml.safe_load(write_space(SPACE0))
    for key in (key for key in space if key.endswith("choice")):
        for choices in (10**12, "wide", None, [10**12], [0], [], [{}], ["x"], [1.5], [True], [1, 1]):
            with pytest.raises(SpaceError):
                read_space(yaml.safe_dump({**space, key: choices}), "x")
    with pytest.raises(SpaceError):
        read_space(yaml.safe_dump({**space, "qkv-dim": 10**12}), "x")


def test_a_size_at_its_bound_is_taken():
    recipe = load_recipe("toy", ["corpus.vocab_size=1000000", "seed=9007199254740991"])
    assert (recipe.corpus.vocab_size, recipe.seed) == (1_000_000, (1 << 53) - 1)
    with pytest.raises(RecipeError, match="seed: a whole number is at most 9007199254740991"):
        load_recipe("toy", ["seed=9007199254740992"])

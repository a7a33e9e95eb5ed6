"""Timing a device needs no text: a board makes its table before, or without, any corpus."""

from pathlib import Path

import pytest

from hat_ray.api import run_recipe
from hat_ray.errors import RunError
from hat_ray.latency.table.table import read_table
from hat_ray.recipe import Recipe, load_recipe

TINY = str(Path(__file__).parent / "tiny.yaml")


def recipe(latency: str = "latency.samples=3") -> Recipe:
    return load_recipe(TINY, [latency])


def test_a_corpus_that_comes_later_leaves_the_timings_as_they_are(tmp_path: Path):
    (first,) = run_recipe(recipe(), str(tmp_path), local=True, only="latency")
    assert {row.workload.vocab_size for row in read_table(tmp_path / "latency" / "table")} == {400}
    run_recipe(recipe(), str(tmp_path), local=True, only="corpus")
    (again,) = run_recipe(recipe(), str(tmp_path), local=True, only="latency")
    assert again.id == first.id


def test_a_mix_of_lengths_needs_the_corpus_that_it_is_drawn_from(tmp_path: Path):
    with pytest.raises(RunError, match="do `hat-ray corpus` first"):
        run_recipe(recipe("latency.length_mix=3"), str(tmp_path), local=True, only="latency")

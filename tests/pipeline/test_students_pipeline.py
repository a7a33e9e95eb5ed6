"""A run whose architectures have a shape that Marian trains: from the recipe to each winner's configuration."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from hat_ray.api import load
from hat_ray.cli import app
from hat_ray.errors import RunError
from hat_ray.foreign.marian.config import config_text
from hat_ray.foreign.marian.settings import read_settings
from hat_ray.recipe import load_recipe

TINY = str(Path(__file__).parent / "tiny.yaml")
STUDENTS = (
    "space.alike_layers=true",
    "space.encoder_embed_dims=[32]",
    "space.decoder_embed_dims=[32]",
    "space.qkv_dim=32",
    "space.encoder_depths=[3, 2, 1]",
    "space.decoder_depths=[2, 1]",
    "space.encoder_ffn_dims=[64, 48, 32]",
    "space.decoder_ffn_dims=[64, 48, 32]",
    "space.encoder_heads=[2]",
    "space.decoder_self_heads=[2]",
    "space.decoder_cross_heads=[2]",
    "space.decoder_cross_layers=[1]",
    "space.decoder_cells=[attention, ssru]",
    "search.hand_scaled=[scaled-depth, deep-shallow, deep-shallow-ssru]",
    "retrain.baselines=[largest, random, deep-shallow, deep-shallow-ssru]",
    "retrain.init=inherited",
)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["surrogate", "hat"])
def test_every_winner_has_a_configuration_of_marians(tmp_path: Path, algorithm: str) -> None:
    place = tmp_path / "run"
    settings = [part for one in (*STUDENTS, f"search.algorithm={algorithm}") for part in ("--set", one)]
    done = CliRunner().invoke(app, ["run", TINY, "--local", "--run", str(place), *settings])
    assert done.exit_code == 0, done.output
    run, space = load(place), load_recipe(TINY, list(STUDENTS)).space.build()
    assert space.alike_layers
    assert run.candidates
    assert all(space.contains(one.architecture) for one in run.candidates)
    for winner in run.winners:
        done = CliRunner().invoke(
            app, ["convert", str(place), "--format", "marian-config", "--model", winner.architecture.id]
        )
        assert done.exit_code == 0, done.output
        assert f"# chosen for {winner.limit}" in done.stdout
        values = {**yaml.safe_load(done.stdout), "dim-vocabs": [100, 100]}
        assert read_settings(values, "there").architecture == winner.architecture
    done = CliRunner().invoke(app, ["convert", str(place), "--format", "marian-config", "--model", "abc"])
    assert isinstance(done.exception, RunError)
    assert f"{place} has no model abc; it has {run.winners[0].architecture.id}" in str(done.exception)


def test_the_recipe_for_students_has_only_shapes_that_marian_trains() -> None:
    recipe = load_recipe("students.en-de")
    space = recipe.space.build()
    assert space.alike_layers
    for one in (space.largest(), space.smallest()):
        assert config_text(one, recipe.model, recipe.name)

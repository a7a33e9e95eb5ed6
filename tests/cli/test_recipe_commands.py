"""`hat-ray recipe`: what ships, and what a check tells."""

import json

from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.recipe import load_recipe, shipped_recipes


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["recipe", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_list_names_every_shipped_recipe_with_what_it_is():
    expected = {name: load_recipe(name).description for name in shipped_recipes()}
    assert json.loads(said("list", "--json")) == expected
    assert [line.split(maxsplit=1) for line in said("list").splitlines()] == [list(pair) for pair in expected.items()]


def test_a_check_tells_the_space_with_the_settings_given():
    told = json.loads(said("check", "toy", "--set", "space.decoder_depths=[1]", "--json"))
    space = load_recipe("toy", ["space.decoder_depths=[1]"]).space.build()
    assert told == {
        "recipe": "toy",
        "space": "toy-changed",
        "space_id": space.id,
        "architectures": str(space.size()),
    }
    assert f"holds {space.size():.3g} architectures" in said("check", "toy", "--set", "space.decoder_depths=[1]")

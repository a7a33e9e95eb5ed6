"""`hat-ray recipe`: what ships, and what a check tells."""

import json
import subprocess
import sys
from decimal import Decimal

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
    checks = told.pop("checks")
    assert checks
    assert told == {
        "fit": True,
        "recipe": "toy",
        "space": "toy-changed",
        "space_id": space.id,
        "architectures": str(space.size()),
    }
    assert f"holds {Decimal(space.size()):.3g} architectures" in said(
        "check", "toy", "--set", "space.decoder_depths=[1]"
    )


def test_a_check_loads_neither_pytorch_nor_ray_and_lists_what_it_looked_at():
    code = "import sys; from hat_ray.cli import main\ntry: main(['recipe', 'check', 'toy'])\nfinally: "
    code += "print(*{'torch', 'ray', 'xgboost'} & set(sys.modules), file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert result.stderr.strip() == ""
    *checks, last = result.stdout.splitlines()
    assert all(line.startswith("ok ") for line in checks)
    assert last.startswith("recipe toy is fine")


def test_a_check_that_fails_ends_with_2_and_one_line():
    command = [sys.executable, "-m", "hat_ray.cli", "recipe", "check", "toy", "--set", "latency.samples=5"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "hat-ray: error: latency.samples must be at least predictor.min_rows 10, got 5" in result.stderr
    [failed] = [line for line in result.stdout.splitlines() if not line.startswith("ok ")]
    assert failed.startswith("FAILED  rows for the predictor: latency.samples")
    assert "is fine" not in result.stdout

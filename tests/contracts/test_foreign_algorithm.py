"""An algorithm of a package that is not hat-ray, used from a recipe by its registered name and by `package:Class`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from foreign_package import SEARCH, install

from hat_ray.search.view import view

TINY = Path(__file__).parents[1] / "pipeline" / "tiny.yaml"
POINTS = """[hat_ray.algorithms]
my_search = my_package:CoinSearch
torn = my_package:Gone
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(tmp_path / "site", "my_package", SEARCH, POINTS)
    return tmp_path / "site"


def hat_ray(site: Path, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run the command where a package is installed in `site`."""
    command = [sys.executable, "-P", "-m", "hat_ray.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "200"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)


def test_a_recipe_is_checked_with_the_algorithms_of_installed_packages(site: Path, tmp_path: Path) -> None:
    def check(algorithm: str, **options: int) -> tuple[int, str]:
        recipe = yaml.safe_load(TINY.read_text())
        recipe["search"] |= {"algorithm": algorithm, "algorithm_options": options}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
        done = hat_ray(site, "recipe", "check", str(tmp_path / "mine.yaml"))
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    code, text = check("my_search", draws=50)
    assert code == 0, text
    assert "search.algorithm my_search is code of an installed package" in text
    code, text = check("my_search", drows=50)
    assert (code, "my_search has no search.algorithm_options.drows; did you mean draws?" in text) == (2, True)
    code, text = check("torn")
    assert (code, "torn cannot be loaded from package my_package 1.0 (AttributeError" in text) == (2, True)


def test_the_schema_shows_the_names_of_installed_packages(site: Path) -> None:
    done = hat_ray(site, "recipe", "schema")
    assert done.returncode == 0, done.stderr
    assert '"my_search"' in done.stdout


@pytest.mark.slow
def test_a_search_uses_a_registered_and_a_spelled_algorithm(site: Path, tmp_path: Path) -> None:
    run = ("--local", "--run", str(tmp_path / "run"))
    for stage in (["corpus"], ["train", "super"], ["latency", "measure"], ["predict", "fit"]):
        done = hat_ray(site, *stage, str(TINY), *run)
        assert done.returncode == 0, done.stderr[-2000:]
    for algorithm in ("my_search", "my_package:ShySearch"):
        settings = [
            f"search.algorithm={algorithm}",
            "search.algorithm_options={population: 8}",
            "search.refine_rounds=0",
        ]
        flags = [flag for setting in settings for flag in ("--set", setting)]
        done = hat_ray(site, "search", str(TINY), *run, *flags)
        assert done.returncode == 0, done.stderr[-2000:]
        origins = view(str(tmp_path / "run")).origins
        assert sum(origins.values()) == 16
        assert (origins.get("coin", 0) > 0) == (algorithm == "my_search"), origins

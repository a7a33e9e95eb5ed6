"""A new elastic dimension is one row of the table: two that only a package beside hat-ray has are searched."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hat_ray.errors import SpaceError
from hat_ray.runtime.protocol import RUNTIMES
from hat_ray.space.architecture import Architecture
from hat_ray.space.dimension import Dimension
from hat_ray.space.dimensions import DIMENSIONS
from hat_ray.space.features import COST_FEATURES, LAYER_FEATURES
from hat_ray.space.presets import PRESETS, TOY

HERE = Path(__file__).parent
CELLS = """
from hat_ray.space.dimension import Dimension

CELLS = Dimension(
    name="decoder_kinds",
    title="decoder kinds",
    description="Kind of each decoder layer.",
    side="decoder",
    per_layer=True,
    words=("lstm", "attention"),
    absent="attention",
)
SIZES = Dimension(
    name="vocabulary_sizes", title="vocabulary", description="Numbers of sub-words.", side="model", absent=8000
)
"""


def package(folder: Path, entries: str, code: str = CELLS) -> dict[str, str]:
    """Write an installed package with entry points, and return the environment that has it on its path."""
    info = folder / "cells-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "cells.py").write_text(code)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cells\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[hat_ray.dimensions]\n{entries}\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What hat-ray makes of both dimensions in a process that has the package."""
    environment = package(tmp_path_factory.mktemp("package"), "cells = cells:CELLS\nsizes = cells:SIZES")
    done = run(environment, str(HERE / "eleventh_dimension.py"))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_package_appends_its_dimensions_to_the_table(made):
    assert made["names"] == [*(dimension.name for dimension in DIMENSIONS), "decoder_kinds", "vocabulary_sizes"]
    assert made["titles"] == ["decoder kinds", "vocabulary"]
    assert made["figures"] == ["decoder_kinds", "vocabulary_sizes"]


def test_a_runtime_refuses_what_its_network_does_not_read(made):
    assert {*made["runtimes"]} == {*RUNTIMES.own_names}
    for name, (reason, plain) in made["runtimes"].items():
        assert reason == f"runtime {name} does not read the dimension decoder_kinds: leave it out of the space"
        assert plain is None or "decoder_kinds" not in plain


def test_spaces_that_do_not_name_it_keep_their_ids_and_seeds(made):
    assert made["preset ids"] == {name: space.id for name, space in PRESETS.items()}
    rng = random.Random(1)
    assert made["preset stream"] == [TOY.sample(rng).id for _ in range(5)]
    assert made["preset samples"] == {
        name: [space.sample(random.Random(seed)).id for seed in range(5)] for name, space in PRESETS.items()
    }
    assert made["space id"] not in made["preset ids"].values()
    assert made["absent is canonical"]
    assert made["inside"] == [True, False]


def test_a_small_space_has_as_many_networks_as_are_counted_listed_and_drawn(made):
    assert made["size"] == [2 * (2 + 4)] * 3  # two vocabularies; one or two layers, each of two kinds


@pytest.mark.parametrize("algorithm", ["surrogate", "aging", "random", "hat"])
def test_a_seeded_search_proposes_it_and_runs_to_the_end(made, algorithm):
    found = made["searched"][algorithm]
    assert found["told"] == 120 if algorithm != "hat" else found["told"] > 60  # HAT counts known networks again
    assert found["words"] == ["attention", "lstm"]
    assert found["sizes"] == [4000, 8000]
    assert found["best_ms"] <= 12


def test_children_take_it_from_either_parent_and_mutate_it(made):
    bred = made["bred"]
    assert bred["mutated"] == pytest.approx(0.3 / 2, abs=0.02)  # a redrawn choice is the other one half of the time
    for share in (bred["crossed"], bred["crossed in rows"], bred["sizes"]):
        assert share == pytest.approx(0.5, abs=0.04)


def test_predictors_see_it_in_columns_of_its_own(made):
    seen = made["described"]
    cells = ["decoder_kinds_lstm", "decoder_kinds_attention"]
    assert seen["cost"] == [*COST_FEATURES, "vocabulary_sizes", *cells]
    assert seen["layer"] == list(LAYER_FEATURES)
    assert seen["set"] == "cost-18+layers-7"
    assert "vocabulary_sizes" in seen["encoder"]
    assert not set(cells) & set(seen["encoder"])
    assert {"vocabulary_sizes", *cells} <= set(seen["decoder"])
    assert seen["counts"]
    assert seen["sizes"]
    assert seen["rows as architectures"]
    assert seen["averages"]
    assert seen["error"] < 0.05  # times depend on nothing else; without the columns the error is 0.2


def test_it_comes_back_from_yaml_json_and_recipes(made):
    written = made["written"]
    for way in ("yaml", "json", "space yaml", "space json", "recipe", "recipe again", "schema"):
        assert written[way], way
    new = {"decoder-kinds-all-subtransformer", "vocabulary-sizes-subtransformer"}
    assert set(written["named"]) - set(written["absent"]) == new
    with pytest.raises(SpaceError, match="no dimension decoder_kinds is known here: install the package that adds it"):
        Architecture.from_json(written["an architecture"])


def test_a_sweep_varies_it(made):
    assert made["sweep"] == {"decoder_kinds": ["lstm", "attention"], "vocabulary_sizes": [4000, 8000]}


def test_wrong_choices_are_refused_with_their_rule(made):
    space, few, kind, outside, key, yaml, model = made["refused"]
    assert space == "space with cells: decoder_kinds must be one of ['lstm', 'attention'], got 'gru'"
    assert few == "decoder_kinds must have 4 values, got 1"
    assert kind == "decoder_kinds must be one of ['lstm', 'attention'], got 'gru'"
    assert "outside space toy: decoder_kinds must be one of ['attention'], got lstm" in outside
    assert key == "here, line 1: unknown key space.decoder_kind; did you mean decoder_kinds?"
    assert "decoder-kinds-all-subtransformer must be one of ['lstm', 'attention'], got 'x'" in yaml
    assert model == "no layer of the model reads decoder_kinds: leave it out of the space"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"absent": None}, "needs `absent`"),
        ({"absent": "gru"}, "`absent` must be one of .* got 'gru'"),
        ({"side": "model"}, "per_layer needs a side with layers, encoder or decoder"),
    ],
)
def test_a_row_that_cannot_be_is_refused(change, message):
    row = {"name": "cells", "title": "cells", "description": "", "side": "decoder", "per_layer": True}
    with pytest.raises(SpaceError, match=message):
        Dimension(**{**row, "words": ("lstm", "attention"), "absent": "attention", **change})


@pytest.mark.parametrize(
    ("entry", "code", "message"),
    [
        ("cells = cells:CELLS", "CELLS = 3", "cells of package cells 1.0 (cells:CELLS) must name a Dimension, got 3"),
        ("a = cells:CELLS\nb = cells:CELLS", CELLS, "b of package .*: a dimension decoder_kinds exists: give it an"),
        ("a = cells:CELLS", CELLS.replace("side=", 'field="cells", side='), "`field` must be None, got 'cells'"),
        (
            "a = cells:NONE",
            CELLS,
            "a of package cells 1.0 .* cannot be loaded .AttributeError: .*NONE.*: mend or uninst",
        ),
        ("a = cells:CELLS", "raise OSError('no\\ncells')", "cannot be loaded .OSError: no cells.: mend or uninstall"),
    ],
)
def test_a_broken_entry_point_ends_a_command_in_one_line(tmp_path, entry, code, message):
    environment = package(tmp_path, entry, code)
    done = run(environment, "-m", "hat_ray.cli", "recipe", "show", "toy")
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.strip().splitlines()
    assert re.search(message.replace("(cells:CELLS)", ".cells:CELLS."), line), line
    assert "dimension" in line


def test_help_and_version_need_no_dimension(tmp_path):
    environment = package(tmp_path, "a = cells:CELLS", "raise OSError")
    assert run(environment, "-m", "hat_ray.cli", "--version").returncode == 0
    assert run(environment, "-m", "hat_ray.cli", "latency", "--help").returncode == 0

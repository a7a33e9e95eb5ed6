"""Disk and memory in closed form, against what real runs take: never below, and not far above."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.api import run_recipe
from hat_ray.cli import app
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import CheckError
from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.pipeline.outline import STAGE_NAMES
from hat_ray.pipeline.preflight.estimate import disk_of, memory_of, params_of
from hat_ray.pipeline.trained.rung_settings import rung_config
from hat_ray.recipe import load_recipe
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from hat_ray.train.job import train_sub

TINY = str(Path(__file__).parents[1] / "tiny.yaml")
PEAK = r"""
import re, sys
from pathlib import Path
sys.argv = ["hat-ray", *sys.argv[1:]]
from hat_ray.cli import main
try:
    main()
finally:
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(int(peak[1]) * 1024)  # not ru_maxrss: that begins at what the test's own process held
"""


@pytest.mark.parametrize("share", ["all", "decoder", "none"])
@pytest.mark.parametrize("name", ["toy", "space1"])
@pytest.mark.parametrize("before", [False, True])
def test_parameters_are_those_of_the_model(name: str, share: str, before: bool):
    config = ModelConfig(share_embeddings=share, normalize_before=before)
    space = PRESETS[name]
    model = SuperTransformer(space, 100, config)
    assert params_of(space.largest(), (100, 100), config) == sum(p.numel() for p in model.parameters())


@pytest.mark.slow
def test_a_whole_run_takes_the_disk_that_was_told(two_runtimes: Path):
    recipe = load_recipe(str(two_runtimes / "recipe.yaml"))
    told = disk_of(recipe, STAGE_NAMES, (recipe.corpus.vocab_size,) * 2)
    taken = sum(file.stat().st_size for file in two_runtimes.rglob("*") if file.is_file())
    assert told.least <= taken <= told.most <= 5 * taken


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        ["space.preset=toy", "supernet.max_tokens=512", "corpus.vocab_size=400"],
        ["space.preset=small", "supernet.max_tokens=4096", "corpus.vocab_size=1000", "supernet.valid_max_tokens=512"],
    ],
)
def test_a_training_takes_the_memory_and_the_disk_that_were_told(tmp_path: Path, changes: list[str]):
    common = ["corpus.toy.train_pairs=3000", "supernet.updates=6", "supernet.checkpoint_every=2", *changes]
    settings = [part for change in common for part in ("--set", change)]
    options = ["toy", "--local", "--run", str(tmp_path), "--json", *settings]
    assert CliRunner().invoke(app, ["corpus", *options]).exit_code == 0
    before = _taken(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, "train", "super", *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    recipe = load_recipe("toy", common)
    peak = int(done.stdout.splitlines()[-1])
    told = memory_of(recipe, ["supernet"], (recipe.corpus.vocab_size,) * 2, cpus=1, local=True)
    assert told.least <= peak <= told.most <= 3 * peak
    disk = disk_of(recipe, ["supernet"], (recipe.corpus.vocab_size,) * 2)
    assert disk.least <= _taken(tmp_path) - before <= disk.most <= 3 * (_taken(tmp_path) - before)


def test_the_trainings_of_finalists_count(tmp_path: Path) -> None:
    limits, words = ["search.limits_fraction=[0.3, 0.6]"], (400, 400)
    few = ["search.finalists=3", "search.hand_scaled=[scaled-depth]", "search.finalist_updates=[2, 4]"]
    without, recipe = load_recipe(TINY, limits), load_recipe(TINY, [*limits, *few])
    largest = recipe.space.build().largest()
    weights = 4 * params_of(largest, words, recipe.model)
    none, most = (disk_of(one, ["search"], words).most for one in (without, recipe))
    trainings = 2 * (4 + 2)  # of both limits: three and a hand-scaled one, then the better half of the four
    taken = most - none - (2 * 4 + 1) * weights  # without the models that they start from, and a teacher
    run_recipe(recipe, str(tmp_path), local=True, only="corpus")
    train_sub(
        *(largest, recipe.space.build(), Corpus.load(Folder.at(tmp_path / "corpus")), recipe.model),
        *(rung_config(recipe, 4), Folder.at(tmp_path / "one"), 1),
    )
    one = _taken(tmp_path / "one")
    assert trainings * one <= taken <= 5 * trainings * one
    large = [*limits, "supernet.max_tokens=1000000"]
    without, recipe = load_recipe(TINY, large), load_recipe(TINY, [*large, *few])
    training = memory_of(recipe, ["supernet"], words, cpus=1, local=True).most
    assert memory_of(without, ["search"], words, cpus=1, local=True).most < training
    assert memory_of(recipe, ["search"], words, cpus=1, local=True).most == training


def _taken(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _refused(place: Path, *settings: str) -> str:
    options = [part for change in settings for part in ("--set", change)]
    result = CliRunner().invoke(app, ["run", TINY, "--local", "--run", str(place), *options])
    assert isinstance(result.exception, CheckError), result.exception
    assert not place.exists()
    return str(result.exception)


def test_a_disk_without_room_for_the_checkpoints(tmp_path: Path):
    wide = [f"space.{side}coder_embed_dims=[16384]" for side in ("en", "de")]
    many = ("supernet.keep_last=10000", "supernet.updates=1000000", "supernet.checkpoint_every=1")
    told = _refused(tmp_path / "run", *wide, *many)
    assert told.startswith("the run writes at least ")
    assert f"{tmp_path} has " in told
    assert "--run" in told


def test_a_machine_without_the_memory():
    wide = [f"space.{side}coder_{name}=[131072]" for side in ("en", "de") for name in ("embed_dims", "ffn_dims")]
    told = _checked("memory", *wide)
    assert "training holds at least" in told
    assert "of memory: lower max_tokens" in told


def test_a_machine_that_may_not_have_the_memory_is_warned_of():
    assert "may take up to" in _checked("memory", "supernet.max_tokens=100000000")


def _checked(name: str, *settings: str) -> str:
    """Return the warning of a check."""
    options = [part for change in settings for part in ("--set", change)]
    told = json.loads(CliRunner().invoke(app, ["recipe", "check", TINY, "--json", *options]).stdout)
    [found] = [check for check in told["checks"] if check["name"] == name]
    assert found["verdict"] == "warning"
    return str(found["text"])

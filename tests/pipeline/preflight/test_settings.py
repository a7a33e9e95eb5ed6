"""Each mistake that the recipe alone tells: refused by the command, with nothing begun, and by `recipe check`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.api import run_recipe
from hat_ray.cli import app
from hat_ray.errors import CheckError
from hat_ray.recipe import load_recipe, shipped_recipes

TINY = str(Path(__file__).parents[1] / "tiny.yaml")
TWO_NAMES = 'latency.devices=[{"name": "one", "labels": {"hw": "a"}}, {"name": "two", "labels": {"hw": "b"}}]'
ONE_CHOICE = [f"space.{name}=[1]" for name in ("encoder_depths", "decoder_depths", "decoder_cross_layers")]
ONE_CHOICE += [f"space.{side}coder_{name}=[32]" for side in ("en", "de") for name in ("embed_dims", "ffn_dims")]
ONE_CHOICE += [f"space.{name}=[2]" for name in ("encoder_heads", "decoder_self_heads", "decoder_cross_heads")]


@pytest.mark.parametrize(
    ("command", "changes", "words"),
    [
        ("run", ["latency.samples=9"], ["predictor.min_rows 10", "got 9", "raise latency.samples"]),
        ("latency onboard", ["predictor.min_rows=13"], ["predictor.min_rows 13", "got 12"]),
        ("run", ["predictor.min_rows=10000000000"], ["min_rows must be at most the architectures of the space"]),
        ("run", ["model.max_positions=64"], ["corpus.max_length", "max_positions 64", "got 80"]),
        ("run", ["latency.source_length=2000"], ["latency.source_length", "max_positions 1024", "got 2000"]),
        ("latency measure", ["latency.target_length=1025"], ["target_length", "max_positions 1024", "got 1025"]),
        ("run", ["evaluate.beam=200"], ["evaluate.beam", "got 200 for 400 entries", "lower it to 199"]),
        ("latency measure", ["latency.beam=201"], ["latency.beam", "got 201 for 400 entries"]),
        ("run", ["retrain.best_check=largest"], ["retrain.best_check", "model", "got largest"]),
        ("train super", ["supernet.best_check=model"], ["supernet.best_check", "largest or smallest", "got model"]),
        (
            "run",
            ["model.sharing=importance", "space.decoder_embed_dims=[16]"],
            ["model.sharing=importance", "got 32 and 16", "share_embeddings=decoder"],
        ),
        (
            "train super",
            ["model.sharing=importance", "supernet.sort_update=12"],
            ["sort_update must be below supernet.updates 12", "got 12"],
        ),
        ("train policies", ["space.decoder_embed_dims=[16]"], ["policies.compare with importance", "got 32 and 16"]),
        (
            "run",
            ["search.early_stop=true", "corpus.toy.valid_pairs=7"],
            ["search.early_stop needs at least 8 validation sentences", "got 7"],
        ),
        ("run", [TWO_NAMES, "search.limits_ms={one: [5], tow: [5]}"], ["must name devices", "one, two", "got tow"]),
        ("run", [TWO_NAMES, "search.limits_ms={one: [5], tow: [5]}"], ["got tow: did you mean two?"]),
        (
            "run",
            ["search.limits_ms={pi4: [5]}"],
            ["search.limits_ms must name devices that are timed", "got pi4"],
        ),
        ("run", ["search.limits={pi4: {model_mb: 5}}"], ["search.limits must name devices that are timed", "got pi4"]),
        ("search", [TWO_NAMES, "search.limits_ms={one: [5]}"], ["limit for every device", "none for two"]),
        ("search", [TWO_NAMES, "search.limits={one: {model_mb: 5}}"], ["search.limits must", "none for two"]),
        ("train ranking", ["ranking.architectures=12", *ONE_CHOICE], ["ranking.architectures", "got 12 of 1"]),
        ("latency sweep", ONE_CHOICE, ["one choice in every dimension"]),
        ("run", ["corpus.byte_fallback=true", "corpus.vocab_size=256"], ["256 bytes", "got 256", "261 or more"]),
    ],
)
def test_a_contradiction_is_refused_before_anything_is_begun(
    tmp_path: Path, command: str, changes: list[str], words: list[str]
):
    place = tmp_path / "run"
    settings = [part for change in changes for part in ("--set", change)]
    result = CliRunner().invoke(app, [*command.split(), TINY, "--local", "--run", str(place), *settings])
    assert isinstance(result.exception, CheckError), result.exception
    for word in words:
        assert word in str(result.exception)
    assert "\n" not in str(result.exception)
    assert result.stdout == ""
    assert not place.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("search.evaluations=7", "nothing but random architectures"),
        ("evaluate.max_source_length=2000", "a test sentence of 2000 tokens"),
        ("supernet.max_tokens=79", "supernet.max_tokens should hold the longest sentence, got 79"),
    ],
)
def test_what_is_only_likely_is_a_warning(change: str, words: str):
    told = json.loads(CliRunner().invoke(app, ["recipe", "check", TINY, "--json", "--set", change]).stdout)
    [warning] = [check for check in told["checks"] if check["verdict"] == "warning"]
    assert words in warning["text"]
    assert told["fit"]


def test_all_mistakes_are_told_at_once(caplog: pytest.LogCaptureFixture, tmp_path: Path):
    recipe = load_recipe(TINY, ["latency.samples=9", "evaluate.beam=200"])
    with pytest.raises(CheckError, match=r"got 9.*and 1 more"):
        run_recipe(recipe, str(tmp_path / "run"), local=True)
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [line.partition(":")[0] for line in told] == ["rows for the predictor", "beam in translation"]


def test_what_only_the_corpus_tells_is_told_before_the_training(tmp_path: Path):
    recipe = load_recipe(TINY, ["corpus.max_length=12", "model.max_positions=12", "latency.source_length=6"])
    with pytest.raises(CheckError, match=r"at most model.max_positions 12 tokens, .* validation has"):
        run_recipe(recipe, str(tmp_path), local=True)
    assert (tmp_path / "corpus" / "stage.json").exists()
    assert not (tmp_path / "supernet").exists()


def test_a_shared_table_may_hold_the_rows_that_are_missing(tmp_path: Path):
    changes = ["latency.samples=9", f"latency.table={tmp_path}"]
    command = ["recipe", "check", TINY, "--json", *(part for change in changes for part in ("--set", change))]
    told = json.loads(CliRunner().invoke(app, command).stdout)
    assert [check["name"] for check in told["checks"] if check["verdict"] == "warning"] == ["rows for the predictor"]


def test_a_board_may_time_fewer_than_a_predictor_needs(tmp_path: Path):
    command = ["latency", "measure", TINY, "--local", "--run", str(tmp_path / "r"), "--set", "latency.samples=3"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.exception


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_passes(name: str):
    result = CliRunner().invoke(app, ["recipe", "check", name, "--json"])
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["fit"]
    assert len({check["name"] for check in told["checks"]}) >= 20
    of_the_recipe = [check for check in told["checks"] if check["verdict"] != "ok" and check["name"] not in _OF_MACHINE]
    assert not of_the_recipe


_OF_MACHINE = {"disk", "memory", "room for training", "room for timing"}
"""What a recipe for another machine than this one may lack here."""

"""What each command makes of each place that may hold a model: it does its work, or names in one line what is missing.

The places: a run, a model folder of `train sub`, an export, a bare architecture file, an empty folder.
"""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import hat_ray
from hat_ray.cli import app
from hat_ray.corpus.corpus import Corpus
from hat_ray.evaluate.translate import translate
from hat_ray.model.checkpoints.folder import read_about
from hat_ray.model.checkpoints.native import load_sub
from hat_ray.recipe import Recipe
from hat_ray.space.hat_yaml import write_architecture
from hat_ray.storage.folder import Folder

Made = tuple[Recipe, Path]


def command(*words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=text)


def done(*words: str, text: str | None = None) -> str:
    result = command(*words, text=text)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


@pytest.fixture(scope="module")
def places(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a place of each kind; `model` and `export` are made by the commands."""
    recipe, run = made
    place = tmp_path_factory.mktemp("places")
    shutil.copytree(run, place / "run")
    shape = recipe.space.build().smallest()
    (place / "shape.yml").write_text(write_architecture(shape))
    (place / "shape.json").write_text(shape.to_json())
    (place / "empty").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done("train", "sub", "shape.yml", "run", "--out", "model", "--json")
        done("export", "run", "--out", "export", "--sentences", "8", "--min-agreement", "0", "--max-bleu-loss", "100")
    return place


@pytest.fixture
def there(places: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(places)
    return places


def test_a_trained_model_keeps_what_its_recipe_knew(there: Path) -> None:
    about = read_about(Folder.at("model"))
    assert about.direction == "en-de"
    assert about.tokenizer == "13a"
    assert about.signature.startswith("nrefs:1|")
    assert "|tok:13a|" in about.signature
    assert about.search["beam"] == 2
    assert about.origin.startswith("recipe tiny: ")


def test_a_model_folder_translates_as_its_model_does(there: Path, made: Made) -> None:
    """The plain way: its weights, the run's corpus, the recipe's settings."""
    lines = ["the dog runs", "", "a cat sees the dog"]
    model, corpus = load_sub(Folder.at("model"), "model").eval(), Corpus.load(Folder.at("run").child("corpus"))
    expected = translate(model, corpus.vocabularies, lines, made[0].evaluate)
    assert done("translate", "model", "--threads", "1", text="\n".join(lines) + "\n").split("\n")[:-1] == expected
    assert hat_ray.open_model("model").translate(lines) == expected

"""What each command makes of each place that may hold a model: it does its work, or names in one line what is missing.

The places: a run, its winner's folder, a model folder of `train sub`, an export, an architecture's file, an empty one.
"""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import hat_ray
from hat_ray.cli import app
from hat_ray.cli.commands.models import model_choice
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import HatRayError
from hat_ray.evaluate.translate import translate
from hat_ray.model.checkpoints.folder import read_about, read_model_folder, write_model_folder
from hat_ray.model.checkpoints.native import load_sub
from hat_ray.space.cost import count_params
from hat_ray.space.hat_yaml import write_architecture
from hat_ray.storage.folder import Folder
from tests.pipeline.conftest import Made, winner


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
    for foreign in ("hugging", "ct2"):
        (place / foreign).mkdir()
        (place / foreign / "config.json").write_text("{}")
    (place / "ct2/model.bin").write_bytes(b"")
    (place / "old.pt").write_bytes(b"\x80\x02")
    (place / "test.en").write_text("the dog runs\n\na cat sees the dog\n")
    (place / "test.de").write_text("der hund läuft\n\neine katze sieht den hund\n")
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


NO_WEIGHTS = "is an architecture without weights: train it by `hat-ray train sub"
KEEPS_NONE = "is an export, which keeps no weights to change: name the run or model folder that it was made of"
NOTHING = "holds no"
TEXT = ["--source", "test.en", "--reference", "test.de"]
QUICK = (
    *("latency.min_repetitions=5", "latency.max_repetitions=6", "latency.calibration_s=0.2", "latency.budget_s=0.3"),
    *("latency.patience_s=0.3", "corpus.vocab_size=400"),
)
SET = [word for change in QUICK for word in ("--set", change)]
COMMANDS = {
    "translate": ["translate", "@", "--threads", "1"],
    "evaluate": ["evaluate", "@", "--threads", "1", *TEXT],
    "latency measure": ["latency", "measure", "@", "--local", *SET],
    "export": ["export", "@", "--out", "made", "--min-agreement", "0", "--max-bleu-loss", "100", "--sentences", "8"],
    "convert": ["convert", "@", "--out", "made"],
    "cost": ["cost", "@"],
    "report": ["report", "@", "--local"],
}
ONE_MODEL = "and a report is of a whole run: name its run folder"
REFUSED = {
    ("report", "winner"): ONE_MODEL,
    ("report", "model"): ONE_MODEL,
    ("report", "export"): ONE_MODEL,
    **{(command, "export"): KEEPS_NONE for command in ("export", "convert")},
    **{("convert", place): "Marian's format cannot hold" for place in ("run", "winner", "model")},
    **{(command, "empty"): NOTHING for command in COMMANDS},
    **{
        (command, shape): NO_WEIGHTS
        for command in ("translate", "evaluate", "export", "convert")
        for shape in ("yml", "json")
    },
    **{("report", shape): ONE_MODEL for shape in ("yml", "json")},
}
"""The cells whose place lacks what the command needs; all others work."""
PLACES = ("run", "winner", "model", "export", "yml", "json", "empty")


def place_named(name: str) -> str:
    """Return the path of one of `PLACES`."""
    if name == "winner":
        return str(winner(Path("run")))
    return f"shape.{name}" if name in ("yml", "json") else name


def state() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path().rglob("*")}


LONG = ("export", "latency measure")
CELLS = [
    pytest.param(name, place, marks=pytest.mark.slow if name in LONG and (name, place) not in REFUSED else ())
    for name in COMMANDS
    for place in PLACES
]


@pytest.mark.parametrize(("name", "place"), CELLS)
def test_each_command_takes_each_place_or_names_what_is_missing(there: Path, name: str, place: str) -> None:
    before = state()
    words = [place_named(place) if word == "@" else word for word in COMMANDS[name]]
    if name == "latency measure" and place == "run":
        words = words[: -len(SET)]  # its own settings, for which it is finished
    result = command(*words, text="the dog runs\n\n")
    if (name, place) not in REFUSED:
        assert result.exit_code == 0, (result.output, result.exception)
        assert Path("made/manifest.json").exists() == (name == "export")
        shutil.rmtree("made", ignore_errors=True)
        return
    assert isinstance(result.exception, HatRayError), (result.output, result.exception)
    told = str(result.exception)
    assert "\n" not in told
    assert REFUSED[name, place] in told
    assert place_named(place) in told
    assert before == state()


@pytest.mark.parametrize("place", ["run", "winner", "model", "export"])
def test_what_translates_is_served(there: Path, place: str) -> None:
    """A replica opens it from its description, which travels."""
    source = model_choice(place_named(place), None, 2, None, None, None)
    source = pickle.loads(pickle.dumps(source))  # noqa: S301
    lines = ["the dog runs", ""]
    assert source.open(1).translate(lines) == hat_ray.open_model(place_named(place)).translate(lines)
    assert source.public_facts(source.open(1))


def test_the_cost_is_that_of_the_architecture(there: Path, made: Made) -> None:
    told = {place: json.loads(done("cost", place_named(place), "--json")) for place in PLACES[:-1]}
    assert told["model"] == told["json"] == told["yml"]
    assert told["run"] == told["export"]
    assert told["winner"]["id"] == Path(place_named("winner")).name
    assert told["model"]["params"] == count_params(made[0].space.build().smallest())


@pytest.mark.slow
def test_an_export_keeps_what_its_model_knew(there: Path) -> None:
    """Also sacreBLEU's tokenizer, by which `--score` and `evaluate` judge it."""
    opened = read_model_folder(Folder.at("model"))
    about = replace(opened.about, tokenizer="char", target_language="zh", search={"beam": 3})
    write_model_folder(Folder.at("chinese"), opened.model, opened.vocabularies, about)
    done("export", "chinese", "--out", "export-zh", "--source", "test.en", "--reference", "test.de")
    manifest = json.loads(Path("export-zh/manifest.json").read_text())
    assert (manifest["direction"], manifest["source_language"], manifest["target_language"]) == ("en-zh", "en", "zh")
    assert manifest["tokenizer"] == "char"
    assert manifest["signature"] == about.signature
    assert manifest["search"]["beam"] == 3
    assert manifest["parity"]["bleu_signature"].split("|")[3] == "tok:char"
    for place in ("chinese", "export-zh"):
        figures = json.loads(done("evaluate", place, *TEXT, "--json"))
        assert figures["text"]["bleu_signature"].split("|")[3] == "tok:char"
        assert hat_ray.open_model(place).loaded.config.beam == 3


@pytest.mark.slow
def test_a_model_folder_without_text_is_checked_on_drawn_sentences(there: Path) -> None:
    made = json.loads(done("export", "model", "--out", "drawn", "--json"))
    assert made["parity"]["sentences"] == 64
    assert made["parity"]["bleu"] is None
    assert made["parity"]["logit_error"] < 1e-3
    refused = command("export", "model", "--out", "drawn-int8", "--dtype", "int8")
    assert "int8 is judged by BLEU, and model keeps no test set: name one with --source and" in str(refused.exception)
    assert not Path("drawn-int8").exists()
    done("export", "model", "--out", "drawn-int8", "--dtype", "int8", "--min-agreement", "0")


MISTAKES = {
    "is a model of another program, no model folder: take it in by `hat-ray import model hugging": [
        "translate",
        "hugging",
    ],
    "is a PyTorch checkpoint or another pickle, no model folder: take it in by": ["evaluate", "old.pt", *TEXT],
    "is CTranslate2's, which keeps no weights to read: it can teach": ["latency", "measure", "ct2"],
    "holds one model: leave --model out": ["translate", "model", "--model", "abc"],
    "brings its own: leave --runtime out": ["evaluate", "export", "--runtime", "onnx", *TEXT],
    "is scored on a text: name its sentences": ["evaluate", "model"],
    "must have equally many lines, got 3 and 2": ["evaluate", "model", *TEXT[:3], "shape.json"],
    "--beam is for one model's score": ["evaluate", "run", "--beam", "2"],
    "--set is for a run's own evaluation": ["evaluate", "model", "--set", "evaluate.beam=2", *TEXT],
    "brings its own runtime: leave latency.runtime": ["latency", "measure", "export", "--set", "latency.runtime=eager"],
    "kept in no table: leave latency.table": ["latency", "measure", "model", "--set", "latency.table=t"],
    "--run is for the timings of a run": ["latency", "measure", "model", "--run", "elsewhere"],
    "--skip-checks is for the timings of a run": ["latency", "measure", "model", "--skip-checks"],
    "short-lists are made from training text": ["export", "model", "--out", "made", "--short-list", "9"],
    "runtime onnx computes in fp32 or int8, got dtype int4": ["translate", "model", "--dtype", "int4"],
}


@pytest.mark.parametrize("told", MISTAKES)
def test_mistakes_are_one_line(there: Path, told: str) -> None:
    Path("shape.json").write_text(Path("shape.json").read_text().strip() + "\n\n")
    result = command(*MISTAKES[told], text="the dog runs\n")
    assert isinstance(result.exception, HatRayError), (result.output, result.exception)
    assert told in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not Path("made").exists()

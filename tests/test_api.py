"""The Python API: what it imports, its examples, and that the command line prints what it returns."""

import doctest
import json
import os
import shutil
import subprocess
import sys
import typing
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

import hat_ray
from hat_ray import api, exchange
from hat_ray.certificate import certify
from hat_ray.cli import app
from hat_ray.core.codec import to_json
from hat_ray.errors import HatRayError
from hat_ray.model.checkpoints.folder import write_model_folder
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.pipeline.models import open_model
from hat_ray.runtime import protocol
from hat_ray.search.algorithms import registry
from hat_ray.search.view import candidate_to_json
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.storage.folder import Folder
from hat_ray.train.state import TrainResult

GOLDEN = Path(__file__).parent / "golden"
PAGE = Path(hat_ray.__file__).parent / "recipes/REFERENCE.md"
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the golden run as `runs/toy`, its export as `exported`, and an architecture."""
    place = tmp_path_factory.mktemp("api")
    shutil.copytree(GOLDEN / "run", place / "runs/toy")
    shutil.copytree(GOLDEN / "export", place / "exported")
    shutil.copy(GOLDEN / "architecture.yml", place / "mine.yml")
    opened = open_model(place / "runs/toy")
    write_model_folder(Folder.at(place / "models/toy"), opened.model, opened.vocabularies, opened.about)
    return place


@pytest.fixture
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def modules_after(*steps: str) -> list[set[str]]:
    """Return the modules that a fresh Python has imported after each of some steps."""
    code = "".join(f"{step}\nimport sys; print(*sorted(sys.modules))\n" for step in steps)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_importing_hat_ray_loads_no_library_and_a_light_name_no_heavy_one() -> None:
    light = "hat_ray.Recipe, hat_ray.Architecture, hat_ray.register_runtime, hat_ray.HatRayError"
    bare, after_light, after_heavy = modules_after("import hat_ray", light, "hat_ray.run, hat_ray.load")
    assert not bare & {"torch", "ray", "numpy", "pyarrow", "pydantic"}
    assert not after_light & {"torch", "ray"}
    assert "ray" not in after_heavy


@pytest.mark.parametrize(("given", "expected"), [(None, "5000"), ("0", "0"), ("300000", "300000")])
def test_threads_that_wait_sleep_soon_unless_the_user_says_otherwise(given: str | None, expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    code = "import hat_ray, sys, os; assert 'torch' not in sys.modules; print(os.environ['GOMP_SPINCOUNT'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | ({"GOMP_SPINCOUNT": given} if given else {}),
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert done.stdout.strip() == expected


def test_each_public_name_is_listed_found_and_described() -> None:
    assert set(hat_ray.__all__) <= set(dir(hat_ray))
    for name in hat_ray.__all__:
        assert (getattr(hat_ray, name).__doc__ or "").strip(), f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'open_modle'"):
        hat_ray.open_modle  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("module", [hat_ray, api, exchange, certify], ids=lambda module: module.__name__)
def test_the_examples_of_the_docstrings_print_what_they_show(there: Path, module: typing.Any) -> None:
    found = doctest.testmod(module, globs={}, optionflags=FLAGS)
    assert found.attempted > 3
    assert found.failed == 0


def test_the_examples_of_the_page_print_what_they_show(there: Path) -> None:
    found = doctest.testfile(str(PAGE), module_relative=False, globs={}, optionflags=FLAGS)
    assert found.attempted > 3
    assert found.failed == 0


def printed(*words: str, text: str | None = None) -> str:
    done = CliRunner().invoke(app, list(words), input=text, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_line_prints_what_the_api_returns(there: Path) -> None:
    run = hat_ray.load("runs/toy")
    shown = json.loads(printed("search", "show", "runs/toy", "--json"))
    assert shown["winners"] == [to_json(winner) for winner in run.winners]
    assert shown["candidates"] == len(run.candidates)
    assert list(shown["frontiers"]) == list(run.devices)
    for device, rows in shown["frontiers"].items():
        assert rows == [candidate_to_json(one, device) for one in run.frontier(device)]

    architecture = hat_ray.load_architecture("mine.yml", run.recipe.space.build().qkv_dim)
    told = json.loads(printed("predict", "latency", "runs/toy", "mine.yml", "--coverage", "0.8", "--json"))
    assert told["devices"] == {device: asdict(one) for device, one in run.predict(architecture, 0.8).items()}

    lines = ["the dog sees a cat .", "", "a man sleeps ."]
    for words, model in ((["runs/toy"], run.model()), (["exported"], hat_ray.open_model("exported"))):
        text = printed("translate", *words, "--threads", "1", text="\n".join(lines) + "\n")
        assert text.split("\n")[:-1] == model.translate(lines)

    reported = json.loads(printed("report", "runs/toy", "--local", "--json"))
    again = hat_ray.run("runs/toy", stages=["report"], local=True)
    assert reported["stages"] == {"report": to_json(again.output("report"))}


def test_what_other_programs_made_comes_in_as_by_the_command_line(there: Path, tmp_path: Path, shared: Path) -> None:
    oracle = shared / "hat/oracle"
    file, data = oracle / "shared_hat_checkpoint.pt", oracle / "bin_joined"
    settings = {"latency.samples": 12}
    run = hat_ray.import_super(file, data, tmp_path / "api", name="hats", settings=settings)
    told = json.loads(
        printed(*("import", "super", str(file), "--data-bin", str(data), "--run", str(tmp_path / "cli"), "--json"))
    )
    result = run.output("supernet")
    assert isinstance(result, TrainResult)
    assert result.valid_loss_bits == told["valid_loss_bits"]
    assert abs(result.valid_loss_bits["smallest that HAT validates"] - told["checkpoint_loss_bits"]) < 1e-6
    assert (run.recipe.name, run.recipe.latency.samples) == ("hats", 12)
    (tmp_path / "one.json").write_text(run.recipe.space.build().smallest().to_json())
    model = hat_ray.import_model(file, tmp_path / "model", data_bin=data, architecture=tmp_path / "one.json")
    lines = (oracle / "text/test.en").read_text().splitlines()[:4]
    text = printed("translate", str(tmp_path / "model"), "--threads", "1", text="\n".join(lines) + "\n")
    assert text.splitlines() == model.translate(lines)

    around = hat_ray.space_around(file, "near")
    assert around.space.build() == run.recipe.space.build()
    assert around.supernet.init == str(file)
    made = hat_ray.import_recipe(oracle / "space_tiny_shared.yml", name="tiny")
    assert made.to_yaml() == printed("import", "recipe", str(oracle / "space_tiny_shared.yml"), "--name", "tiny")
    done = hat_ray.distil(tmp_path / "model", tmp_path / "distilled", source=oracle / "text/test.en", beam=1)
    assert done.lines == len((oracle / "text/test.en").read_text().splitlines())


def test_a_model_is_written_for_marian_as_by_the_command_line(there: Path, tmp_path: Path) -> None:
    opened = open_model("models/toy")
    shape = Architecture(EncoderShape(16, (32,), (2,)), DecoderShape(16, (32,), (2,), (2,), (1,)), qkv_dim=16)
    config = ModelConfig(**{"positions": "marian", "start": "zero", "layer_norm_eps": 1e-6, "dropout": 0.0})
    model = SubTransformer(shape, opened.vocabularies.sizes[0], config)
    write_model_folder(Folder.at(tmp_path / "one"), model, opened.vocabularies, opened.about)
    assert hat_ray.convert(tmp_path / "one", tmp_path / "api") == ()
    printed("convert", str(tmp_path / "one"), "--out", str(tmp_path / "cli"))
    files = {path.name: path.read_bytes() for path in (tmp_path / "api").iterdir()}
    assert {"decoder.yml", "model.npz"} < files.keys()
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "cli").iterdir()}


def test_a_device_is_named_by_its_id_or_by_a_name_of_one_device(there: Path) -> None:
    run = hat_ray.load("runs/toy")
    assert run.frontier(run.devices[0]) != run.frontier(run.devices[1])
    with pytest.raises(HatRayError, match="here names several devices: name one of here-amd"):
        run.frontier("here")
    with pytest.raises(HatRayError, match="has no device pi4; it has here-amd"):
        run.frontier("pi4")


def test_mistakes_are_one_line_with_the_remedy(there: Path, tmp_path: Path) -> None:
    run = hat_ray.load("runs/toy")
    with pytest.raises(HatRayError, match=r"no stage is called 'serach'; did you mean search\?"):
        hat_ray.run("runs/toy", stages=["serach"], local=True)
    with pytest.raises(HatRayError, match="no stage is called 'onboard'; known are corpus, "):
        run.output("onboard")
    with pytest.raises(HatRayError, match="is not a run folder: name one that `hat-ray run` made"):
        hat_ray.load(tmp_path)
    with pytest.raises(HatRayError, match="holds no model: name a run folder, a model folder or an export"):
        hat_ray.open_model(tmp_path)
    with pytest.raises(HatRayError, match=r"search.evaluations.* 0"):
        hat_ray.run(run.recipe, tmp_path / "new", settings={"search.evaluations": 0}, local=True)
    assert not (tmp_path / "new").exists()


def test_settings_change_a_recipe_and_nothing_else(there: Path, tmp_path: Path) -> None:
    """A run that is given a changed recipe keeps it in its folder, and leaves the recipe that it was given."""
    before = hat_ray.load("runs/toy").recipe
    shutil.copytree("runs/toy", tmp_path / "toy")
    run = hat_ray.run(before, tmp_path / "toy", settings={"report.translations": 1}, stages=["report"], local=True)
    assert run.recipe == before.model_copy(update={"report": before.report.model_copy(update={"translations": 1})})
    assert hat_ray.load(tmp_path / "toy").recipe == run.recipe


def test_plug_ins_are_registered_by_the_public_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    for kinds in (protocol.RUNTIMES, registry.ALGORITHMS):
        monkeypatch.setattr(kinds, "_added", {})  # later tests of this process shall not meet it
    hat_ray.register_runtime("mine-of-test-api", protocol.RUNTIMES.load("eager"))
    hat_ray.register_algorithm("mine-of-test-api", registry.ALGORITHMS.load("random"))
    assert protocol.RUNTIMES.load("mine-of-test-api") is protocol.RUNTIMES.load("eager")
    assert registry.ALGORITHMS.load("mine-of-test-api") is registry.ALGORITHMS.load("random")
    with pytest.raises(HatRayError, match="is registered already: choose another name"):
        hat_ray.register_algorithm("random", registry.ALGORITHMS.load("random"))

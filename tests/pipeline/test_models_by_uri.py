"""Trained models on an object store: starts, teachers and exports that a recipe or a command names by a URI."""

from pathlib import Path

import pytest

from hat_ray.api import run_recipe
from hat_ray.cli.commands.models import model_choice
from hat_ray.core.codec import from_json
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import CheckError, HatRayError
from hat_ray.model.checkpoints.folder import read_model_folder
from hat_ray.pipeline.imports.around import recipe_around
from hat_ray.pipeline.models import export_place
from hat_ray.pipeline.places import Place, place_of
from hat_ray.pipeline.trained.identity import identity_of
from hat_ray.pipeline.trained.teachers import keep_teacher
from hat_ray.recipe import load_recipe
from hat_ray.storage.copies import carry
from hat_ray.storage.folder import Folder
from hat_ray.train.state import TrainResult
from tests.pipeline.conftest import TINY, Made, winner
from tests.s3 import S3

STILL = ["supernet.updates=1", "supernet.lr=1e-9", "supernet.min_lr=0", "supernet.warmup_updates=0"]


def put(s3: S3, folder: Path, *names: str) -> Folder:
    """Put files of a local folder, or all, on the object store."""
    target = Folder.at(s3.place("team/model"))
    for path in sorted(folder.iterdir()):
        if path.is_file() and (not names or path.name in names):
            target.write_bytes(path.name, path.read_bytes())
    return target


def trained(place: Path, *changes: str) -> tuple[float, str]:
    """Train one still update of the tiny recipe's SuperTransformer; return its loss and the stage's fingerprint."""
    recipe = load_recipe(TINY, [*STILL, *changes])
    run_recipe(recipe, str(place), local=True, only="corpus")
    (record,) = run_recipe(recipe, str(place), local=True, only="supernet")
    return from_json(TrainResult, record.output, "output").valid_loss_bits["largest"], record.fingerprint


def test_a_training_starts_from_weights_on_an_object_store(made: Made, s3: S3, tmp_path: Path) -> None:
    remote = put(s3, made[1] / "supernet", "supernet.json", "supernet.safetensors")
    local = made[1] / "supernet/supernet.safetensors"
    file = remote.place_of("supernet.safetensors")
    by_path = trained(tmp_path / "path", f"supernet.init={local}")
    by_uri = trained(tmp_path / "uri", f"supernet.init={file}")
    assert by_uri[0] == by_path[0]
    assert trained(tmp_path / "scratch")[0] > by_uri[0]
    assert trained(tmp_path / "folder", f"supernet.init={remote.uri}")[0] == by_uri[0]
    sections, opened = recipe_around(file, "near")
    assert sections["supernet"] == {"init": file}
    assert opened.space == made[0].space.build()


@pytest.mark.parametrize("setting", ["supernet.init", "retrain.init", "supernet.teacher", "corpus.distil_from"])
def test_what_is_not_there_is_one_line_before_anything_begins(s3: S3, tmp_path: Path, setting: str) -> None:
    place = s3.place("nothing")
    with pytest.raises(CheckError) as caught:
        run_recipe(load_recipe(TINY, [f"{setting}={place}"]), str(tmp_path / "run"), local=True)
    assert str(caught.value).startswith(f"{setting}: ")
    assert "is no file and holds none: name a file or a folder with files" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_a_teacher_on_an_object_store_is_the_one_that_lies_here(made: Made, s3: S3, tmp_path: Path) -> None:
    corpus = Corpus.load(Folder.at(made[1] / "corpus"))
    remote = put(s3, made[1] / "supernet", "supernet.json", "supernet.safetensors")
    places = {
        str(winner(made[1])): put(s3, winner(made[1])).uri,
        str(made[1] / "supernet/supernet.safetensors"): remote.place_of("supernet.safetensors"),
    }
    for number, (here, there) in enumerate(places.items()):
        assert identity_of(there, "retrain.teacher") == identity_of(here, "retrain.teacher")
        kept = keep_teacher(there, "retrain.teacher", corpus, Folder.at(tmp_path / f"there-{number}"))
        same = keep_teacher(here, "retrain.teacher", corpus, Folder.at(tmp_path / f"here-{number}"))
        assert kept is not None
        assert same is not None
        assert kept.read_bytes("model.safetensors") == same.read_bytes("model.safetensors")


@pytest.mark.parametrize("runtime", ["onnx", "ctranslate2"])
def test_an_export_on_an_object_store_translates_and_teaches(made: Made, s3: S3, tmp_path: Path, runtime: str) -> None:
    if runtime == "ctranslate2":
        pytest.importorskip("ctranslate2", reason="needs hat-ray[ctranslate2]")
    try:
        export_place(str(winner(made[1])), str(tmp_path / "out"), runtime=runtime, min_agreement=0, max_bleu_loss=100)
    except HatRayError as error:
        pytest.skip(f"this winner has no such export: {error}")
    remote = Folder.at(s3.place("exported"))
    carry(str(tmp_path / "out"), remote, "manifest.json")
    assert place_of(remote.uri) is Place.EXPORT
    lines = list(Corpus.load(Folder.at(made[1] / "corpus")).test.source_text or ())[:6]
    here = model_choice(str(tmp_path / "out"), None, 2, None, None, None).open(1).translate(lines)
    assert model_choice(remote.uri, None, 2, None, None, None).open(1).translate(lines) == here
    changes = ["corpus.toy.train_pairs=40", "corpus.distil_beam=2", f"corpus.distil_from={remote.uri}"]
    run_recipe(load_recipe(TINY, changes), str(tmp_path / "run"), local=True, only="corpus")
    taught = Corpus.load(Folder.at(tmp_path / "run/corpus")).summary.taught
    assert taught is not None
    assert taught.sentences == 40
    assert taught.origin == "export exported"
    (kept,) = (tmp_path / "run/translations").iterdir()
    assert read_names(kept / "teacher") == read_names(tmp_path / "out"), "workers read the run's own copy"
    with pytest.raises(HatRayError):
        read_model_folder(Folder.at(kept / "teacher"))


def test_an_export_is_written_to_an_object_store_and_replaces_only_an_earlier_one(
    made: Made, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = s3.place("served")
    Folder.at(place).write_bytes("thesis.txt", b"mine")
    with pytest.raises(HatRayError, match="served holds something else than an exported model"):
        export_place(str(winner(made[1])), place, min_agreement=0)
    assert Folder.at(place).list() == ["thesis.txt"]
    Folder.at(place).delete("thesis.txt")
    for _ in range(2):
        written = export_place(str(winner(made[1])), place, min_agreement=0)
        Folder.at(place).write_bytes("stale.onnx", b"of an earlier export")
    export_place(str(winner(made[1])), str(tmp_path / "here"), min_agreement=0)
    export_place(str(winner(made[1])), place, min_agreement=0)
    assert written.folder == str(Folder.at(place))
    assert set(Folder.at(place).list()) == read_names(tmp_path / "here")
    assert Folder.at(place).read_bytes("encoder.onnx") == (tmp_path / "here/encoder.onnx").read_bytes()
    assert read_names(tmp_path) == {"here"}, "nothing is called as the scheme is"


def read_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}

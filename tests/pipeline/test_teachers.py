"""Teachers of a run: which places they may be, what is refused in one line, and when a training is done again."""

import shutil
from pathlib import Path

import pytest
import torch

from hat_ray.api import run_recipe
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.errors import HatRayError
from hat_ray.model.checkpoints.about import About
from hat_ray.model.checkpoints.folder import read_about, read_model_folder, write_model_folder
from hat_ray.model.checkpoints.native import load_sub, load_super, save_model
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.pipeline.run_folder import Run
from hat_ray.pipeline.trained.identity import identity_of
from hat_ray.pipeline.trained.teachers import keep_teacher, teacher_of_training
from hat_ray.recipe import load_recipe
from hat_ray.storage.folder import Folder
from hat_ray.train.job import read_finished
from tests.pipeline.conftest import Made, winner


@pytest.fixture
def corpus(made: Made) -> Corpus:
    return Corpus.load(Folder.at(made[1] / "corpus"))


def test_every_kind_of_place_teaches_with_its_own_weights(made: Made, corpus: Corpus, tmp_path: Path) -> None:
    run = made[1]
    supernet = load_super(Folder.at(run / "supernet"), "supernet")
    places = {
        "a model folder": (winner(run), load_sub(Folder.at(winner(run)), "model")),
        "the weights of a SuperTransformer": (
            run / "supernet/supernet.safetensors",
            supernet.extract(supernet.space.largest()),
        ),
    }
    for number, (place, expected) in enumerate(places.values()):
        kept = keep_teacher(str(place), "supernet.teacher", corpus, Folder.at(tmp_path / str(number)))
        assert kept is not None
        opened = read_model_folder(kept)
        for name, weights in expected.weights().items():
            assert torch.equal(opened.model.weights()[name], weights)
        assert identity_of(str(place), "supernet.teacher") in opened.about.notes
        before = Path(kept.path("model.safetensors")).stat().st_mtime_ns
        keep_teacher(str(place), "supernet.teacher", corpus, kept)
        assert Path(kept.path("model.safetensors")).stat().st_mtime_ns == before
    kept = keep_teacher(str(run), "supernet.teacher", corpus, Folder.at(tmp_path / "run"))
    assert kept is not None
    assert "recipe tiny: " in read_about(kept).origin
    assert keep_teacher("", "supernet.teacher", corpus, Folder.at(tmp_path / "none")) is None


def test_what_cannot_teach_is_named_in_one_line(made: Made, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "shape.json").write_text(made[0].space.build().smallest().to_json())
    opened = read_model_folder(Folder.at(winner(made[1])))
    lines = [f"wort {number} steht hier" for number in range(200)]
    other = Vocabularies.of_both(learn_vocabulary(lines, 40, byte_fallback=False))
    small = SubTransformer(opened.model.architecture, 40, made[0].model)
    write_model_folder(Folder.at(tmp_path / "small"), small, other, About())
    words = list(corpus.test.source_text or ()) + lines
    alike = Vocabularies.of_both(learn_vocabulary(words, 400, byte_fallback=False))
    write_model_folder(Folder.at(tmp_path / "alike"), opened.model, alike, About())
    (tmp_path / "broken.pt").write_bytes(b"\x80\x02no pickle")
    (tmp_path / "ct2").mkdir()
    for name in ("config.json", "model.bin"):
        (tmp_path / "ct2" / name).write_text("{}")
    other_words = "supernet.teacher must name a model with the corpus's sub-words, got {place}: "
    remedy = ": name its sub-words in corpus.vocabulary, or let it translate the training text (corpus.distil_from)"
    kind = "supernet.teacher must name a trained model, got {place}, "
    told = {
        "shape.json": f"{kind}an architecture, which has no weights: name its run or model folder",
        "small": f"{other_words}it has 40 source and 40 target words, the corpus 400 and 400{remedy}",
        "alike": f"{other_words}its source word 4 is {alike.source.pieces()[4]!r}, the corpus's "
        f"{corpus.vocabularies.source.pieces()[4]!r}{remedy}",
        "broken.pt": "supernet.teacher: {place} is not a safe checkpoint and was not loaded (at position 2, opcode "
        "b'n' unknown)",
        "nowhere": "supernet.teacher: {place} cannot be read ({place} is no file and holds none: name a file or "
        "a folder with files): name a trained model",
        "ct2": f"{kind}a model of another program, which gives no probabilities of words: name its run or model folder",
    }
    for name, line in told.items():
        with pytest.raises(HatRayError) as error:
            keep_teacher(str(tmp_path / name), "supernet.teacher", corpus, Folder.at(tmp_path / "out"))
        assert str(error.value) == line.format(place=tmp_path / name)
        assert not (tmp_path / "out").exists()


def test_another_teacher_trains_again_and_a_moved_one_does_not(made: Made, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made[1], run)
    teachers = [tmp_path / name for name in ("first", "moved")]
    for place in teachers:
        shutil.copytree(winner(run), place)
    found = []
    changed = read_model_folder(Folder.at(teachers[0]))
    with torch.no_grad():
        for parameter in changed.model.parameters():
            parameter.mul_(1.01)
    write_model_folder(Folder.at(tmp_path / "other"), changed.model, changed.vocabularies, changed.about)
    for named in ("", *map(str, teachers), str(tmp_path / "other")):
        changes = ["supernet.workers=1"] + ([f"supernet.teacher={named}"] if named else [])
        recipe = load_recipe(str(Path(__file__).parent / "tiny.yaml"), changes)
        run_recipe(recipe, str(run), only="supernet", local=True)
        record = Run.open(str(run), recipe).record("supernet")
        assert record is not None
        found.append((record.fingerprint, record.id))
        assert (run / "supernet/teacher/about.json").exists() == bool(named)
    assert found[0] != found[1] == found[2] != found[3]


def test_the_largest_of_the_run_teaches_with_the_weights_that_it_has_there(
    made: Made, corpus: Corpus, tmp_path: Path
) -> None:
    place, folder = tmp_path / "supernet", Folder.at(tmp_path / "teacher")
    shutil.copytree(made[1] / "supernet", place)
    held = load_super(Folder.at(place), "supernet")
    kept = keep_teacher("largest", "retrain.teacher", corpus, folder, Folder.at(place))
    assert kept is not None
    expected = held.extract(held.space.largest()).weights()
    assert all(torch.equal(weight, expected[name]) for name, weight in read_model_folder(kept).model.weights().items())
    before = Path(kept.path("model.safetensors")).stat().st_mtime_ns
    keep_teacher("largest", "retrain.teacher", corpus, folder, Folder.at(place))
    assert Path(kept.path("model.safetensors")).stat().st_mtime_ns == before
    with torch.no_grad():
        held.encoder.embed_tokens.weight.mul_(2)
    save_model(Folder.at(place), "supernet", held)
    keep_teacher("largest", "retrain.teacher", corpus, folder, Folder.at(place))
    assert Path(kept.path("model.safetensors")).stat().st_mtime_ns != before
    with pytest.raises(HatRayError, match=r"^retrain.teacher=largest needs the trained SuperTransformer of the run"):
        keep_teacher("largest", "retrain.teacher", corpus, Folder.at(tmp_path / "none"), Folder.at(tmp_path / "empty"))
    assert not (tmp_path / "none").exists()
    with pytest.raises(HatRayError, match="teacher=largest is of section retrain"):
        load_recipe(str(Path(__file__).parent / "tiny.yaml"), ["supernet.teacher=largest"])


def test_trainings_from_inherited_weights_have_settings_of_their_own_and_the_largest_as_teacher(
    made: Made, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(made[1], run)
    changes = ["retrain.teacher=largest", "retrain.init=[inherited, scratch]", "retrain.inherited={updates: 3}"]
    recipe = load_recipe(str(Path(__file__).parent / "tiny.yaml"), changes)
    run_recipe(recipe, str(run), only="retrain", local=True)
    assert (
        read_about(Folder.at(run / "retrain" / "teacher")).origin == "the largest architecture of the SuperTransformer"
    )
    assert teacher_of_training(recipe, "retrain") != teacher_of_training(made[0], "retrain"), "the stage is done again"
    updates: dict[bool, set[int]] = {True: set(), False: set()}
    for done in run.glob("retrain/*/train.json"):
        updates[(done.parent / "start").exists()].add(read_finished(Folder.at(done.parent)).result.updates)
    assert updates == {True: {3}, False: {recipe.retrain.updates}}


def test_a_teacher_that_is_not_there_is_found_before_anything_begins(made: Made, tmp_path: Path) -> None:
    for section, place in (("supernet", "nowhere"), ("retrain", "nowhere")):
        recipe = load_recipe(str(Path(__file__).parent / "tiny.yaml"), [f"{section}.teacher={place}"])
        with pytest.raises(HatRayError, match=f"{section}.teacher must be there, got nowhere: correct it"):
            run_recipe(recipe, str(tmp_path / "new"), local=True)
        assert not (tmp_path / "new").exists()

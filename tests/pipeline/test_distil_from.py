"""A corpus whose training targets a trained model wrote: what is translated, kept, and not done again."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hat_ray.api import run_recipe
from hat_ray.cli.commands.models import model_choice
from hat_ray.core.codec import from_json
from hat_ray.corpus.corpus import Corpus, CorpusSummary
from hat_ray.corpus.splits import training_text
from hat_ray.corpus.text.taught import BLOCK_LINES
from hat_ray.errors import HatRayError
from hat_ray.evaluate.translate import translate
from hat_ray.model.checkpoints.folder import read_about, read_model_folder, write_model_folder
from hat_ray.model.checkpoints.native import load_sub
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.pipeline.execution import LocalExecution
from hat_ray.pipeline.models import export_place
from hat_ray.pipeline.run_folder import Run
from hat_ray.pipeline.stage import Context
from hat_ray.pipeline.stages.cost import _corpus
from hat_ray.recipe import Recipe, load_recipe
from hat_ray.search.frontier import SearchResult
from hat_ray.storage.folder import Folder
from tests.pipeline.conftest import Made, winner

TINY = str(Path(__file__).parent / "tiny.yaml")


def taught_corpus(run: Path, *changes: str) -> tuple[Recipe, Corpus]:
    """Prepare the corpus of a run with changed settings."""
    recipe = load_recipe(TINY, ["corpus.toy.train_pairs=60", *changes])
    run_recipe(recipe, str(run), only="corpus", local=True)
    return recipe, Corpus.load(Folder.at(run / "corpus"))


def sentences(corpus: Corpus) -> list[tuple[str, str]]:
    ours = corpus.vocabularies
    pairs = [corpus.train.sentence(row) for row in range(len(corpus.train))]
    return [(ours.source.decode(source.tolist()), ours.target.decode(target.tolist())) for source, target in pairs]


def expected(made: Made, recipe: Recipe, beam: int) -> dict[str, str]:
    """Translate the training sources the plain way: the winner's weights, its run's corpus, beam search."""
    sources = [line for chunk in training_text(recipe.corpus).chunks(0) for line in chunk.source]
    own = Corpus.load(Folder.at(made[1] / "corpus")).vocabularies
    config = made[0].evaluate.model_copy(update={"beam": beam})
    model = load_sub(Folder.at(winner(made[1])), "model").eval()
    return dict(zip(sources, translate(model, own, sources, config), strict=True))


def test_the_training_targets_are_the_teachers_and_all_else_is_as_it_was(made: Made, tmp_path: Path) -> None:
    plain = taught_corpus(tmp_path / "plain")[1]
    recipe, corpus = taught_corpus(tmp_path / "taught", f"corpus.distil_from={winner(made[1])}")
    told = expected(made, recipe, beam=2)
    found = sentences(corpus)
    assert len(found) > 40
    assert found == [(source, told[source]) for source, _ in sentences(plain) if told[source]]
    assert found != sentences(plain)
    for split in ("valid", "test"):
        assert getattr(corpus, split).source_text == getattr(plain, split).source_text
        assert getattr(corpus, split).target_text == getattr(plain, split).target_text
    assert plain.summary.taught is None
    assert corpus.summary.taught is not None
    assert corpus.summary.taught.sentences == 60
    assert corpus.summary.taught.origin == read_about(Folder.at(winner(made[1]))).origin
    assert corpus.summary.fingerprint != plain.summary.fingerprint


def test_translations_are_kept_and_only_missing_ones_are_made(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hat_ray.corpus.text.taught.BLOCK_LINES", 16)
    assert BLOCK_LINES == 1_000
    teacher = f"corpus.distil_from={winner(made[1])}"
    first = sentences(taught_corpus(tmp_path / "run", teacher)[1])
    [folder] = (tmp_path / "run/translations").iterdir()
    made_at = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert len(made_at) == 4
    again = sentences(taught_corpus(tmp_path / "run", teacher, "corpus.max_length=79")[1])  # another corpus of one text
    assert again == first
    assert made_at == {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    gone = sorted(made_at)[1]
    gone.unlink()  # as a process leaves it that is killed before its last block
    assert sentences(taught_corpus(tmp_path / "run", teacher, "corpus.max_length=78")[1]) == first
    after = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert after.keys() == made_at.keys()
    assert [path for path in after if after[path] != made_at[path]] == [gone]
    taught_corpus(tmp_path / "run", teacher, "corpus.distil_beam=1")  # other translations
    assert len(list((tmp_path / "run/translations").iterdir())) == 2


def test_a_source_that_a_teacher_cuts_is_named_by_its_line_of_the_whole_text(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hat_ray.corpus.text.taught.BLOCK_LINES", 1)
    opened = read_model_folder(Folder.at(winner(made[1])))
    sources = [
        line
        for chunk in training_text(load_recipe(TINY, ["corpus.toy.train_pairs=60"]).corpus).chunks(0)
        for line in chunk.source
    ]
    lengths = [len(opened.vocabularies.source.encode(line)) for line in sources]
    limit = sorted(lengths)[-4]
    about = replace(opened.about, search={**opened.about.search, "max_source_length": limit})
    write_model_folder(Folder.at(tmp_path / "teacher"), opened.model, opened.vocabularies, about)
    taught_corpus(tmp_path / "run", f"corpus.distil_from={tmp_path / 'teacher'}")
    rows = [row for row, length in enumerate(lengths) if length > limit]
    assert rows
    assert rows != [0]
    found = [line.partition(";")[0] for line in caplog.messages if "were cut" in line]
    assert found == [
        f"1 of 1 lines are longer than {limit} tokens and were cut (first: line {row + 1} of {lengths[row]} tokens)"
        for row in rows
    ]


def test_a_damaged_block_is_named_and_not_trained_on(made: Made, tmp_path: Path) -> None:
    teacher = f"corpus.distil_from={winner(made[1])}"
    taught_corpus(tmp_path / "run", teacher)
    [block] = (tmp_path / "run/translations").glob("*/*.json")
    block.write_text(block.read_text().replace("core_seconds", "cores_econds"))
    with pytest.raises(HatRayError, match=f"{block.name} is damaged"):
        taught_corpus(tmp_path / "run", teacher, "corpus.max_length=70")


def test_validation_that_is_cut_from_the_training_text_keeps_its_references(made: Made, tmp_path: Path) -> None:
    [chunk] = training_text(load_recipe(TINY, ["corpus.toy.train_pairs=60"]).corpus).chunks(0)
    chunk = replace(chunk, target=[*chunk.target[:4], "", *chunk.target[5:]])
    for name, lines in (("en", chunk.source), ("de", chunk.target)):
        (tmp_path / f"text.{name}").write_text("".join(f"{line}\n" for line in lines))
    sides = {
        f"{split}_{side}": f"text.{name}"
        for split in ("train", "test")
        for side, name in (("source", "en"), ("target", "de"))
    }
    files = [f"corpus.files.{key}={value}" for key, value in sides.items()]
    settings = [
        "corpus.source=files",
        f"corpus.files.folder={tmp_path}",
        "corpus.files.valid_every=7",
        *files,
        "corpus.leaks=keep",
        "corpus.protect=0",
    ]
    recipe, corpus = taught_corpus(
        tmp_path / "run", *settings, "corpus.byte_fallback=false", f"corpus.distil_from={winner(made[1])}"
    )
    held = range(6, 60, 7)
    assert corpus.valid.target_text == tuple(chunk.target[row] for row in held)
    told = expected(made, recipe, beam=2)
    kept = [row for row in range(60) if row not in held and row != 4 and told[chunk.source[row]]]
    assert sentences(corpus) == [(chunk.source[row], told[chunk.source[row]]) for row in kept]


@pytest.mark.parametrize("kind", ["run", "onnx", "ctranslate2", "plain ctranslate2"])
def test_each_kind_of_place_translates(made: Made, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "teacher"
    if kind == "run":
        place = made[1]
    else:
        runtime = kind.rsplit(maxsplit=1)[-1]
        if runtime == "ctranslate2":
            pytest.importorskip("ctranslate2", reason="needs hat-ray[ctranslate2]")
        expressible = _uniform_model(made, tmp_path / "model")
        export_place(str(expressible), str(place), runtime=runtime, min_agreement=0, max_bleu_loss=100)
    lines = [
        line
        for chunk in training_text(load_recipe(TINY, ["corpus.toy.train_pairs=60"]).corpus).chunks(0)
        for line in chunk.source
    ]
    model = model_choice(str(place), None, 2, None, None, None).open(1)
    if kind == "plain ctranslate2":
        for name in ("manifest.json", "translate.py"):
            (place / name).unlink()
    _, corpus = taught_corpus(
        tmp_path / "run", f"corpus.distil_from={place}", "corpus.distil_beam=2", "corpus.max_length=900"
    )
    told = dict(zip(lines, model.translate(lines), strict=True))
    found = sentences(corpus)
    assert len(found) > 40
    same = sum(target == told[source] for source, target in found)
    assert same >= 0.9 * len(found)  # two runtimes may choose another word where two are nearly as good


def _uniform_model(made: Made, place: Path) -> Path:
    """Write a model folder whose architecture every runtime can express."""
    recipe, run = made
    opened = read_model_folder(Folder.at(winner(run)))

    shape = recipe.space.build().smallest()
    model = SubTransformer(shape, opened.vocabularies.sizes[0], recipe.model, seed=4).eval()
    write_model_folder(Folder.at(place), model, opened.vocabularies, opened.about)
    return place


def test_what_cannot_translate_is_named_in_one_line(made: Made, tmp_path: Path) -> None:
    (tmp_path / "shape.json").write_text(made[0].space.build().smallest().to_json())
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("model.json", "model.safetensors"):
        shutil.copy(winner(made[1]) / name, bare)
    plain = tmp_path / "ct2"
    plain.mkdir()
    for name in ("model.bin", "config.json"):
        (plain / name).write_bytes(b"{}")
    told = {
        "shape.json": "corpus.distil_from must name a trained model, got ",
        "nowhere": "corpus.distil_from must be there, got ",
        "bare": "holds no sub-words: take it in with them by `hat-ray import model",
        "ct2": "holds no sub-words: put source.spm and target.spm",
    }
    for name, line in told.items():
        if name == "ct2":
            pytest.importorskip("ctranslate2", reason="needs hat-ray[ctranslate2]")
        with pytest.raises(HatRayError) as error:
            taught_corpus(tmp_path / "run", f"corpus.distil_from={tmp_path / name}")
        assert line in str(error.value)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run/corpus/summary.json").exists()


def test_the_ledger_counts_the_translations(made: Made, tmp_path: Path) -> None:
    """Also those that an earlier attempt made: the seconds stand with the blocks."""
    recipe, corpus = taught_corpus(tmp_path / "run", f"corpus.distil_from={winner(made[1])}")
    context = Context(Run.open(str(tmp_path / "run"), recipe), LocalExecution())
    record = context.run.record("corpus")
    assert record is not None
    assert from_json(CorpusSummary, record.output, "output") == corpus.summary
    taught = corpus.summary.taught
    assert taught is not None
    assert taught.core_seconds > 0
    busy = _corpus(context, replace(record, seconds=taught.core_seconds / 2), SearchResult((), {}, {}))
    assert busy.core_s == taught.core_seconds
    assert busy.counted.startswith("translation of 60 training sentences by a teacher and ")

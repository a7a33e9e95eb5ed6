"""A run whose SuperTransformer starts from a trained model, of this program or of another one."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from hat_ray.api import run_recipe
from hat_ray.cli import app
from hat_ray.core.codec import from_json
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import CheckError, CheckpointError, HatRayError
from hat_ray.evaluate.about import about_model
from hat_ray.evaluate.evaluate import EvaluateOutput
from hat_ray.model.checkpoints.folder import write_model_folder
from hat_ray.model.checkpoints.native import load_super, save_model
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.pipeline.run_folder import StageRecord
from hat_ray.recipe import load_recipe
from hat_ray.report.render import read_report
from hat_ray.report.topics.models import starts_table
from hat_ray.search.selection import RetrainOutput
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from hat_ray.train.job import SUPERNET
from hat_ray.train.state import TrainResult
from tests.pipeline.conftest import TINY

SLOWLY = ["supernet.updates=1", "supernet.lr=1e-9", "supernet.min_lr=0", "supernet.warmup_updates=0"]


def trained(place: Path, *changes: str, recipe: str = TINY) -> tuple[StageRecord, Mapping[str, float]]:
    """Train a SuperTransformer on the corpus of the tiny recipe; return its record and its last validation losses."""
    run_recipe(load_recipe(recipe, list(changes)), str(place), local=True, only="corpus")
    (record,) = run_recipe(load_recipe(recipe, list(changes)), str(place), local=True, only="supernet")
    return record, from_json(TrainResult, record.output, "output").valid_loss_bits


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, float]]:
    """A trained SuperTransformer, its file and its validation losses."""
    place = tmp_path_factory.mktemp("first")
    _, losses = trained(place, "supernet.lr=0.01", "supernet.updates=30")
    return place / "supernet" / f"{SUPERNET}.safetensors", losses


@pytest.mark.parametrize("sharing", ["front", "importance"])
def test_training_starts_from_the_models_losses(
    first: tuple[Path, Mapping[str, float]], tmp_path: Path, sharing: str
) -> None:
    file, before = first
    _, scratch = trained(tmp_path / "scratch", *SLOWLY)
    record, begun = trained(tmp_path / "begun", *SLOWLY, f"supernet.init={file}", f"model.sharing={sharing}")
    assert begun["largest"] == pytest.approx(before["largest"], abs=1e-4)
    assert scratch["largest"] > before["largest"] + 0.5
    kept = load_super(Folder.at(tmp_path / "begun" / "supernet" / "start"), SUPERNET)
    assert kept.config.sharing == sharing
    (again,) = run_recipe(
        load_recipe(TINY, [*SLOWLY, f"supernet.init={file}", f"model.sharing={sharing}"]),
        *(str(tmp_path / "begun"),),
        **{"local": True, "only": "supernet"},
    )
    assert again.id == record.id, "nothing is trained again"


def test_a_model_that_changed_is_trained_from_again(first: tuple[Path, Mapping[str, float]], tmp_path: Path) -> None:
    model = load_super(Folder.at(first[0].parent), SUPERNET)
    save_model(Folder.at(tmp_path), "own", model)
    settings = [*SLOWLY, f"supernet.init={tmp_path}/own.safetensors"]
    one, _ = trained(tmp_path / "run", *settings)
    save_model(Folder.at(tmp_path), "own", load_super(Folder.at(first[0].parent), SUPERNET), {"note": "the same"})
    assert trained(tmp_path / "run", *settings)[0].id == one.id, "its weights decide"
    with torch.no_grad():
        model.encoder.embed_tokens.weight.mul_(1.5)
    save_model(Folder.at(tmp_path), "own", model)
    other, _ = trained(tmp_path / "run", *settings)
    assert other.fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            ["space.encoder_embed_dims=[48,32]"],
            "the largest of space.encoder_embed_dims must be the model's, 32, got 48: set it",
        ),
        (["model.normalize_before=true"], r"set model\.normalize_before=false$"),
        (
            ["supernet.init={folder}/nothing.pt"],
            r"^supernet\.init: the model \S+/nothing\.pt does not exist: check its path$",
        ),
        (
            ["supernet.init={folder}/text.pt"],
            r"^supernet\.init: \S+/text\.pt is no model: name a checkpoint of HAT or fairseq \(\.pt\), ",
        ),
    ],
)
def test_what_cannot_be_a_start_is_refused_before_anything_is_done(
    first: tuple[Path, Mapping[str, float]], tmp_path: Path, changes: list[str], line: str
) -> None:
    (tmp_path / "text.pt").write_text("no model")
    named = [f"supernet.init={first[0]}", *(change.format(folder=tmp_path) for change in changes)]
    with pytest.raises(CheckError, match=line) as caught:
        run_recipe(load_recipe(TINY, named), str(tmp_path / "run"), local=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_a_corpus_of_another_size_of_vocabulary_is_refused(
    first: tuple[Path, Mapping[str, float]], tmp_path: Path
) -> None:
    with pytest.raises((CheckpointError, CheckError), match="of 400 source and 400 target entries, got 390 and 390"):
        trained(tmp_path, f"supernet.init={first[0]}", "corpus.vocab_size=390")


def test_the_command_writes_a_recipe_around_hats_checkpoint_that_passes_its_checks(
    shared: Path, tmp_path: Path
) -> None:
    file = shared / "hat" / "oracle" / "shared_hat_checkpoint.pt"
    told = CliRunner().invoke(app, ["space", "around", str(file), "--name", "hats"])
    assert told.exit_code == 0, told.output
    (tmp_path / "hats.yaml").write_text(told.stdout)
    recipe = load_recipe(str(tmp_path / "hats.yaml"))
    written = yaml.safe_load(told.stdout)
    assert recipe.supernet.init == str(file) == written["supernet"]["init"]
    space = recipe.space.build()
    assert isinstance(space, SearchSpace)
    assert (space.qkv_dim, space["encoder_embed_dims"], space["decoder_depths"]) == (32, (48, 32), (3, 2, 1))
    checked = CliRunner().invoke(
        app, ["recipe", "check", str(tmp_path / "hats.yaml"), "--set", "corpus.vocab_size=600"]
    )
    assert "supernet.init" not in f"{checked.output}{checked.exception}"
    assert "ok      weights to start from" in checked.output, checked.output
    around = CliRunner().invoke(app, ["space", "around", str(tmp_path / "none.pt")])
    assert isinstance(around.exception, HatRayError)
    assert "none.pt does not exist" in str(around.exception)


def test_a_model_folder_starts_a_training_on_its_own_sub_words_only(tmp_path: Path) -> None:
    run_recipe(load_recipe(TINY), str(tmp_path / "r"), local=True, only="corpus")
    corpus, recipe = Corpus.load(Folder.at(tmp_path / "r" / "corpus")), load_recipe(TINY)
    model = SubTransformer(recipe.space.build().largest(), 400, recipe.model, seed=3)
    about = about_model(corpus.summary, recipe.evaluate, "a test")
    write_model_folder(Folder.at(tmp_path / "model"), model, corpus.vocabularies, about)
    settings = [*SLOWLY, f"supernet.init={tmp_path}/model"]
    trained(tmp_path / "same", *settings)
    with pytest.raises(
        CheckpointError,
        match=r"^supernet\.init must name a model with the corpus's sub-words, got \S+/model: its source word \d+ is "
        r"'\S+', the corpus's '\S+': name its sub-words in corpus\.vocabulary$",
    ):
        trained(tmp_path / "other", *settings, "corpus.toy.seed=2")


STILL = ["retrain.updates=1", "retrain.lr=1e-9", "retrain.min_lr=0", "retrain.warmup_updates=0"]


@pytest.mark.slow
def test_winners_are_trained_from_several_starts_and_shown_side_by_side(
    first: tuple[Path, Mapping[str, float]], tmp_path: Path
) -> None:
    starts = f'retrain.init=["inherited", "scratch", "{first[0]}"]'
    settings = [*SLOWLY, *STILL, f"supernet.init={first[0]}", "search.limits_fraction=[0.7]", starts]
    records = {one.stage: one for one in run_recipe(load_recipe(TINY, settings), str(tmp_path / "r"), local=True)}
    output = from_json(RetrainOutput, records["retrain"].output, "output")
    winners = {entry.architecture.id for entry in output.selected if entry.kind == "winner"}
    assert winners
    for id, model in output.models.items():
        assert model.start == "inherited"
        assert model.trainings[0].loss_bits == pytest.approx(model.inherited_loss_bits, abs=1e-4)
        assert model.starts[1:] == (["scratch", str(first[0])] if id in winners else [])
    (winner,) = winners
    _, scratch, file = output.models[winner].trainings
    assert scratch.loss_bits > output.models[winner].inherited_loss_bits + 0.05
    assert file.loss_bits == pytest.approx(output.models[winner].inherited_loss_bits, abs=1e-4)
    evaluated = from_json(EvaluateOutput, records["evaluate"].output, "output").models[winner]
    assert {*evaluated.others} == {scratch.folder, file.folder}
    data = read_report(Folder.at(tmp_path / "r" / "report"))
    table = starts_table(data)
    assert table is not None
    assert [str(row[1]) for row in table.rows] == [
        *("before training", "from inherited weights", "from scratch", f"from {first[0].name}")
    ]
    page = (tmp_path / "r" / "report" / "report.html").read_text()
    assert "was trained from inherited weights with the same number of updates" in page
    assert "What training started from" in page
    again = run_recipe(load_recipe(TINY, settings), str(tmp_path / "r"), local=True, only="retrain")
    assert again[0].id == records["retrain"].id


def test_starts_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HatRayError, match="init needs one start, or several that differ"):
        load_recipe(TINY, ["retrain.init=[scratch, scratch]"])
    with pytest.raises(CheckError, match=r"^retrain\.init: the model \S+/none\.pt does not exist: check its path$"):
        run_recipe(load_recipe(TINY, [f"retrain.init={tmp_path}/none.pt"]), str(tmp_path / "r"), local=True)

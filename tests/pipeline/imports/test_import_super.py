"""A SuperTransformer of HAT's as a run folder: its losses are HAT's own, and `run` resumes after it."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from hat_ray.core.codec import from_json
from hat_ray.core.lease import InUseError, held
from hat_ray.corpus.fairseq.dictionary import read_dictionary
from hat_ray.errors import CheckpointError, HatRayError, RunError
from hat_ray.model.checkpoints.native import load_super
from hat_ray.pipeline.imports.super_run import HAT_SMALLEST, SuperImport, import_super
from hat_ray.pipeline.run_folder import Run
from hat_ray.recipe import Recipe, load_run_recipe
from hat_ray.storage.folder import Folder
from hat_ray.train.job import SUPERNET
from hat_ray.train.state import TrainResult
from tests.corpus.fairseq.data_bin_files import write_dictionary, write_mmap
from tests.model import hat_files

SYMBOLS = [f"w{number}" for number in range(hat_files.VOCAB - 4)]
SENTENCES = [[4 + (start + step) % 16 for step in range(3 + start % 5)] + [2] for start in range(30)]
TRAINING_SENTENCES = [[4 + (start + 2 * step) % 16 for step in range(3 + start % 5)] + [2] for start in range(30)]


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """An untrained checkpoint of HAT's and a data-bin with as many symbols."""
    data_bin = tmp_path / "bin"
    data_bin.mkdir()
    for language in ("en", "de"):
        write_dictionary(data_bin / f"dict.{language}.txt", SYMBOLS)
        for split, sentences in (("train", TRAINING_SENTENCES), ("valid", SENTENCES), ("test", SENTENCES)):
            write_mmap(data_bin / f"{split}.en-de.{language}", sentences)
    return checkpoint(tmp_path / "super.pt"), data_bin


def checkpoint(path: Path, extra: Any = None, **arguments: Any) -> Path:
    training = {
        **{"criterion": "label_smoothed_cross_entropy", "label_smoothing": 0.2, "lr_scheduler": "inverse_sqrt"},
        **{"lr": [0.001], "max_update": 60, "warmup_updates": 7, "max_tokens": 300, "update_freq": [2], "seed": 3},
        **{"adam_betas": "(0.9, 0.98)", "clip_norm": 0.0, "beam": 3, "lenpen": 0.6, "valid_subset": "valid"},
    }
    content = hat_files.content(**{**training, **arguments})
    torch.save(content if extra is None else {**content, "extra_state": extra}, path)
    return path


def test_the_run_folder_has_both_stages_and_the_settings_of_the_checkpoint(made: tuple[Path, Path], tmp_path: Path):
    found = import_super(SuperImport(str(made[0]), str(made[1])), str(tmp_path / "run"))
    recipe = load_run_recipe(Folder.at(tmp_path / "run"))
    assert recipe.name == "super"
    assert recipe.space.build().id == hat_files.SPACE.id
    training = recipe.supernet
    assert (training.label_smoothing, training.lr, training.updates, training.accumulate) == (0.2, 1e-3, 60, 2)
    assert (recipe.evaluate.beam, recipe.evaluate.length_penalty, recipe.seed) == (3, 0.6, 3)
    assert (recipe.retrain.updates, recipe.retrain.label_smoothing) == (60, 0.2)
    assert recipe.corpus.vocab_size == hat_files.VOCAB
    record = found.run.record("supernet")
    assert record is not None
    result = from_json(TrainResult, record.output, "x")
    assert set(result.valid_loss_bits) == {"largest", "smallest", HAT_SMALLEST}
    model = load_super(Folder.at(tmp_path / "run" / "supernet"), SUPERNET)
    name = "encoder.embed_tokens.weight"
    torch.testing.assert_close(dict(model.named_parameters())[name].detach(), hat_files.weights()[name])


def test_settings_of_the_command_win_and_a_space_may_be_named(made: tuple[Path, Path], tmp_path: Path):
    yml = tmp_path / "mine.yml"
    from hat_ray.space.hat_yaml import write_space

    yml.write_text(write_space(hat_files.SPACE.replaced(encoder_heads=(2,))))
    what = SuperImport(str(made[0]), str(made[1]), str(yml), name="mine", overrides=("search.evaluations=7",))
    found = import_super(what, str(tmp_path / "run"))
    assert (found.run.recipe.name, found.run.recipe.search.evaluations) == ("mine", 7)
    assert found.run.recipe.space.build()["encoder_heads"] == (2,)


def refused(what: SuperImport, run: Path, reason: str, kind: type[HatRayError] = HatRayError) -> None:
    with pytest.raises(kind, match=reason) as refusal:
        import_super(what, str(run))
    assert "\n" not in str(refusal.value)
    assert not run.exists()


def test_a_run_that_another_process_begins_meanwhile_is_left_to_it(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, opened = Folder.at(tmp_path / "run"), Run.open
    other = ExitStack()

    def opened_too(place: Folder, recipe: Recipe) -> Run:
        mine = opened(place, recipe)
        other.enter_context(held(run))
        run.write_text("theirs", "x")
        return mine

    monkeypatch.setattr(Run, "open", opened_too)
    with other, pytest.raises(InUseError, match="one process at a time"):
        import_super(SuperImport(str(made[0]), str(made[1])), run.uri)
    assert run.read_text("theirs") == "x"
    assert run.exists("run.json")


def test_what_does_not_belong_together_is_refused_and_leaves_no_folder(made: tuple[Path, Path], tmp_path: Path):
    file, data_bin = made
    run = tmp_path / "run"
    smaller = shutil.copytree(data_bin, tmp_path / "smaller")
    for language in ("en", "de"):
        write_dictionary(smaller / f"dict.{language}.txt", SYMBOLS[:-1])
    refused(SuperImport(str(file), str(smaller)), run, "trained with 20 source symbols, the dictionary .* has 19")
    apart = shutil.copytree(data_bin, tmp_path / "apart")
    write_dictionary(apart / "dict.de.txt", SYMBOLS[::-1])
    refused(SuperImport(str(file), str(apart)), run, "shares one embedding for both sides")
    cut = shutil.copytree(data_bin, tmp_path / "cut")
    (cut / "valid.en-de.de.bin").write_bytes(b"")
    refused(SuperImport(str(file), str(cut)), run, "it is cut")
    wide = tmp_path / "wide.yml"
    from hat_ray.space.hat_yaml import write_space

    wide.write_text(write_space(hat_files.SPACE.replaced(encoder_ffn_dims=(48, 16))))
    reason = "largest of encoder_ffn_dims must be the checkpoint's encoder_ffn_embed_dim 24, space wide has 48"
    refused(SuperImport(str(file), str(data_bin), str(wide)), run, reason, CheckpointError)
    refused(SuperImport(str(file), str(data_bin), languages="en-fr"), run, r"must hold dict\.fr\.txt")
    refused(SuperImport(str(file), str(data_bin), overrides=("search.evaluation=7",)), run, "unknown key")
    refused(SuperImport(str(tmp_path / "none.pt"), str(data_bin)), run, "does not exist")


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("seed", torch.tensor(3), "seed must be text, a number or a list of them, got Tensor: correct it"),
        ("valid_subset", {"a": 1}, "valid-subset must be text, a number or a list of them, got dict: correct it"),
        ("max_update", [torch.tensor(3)], "max-update must be text, a number or a list of them, got list: correct it"),
    ],
)
def test_an_argument_that_yaml_cannot_hold_is_refused(
    made: tuple[Path, Path], tmp_path: Path, name: str, value: Any, line: str
):
    file = checkpoint(tmp_path / "odd.pt", **{name: value})
    refused(SuperImport(str(file), str(made[1])), tmp_path / "run", line)


def test_an_argument_without_a_name_is_refused(made: tuple[Path, Path], tmp_path: Path):
    content = hat_files.content()
    vars(content["args"])[0] = 1
    torch.save(content, tmp_path / "odd.pt")
    what = SuperImport(str(tmp_path / "odd.pt"), str(made[1]))
    refused(what, tmp_path / "run", "arguments must have names, got 0: correct the checkpoint", CheckpointError)


def test_a_loss_that_is_far_from_the_checkpoints_own_shows_other_data(made: tuple[Path, Path], tmp_path: Path):
    file = checkpoint(tmp_path / "trained.pt", {"val_loss": 1.25})
    reason = r"notes a validation loss of 1\.2500 bits a token, here it is \d"
    refused(SuperImport(str(file), str(made[1])), tmp_path / "run", reason, CheckpointError)
    measured = import_super(SuperImport(str(made[0]), str(made[1])), str(tmp_path / "one")).measured_loss_bits
    same = checkpoint(tmp_path / "same.pt", {"val_loss": measured})
    assert import_super(SuperImport(str(same), str(made[1])), str(tmp_path / "two")).noted_loss_bits == measured


def test_a_run_folder_with_a_supertransformer_is_left_alone(made: tuple[Path, Path], tmp_path: Path):
    what = SuperImport(str(made[0]), str(made[1]))
    import_super(what, str(tmp_path / "run"))
    before = (tmp_path / "run" / "supernet" / "stage.json").read_bytes()
    with pytest.raises(RunError, match="has a SuperTransformer already"):
        import_super(what, str(tmp_path / "run"))
    assert (tmp_path / "run" / "supernet" / "stage.json").read_bytes() == before


def test_the_oracles_validation_loss_is_hats(shared: Path, tmp_path: Path):
    """HAT noted the loss of its smallest architecture in the checkpoint; here it is measured from the files alone.

    On the processor of the first measurement all 17 digits are equal with batches of 4,096 tokens. Another order of
    adding the 1,925 tokens' losses in fp32 moves the sum by a few of its roundings, each of 2**-24 of it.
    """
    place = shared / "hat" / "oracle"
    what = SuperImport(
        str(place / "shared_hat_checkpoint.pt"),
        str(place / "bin_joined"),
        str(place / "space_tiny_shared.yml"),
        overrides=("supernet.valid_max_tokens=4096",),
    )
    found = import_super(what, str(tmp_path / "run"))
    assert found.noted_loss_bits == 1.1808201285561721
    assert found.measured_loss_bits == pytest.approx(1.1808201285561721, rel=3 * 2**-24)


def test_a_data_bin_with_other_ids_shows_by_its_loss(shared: Path, tmp_path: Path):
    place = shared / "hat" / "oracle"
    symbols = read_dictionary(place / "bin_joined" / "dict.en.txt").symbols[4:]
    other = tmp_path / "other"
    other.mkdir()
    for language in ("en", "de"):
        write_dictionary(other / f"dict.{language}.txt", symbols[::-1])
        order = [*range(4), *range(47, 3, -1)]
        for split in ("train", "valid", "test"):
            lines = (place / "text" / f"{split}.{language}").read_text().splitlines()
            ids = [[order[4 + symbols.index(word)] for word in line.split()] + [2] for line in lines]
            write_mmap(other / f"{split}.en-de.{language}", ids)
    what = SuperImport(str(place / "shared_hat_checkpoint.pt"), str(other))
    refused(what, tmp_path / "run", "validation loss", CheckpointError)

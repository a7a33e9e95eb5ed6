"""HAT's YAML files as a recipe: each key is a setting, or is named with the reason."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from hat_ray.errors import HatRayError, RecipeError
from hat_ray.pipeline.imports.hat_recipe import import_recipe
from hat_ray.recipe import parse_recipe
from hat_ray.space.hat_yaml import read_space
from tests.command import hat_ray
from tests.pipeline.imports.hat_configs import DATASET, EVOLUTION, FILES, SUB, SUPER


def written(folder: Path, **files: str) -> list[str]:
    """Write files, and return their paths in the order given."""
    for name, text in files.items():
        (folder / f"{name}.yml").write_text(text)
    return [str(folder / f"{name}.yml") for name in files]


def changed(text: str, **keys: Any) -> str:
    """Return a file with other values for some keys; None takes a key away."""
    values = yaml.safe_load(text) | {key.replace("_", "-"): value for key, value in keys.items()}
    return yaml.safe_dump({key: value for key, value in values.items() if value is not None})


def test_the_five_files_of_an_experiment_are_one_recipe(tmp_path: Path):
    recipe = import_recipe(written(tmp_path, **FILES), "mine", gpus=8).recipe
    assert recipe.name == "mine"
    assert recipe.space.build().id == read_space(SUPER, "x").id
    assert (recipe.corpus.source, recipe.corpus.fairseq and recipe.corpus.fairseq.folder) == (
        "fairseq",
        "data/binary/mine",
    )
    assert (recipe.model.dropout, recipe.model.attention_dropout, recipe.model.share_embeddings) == (0.3, 0.1, "all")
    training, scratch = recipe.supernet, recipe.retrain
    assert (training.updates, training.warmup_updates, training.max_tokens) == (400, 100, 512)
    assert (training.schedule, training.lr, training.min_lr, training.warmup_init_lr) == ("cosine", 1e-3, 1e-6, 1e-7)
    assert (training.accumulate, training.workers, training.use_gpu, training.precision) == (128, 8, True, "fp16")
    assert (training.adam_betas, training.clip_norm, training.label_smoothing) == ((0.9, 0.98), 0, 0.2)
    assert (scratch.updates, scratch.warmup_updates, scratch.label_smoothing) == (300, 40, 0.1)
    assert (scratch.schedule, scratch.lr, scratch.warmup_init_lr) == ("inverse_sqrt", 5e-4, 0.0)
    search = recipe.search
    assert (search.algorithm, search.evaluations, search.limits_ms) == ("hat", 3750, (200.0,))
    assert search.algorithm_options == {"population": 125, "parents": 25, "mutation_probability": 0.3}
    latency = recipe.latency
    assert (latency.samples, latency.max_repetitions, latency.accelerator, latency.source_length) == (
        2000,
        20,
        "cpu",
        30,
    )


def test_every_key_of_every_file_is_a_setting_or_is_named_with_a_reason(tmp_path: Path):
    found = import_recipe(written(tmp_path, **FILES))
    noted = [one.partition(": ")[2].partition(" ")[0] for one in (*found.mapped, *found.unmapped)]
    keys = {key for text in FILES.values() for key in yaml.safe_load(text)}
    assert keys - set(noted) <= {"label-smoothing"}  # stands with the criterion
    assert all(found.unmapped.values())
    assert not [reason for reason in found.unmapped.values() if "no setting is known" in reason]


def test_the_yaml_is_the_recipe_and_names_what_was_left_in_comments(tmp_path: Path):
    found = import_recipe(written(tmp_path, **FILES), "mine")
    assert parse_recipe(found.to_yaml(), "x") == found.recipe
    assert "#   " + str(Path(tmp_path.name, "predictor.yml")) + ": hidden-dim 400\n" in found.to_yaml()


def test_an_unknown_key_is_named_and_fairseqs_defaults_are_meant_where_a_key_is_missing(tmp_path: Path):
    text = changed(SUPER, clip_norm=None, adam_betas=None, dropout=None, arch="transformersuper_iwslt_de_en", wobble=3)
    found = import_recipe(written(tmp_path, one=text))
    assert (found.recipe.supernet.clip_norm, found.recipe.supernet.adam_betas) == (25, (0.9, 0.999))
    assert found.recipe.model.dropout == 0.1
    assert found.recipe.latency.source_length == 23
    assert [key for key, reason in found.unmapped.items() if "no setting is known" in reason] == [
        f"{tmp_path.name}/one.yml: wobble 3"
    ]


def test_without_gpus_a_batch_is_that_of_one_and_the_note_says_so(tmp_path: Path):
    found = import_recipe(written(tmp_path, one=SUPER))
    assert (found.recipe.supernet.accumulate, found.recipe.supernet.use_gpu, found.recipe.supernet.precision) == (
        16,
        False,
        "fp32",
    )
    assert any("update-freq 16 on 1 GPU (fairseq takes all: --gpus N)" in key for key in found.mapped)
    assert any("fp16 True" in key for key in found.unmapped)


def test_data_sets_of_several_devices_share_the_most_repetitions(tmp_path: Path):
    files = written(
        tmp_path, one=SUPER, pi=DATASET, xeon=changed(DATASET, latiter=300), board=changed(DATASET, latiter=3)
    )
    assert import_recipe(files).recipe.latency.max_repetitions == 300
    mixed = written(tmp_path, one=SUPER, pi=DATASET, titan=changed(DATASET, latcpu=None, latgpu=True))
    found = import_recipe(mixed)
    assert found.recipe.latency.accelerator == "auto"
    assert any("latgpu" in key and "latency.devices" in reason for key, reason in found.unmapped.items())


def test_limits_of_several_searches_are_one_list(tmp_path: Path):
    files = written(tmp_path, one=SUPER, two=EVOLUTION, three=changed(EVOLUTION, latency_constraint=80))
    assert import_recipe(files).recipe.search.limits_ms == (80.0, 200.0)


def test_the_networks_own_keys_are_settings_of_the_model(tmp_path: Path):
    keys = {"activation_fn": "gelu_accurate", "encoder_normalize_before": True, "decoder_normalize_before": True}
    others = {"no_decoder_final_norm": True, "no_scale_embedding": True, "no_token_positional_embeddings": True}
    text = changed(SUPER, **keys, **others, adaptive_input=False)
    found = import_recipe(written(tmp_path, super=text))
    model = found.recipe.model
    assert (model.activation, model.normalize_before, model.decoder_final_norm) == ("gelu_tanh", True, False)
    assert (model.scale_embeddings, model.positions) == (False, "none")
    assert any("adaptive-input" in one and "changes nothing" in why for one, why in found.unmapped.items())
    learned = changed(SUPER, encoder_learned_pos=True, decoder_learned_pos=True)
    assert import_recipe(written(tmp_path, super=learned)).recipe.model.positions == "learned"
    with pytest.raises(HatRayError, match="--adaptive-input asks for adaptive input embeddings"):
        import_recipe(written(tmp_path, super=changed(SUPER, adaptive_input=True)))


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"sub": SUB}, "must hold a search space"),
        ({"a": SUPER, "b": changed(SUB, dropout=0.2)}, r"b\.yml: dropout 0\.2 makes model\.dropout 0\.2, another file"),
        ({"a": changed(SUPER, adam_betas="(0.9,")}, "adam-betas must be two numbers"),
        ({"a": changed(SUPER, adam_betas="__import__('os').getcwd()")}, "adam-betas must be two numbers"),
        ({"a": changed(SUPER, max_lr=None)}, "cosine needs max-lr"),
        ({"a": changed(SUPER, update_freq=[2, 4])}, "update-freq must be one whole number"),
        ({"a": changed(SUPER, lr=[0.1, 0.2])}, "lr must be one rate"),
        ({"a": changed(SUPER, decoder_normalize_before=True)}, "both sides must place their norms alike"),
        ({"a": changed(SUPER, encoder_embed_choice="wide")}, "encoder-embed-choice must be a list of whole numbers"),
        ({"a": changed(SUPER, dropout=3)}, r"model\.dropout"),
        ({"a": SUPER, "b": changed(EVOLUTION, evo_iter=0)}, "evo-iter must be a whole number from 1 on"),
        ({"a": "max-update: [1"}, "a.yml"),
        ({"a": "{}"}, "must hold a search space"),
    ],
)
def test_files_that_make_no_recipe_are_refused_in_one_line(tmp_path: Path, files: dict[str, str], reason: str):
    with pytest.raises(Exception, match=reason) as refusal:
        import_recipe(written(tmp_path, **files))
    assert isinstance(refusal.value, RecipeError) or type(refusal.value).__module__ == "hat_ray.errors"
    assert "\n" not in str(refusal.value)


def test_the_command_writes_a_new_file_and_nothing_where_a_file_is_wrong(tmp_path: Path):
    files = written(tmp_path, one=SUPER, two=changed(SUB, dropout=0.2))
    out = tmp_path / "mine.yaml"
    refused = hat_ray("import", "recipe", *files, "--out", out, cwd=tmp_path)
    assert (refused.returncode, out.exists()) == (2, False)
    made = hat_ray("import", "recipe", files[0], "--out", out, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert parse_recipe(out.read_text(), "x").supernet.updates == 400
    again = hat_ray("import", "recipe", files[0], "--out", out, cwd=tmp_path)
    assert again.returncode == 2
    assert "exists: name another" in again.stderr

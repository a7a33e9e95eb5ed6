"""Recipes: what ships is valid, and what is wrong is told with file, line, key and remedy."""

import json
from pathlib import Path

import pytest

from hat_ray.errors import RecipeError
from hat_ray.recipe import Recipe, json_schema, load_recipe, parse_recipe, shipped_recipes, to_yaml
from hat_ray.space.presets import PRESETS


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_valid_and_has_a_space(name: str):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert recipe.space.build().size() > 1000


def test_toy_and_multi30k_ship():
    assert {"toy", "multi30k.en-de"} <= set(shipped_recipes())


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_resolved_recipe_reads_back_as_itself(name: str):
    recipe = load_recipe(name)
    assert parse_recipe(to_yaml(recipe), "again") == recipe


def test_overrides_reach_any_field_and_are_read_as_yaml():
    recipe = load_recipe("toy", ["search.limits_ms=[40, 80]", "seed=7", "corpus.toy.train_pairs=500"])
    assert recipe.search.limits_ms == (40.0, 80.0)
    assert recipe.seed == 7
    assert recipe.corpus.toy.train_pairs == 500


def test_another_preset_takes_the_place_of_a_recipes_own_space():
    own, other = load_recipe("multi30k.en-de"), load_recipe("multi30k.en-de", ["space.preset=small"])
    assert own.space.build() != other.space.build() == PRESETS["small"]
    changed = load_recipe("multi30k.en-de", ["space.encoder_heads=[2]", "space.preset=small"]).space.build()
    assert changed == PRESETS["small"].replaced(name=changed.name, encoder_heads=(2,))
    narrow = load_recipe("multi30k.en-de", ["space.qkv_dim=96"]).space.build()
    assert narrow == own.space.build().replaced(name=narrow.name, qkv_dim=96)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nserch:\n  evaluations: 5\n", "my.yaml, line 2: unknown key serch; did you mean search?"),
        (
            "name: x\nsearch:\n  evaluatons: 5\n",
            "my.yaml, line 3: unknown key search.evaluatons; did you mean evaluations?",
        ),
        (
            "name: x\nsearch:\n  evaluations: many\n",
            "my.yaml, line 3: search.evaluations: input should be a valid integer",
        ),
        ("name: x\nsearch:\n  evaluations: 0\n", "greater than or equal to 1, got 0"),
        ("name: x\nsearch: 5\n", "my.yaml, line 2: search:"),
        ("seed: 1\n", "my.yaml: name is missing"),
        ("name: ../x\n", "my.yaml, line 1: name:"),
        ("- 1\n", "my.yaml must hold keys and values, got list"),
        ("name: [\n", "my.yaml is not YAML"),
        ("name: x\nseed: 1\ncorpus:\n  toy:\n    train_pairs: -3\n", "line 5: corpus.toy.train_pairs"),
        (
            "name: x\nlatency:\n  devices:\n    - nam: a\n",
            "line 4: unknown key latency.devices.0.nam; did you mean name?",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line_with_place_and_key(text: str, message: str):
    with pytest.raises(RecipeError) as refusal:
        parse_recipe(text, "my.yaml")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_wrong_override_names_itself():
    with pytest.raises(RecipeError, match=r"--set search.evaluatons=5: unknown key .* did you mean evaluations"):
        load_recipe("toy", ["search.evaluatons=5"])
    with pytest.raises(RecipeError, match=r"must read key.path=value"):
        load_recipe("toy", ["search.evaluations"])


def test_an_unknown_recipe_names_the_nearest(tmp_path: Path):
    with pytest.raises(RecipeError, match="did you mean toy"):
        load_recipe("tоy".replace("о", "oo"))
    binary = tmp_path / "x.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="begins with the mark of UTF-16 but is damaged"):
        load_recipe(str(binary))


def test_the_schema_describes_every_field():
    schema = json.loads(json_schema())
    assert set(schema["properties"]) == set(Recipe.model_fields)
    for definition in [schema, *schema["$defs"].values()]:
        if definition.get("type") == "object":
            for name, field in definition["properties"].items():
                assert field.get("description"), f"{definition.get('title')}.{name} has no description"


LIMITS = ({"pi4": {"latency_ms": 40, "model_mb": 20}}, {"pi4": [{"latency_ms": 40}, {"model_mb": 20}]}, [{"p90_ms": 9}])


@pytest.mark.parametrize("limits", LIMITS)
def test_the_schema_knows_every_form_of_limits(limits: object):
    jsonschema = pytest.importorskip("jsonschema")  # comes with Ray
    jsonschema.validate({"name": "mine", "search": {"limits": limits}}, json.loads(json_schema()))
    assert load_recipe("toy", [f"search.limits={json.dumps(limits)}"]).search.limits


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            "{latency_ms: 40, model_mb: 20}",
            r"limits: a mapping's keys are devices, and latency_ms is a quantity: write",
        ),
        ("{pi4: {latency_m: 3}}", r"limits\.pi4\.0\.latency_m: knows no 'latency_m'; did you mean latency_ms\?"),
        ("[4]", r"limits\.0: input should be a mapping, got 4$"),
        ("5", r"limits: input should be a list, got 5$"),
    ],
)
def test_a_mistake_in_limits_is_reported_for_the_form_that_was_written(limits: str, message: str):
    with pytest.raises(RecipeError, match=message):
        load_recipe("toy", [f"search.limits={limits}"])


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("search.trial_seconds", "max_seconds or batch_seconds"),
        ("search.limit_probability", "limit_confidence"),
        ("search.measure_rounds", "refine_rounds"),
        ("search.extra_evaluations", "evaluations or refine_evaluations"),
        ("search.population", "search.algorithm_options.population"),
        ("search.frontier_share", "search.algorithm_options.frontier_share"),
        ("search.label_smoothing", "supernet.label_smoothing"),
    ],
)
def test_a_key_that_was_renamed_or_stands_elsewhere_is_named(key: str, meant: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("toy", [f"{key}=1"])
    assert "did you mean" in str(caught.value)
    assert meant in str(caught.value)


FORM_MISTAKES = {
    "train_source: [{path: a, weight: 0}]": "train_source.0.weight: input should be greater than 0, got 0",
    "train_source: {path: a, weight: -1}": "train_source.weight: input should be greater than 0, got -1",
    "train_source: [b, {path: a, wieght: 1}]": "unknown key corpus.files.train_source.1.wieght; did you mean weight?",
    "train_source: [{weight: 1}]": "corpus.files.train_source.0.path is missing",
    "train_source: {path: a, tag: \u27e61\u27e7}": "must not change: choose another word, as <BT>",
    "train_source: {path: a, tag: a b}": "a symbol is a word without spaces, commas and U+2581, got 'a b'",
    "train_source: 3": "train_source: input should be a valid string or a mapping or a list, got 3",
}
"""Mistakes in a setting that takes several forms, and what is reported of each."""


@pytest.mark.parametrize(("written", "reported"), FORM_MISTAKES.items())
def test_of_several_forms_the_mistake_in_the_one_that_was_meant_is_reported(written: str, reported: str):
    others = "train_target: t, valid_source: a, valid_target: b, test_source: c, test_target: d"
    with pytest.raises(RecipeError) as caught:
        parse_recipe(f"name: x\ncorpus:\n  source: files\n  files: {{{written}, {others}}}\n", "mine.yaml")
    assert str(caught.value).startswith("mine.yaml, line 4: ")
    assert reported in str(caught.value)
    assert str(caught.value).count("got ") <= 1
    assert "more)" not in str(caught.value)


def test_a_word_where_a_switch_or_some_words_may_stand_is_reported_with_all_of_them():
    with pytest.raises(RecipeError, match=r"deduplicate: input should be a valid boolean or 'source', .*, got 'bth'$"):
        parse_recipe("name: x\ncorpus: {deduplicate: bth}\n", "mine.yaml")

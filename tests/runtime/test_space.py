"""A search space is restricted to what a runtime can express, or the runtime is refused beforehand."""

import pytest

from hat_ray.errors import SpaceError
from hat_ray.pipeline.preflight.check import Situation
from hat_ray.pipeline.preflight.table import examine, failures
from hat_ray.recipe import load_recipe


def found(*settings: str) -> list[str]:
    recipe = load_recipe("toy", list(settings))
    return [one.text for one in failures(examine(recipe, Situation(("latency",)))) if "express" in one.text]


def test_one_number_of_heads_a_side_and_the_last_encoder_layer_remain() -> None:
    space = load_recipe("toy", ["space.preset=space0", "space.runtime=ctranslate2"]).space.build().choices
    whole = load_recipe("toy", ["space.preset=space0"]).space.build().choices
    changed = {name: space[name] for name in space if space[name] != whole[name]}
    assert changed == {
        "encoder_heads": (8,),
        "decoder_self_heads": (8,),
        "decoder_cross_heads": (8,),
        "decoder_cross_layers": (1,),
    }


def test_the_number_of_heads_may_be_chosen() -> None:
    chosen = ["space.preset=space0", "space.runtime=ctranslate2", "space.encoder_heads=[4]"]
    assert load_recipe("toy", chosen).space.build().choices["encoder_heads"] == (4,)


@pytest.mark.parametrize("runtime", ["eager", "packed", "onnx"])
def test_what_expresses_everything_restricts_nothing(runtime: str) -> None:
    whole = load_recipe("toy", []).space.build()
    assert load_recipe("toy", [f"space.runtime={runtime}"]).space.build() == whole


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("space.decoder_cross_layers=[2, 3]", r"one of \[1\] in space.decoder_cross_layers \[2, 3\]: change"),
        ("space.decoder_self_heads=[1]", r"a choice in common in space.decoder_self_heads \[1\] and space.decoder_cr"),
    ],
)
def test_a_space_of_which_nothing_remains_is_refused_in_one_line(setting: str, words: str) -> None:
    recipe = load_recipe("toy", ["space.runtime=ctranslate2", "space.decoder_cross_heads=[2]", setting])
    with pytest.raises(SpaceError, match=f"^space.runtime ctranslate2 needs {words}"):
        recipe.space.build()


def test_a_device_whose_runtime_cannot_express_the_space_is_refused_before_anything_is_timed() -> None:
    device = "latency.devices=[{name: a, runtime: ctranslate2}, {name: b, runtime: onnx}]"
    [line] = found(device)
    assert line.startswith("runtime ctranslate2 must be able to express every architecture of the space, got ")
    assert line.endswith("set space.runtime=ctranslate2, or take another runtime")
    assert "decoder_cross_layers" in line
    assert found(device, "space.runtime=ctranslate2") == []
    assert found("latency.runtime=onnx") == []

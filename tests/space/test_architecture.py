"""An architecture has one form: equal networks compare, hash and print alike."""

import json
import pickle
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hat_ray.errors import SpaceError
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.presets import DEEP_SHALLOW, PRESETS, TOY

SMALL = Architecture(EncoderShape(64, (128, 64), (4, 2)), DecoderShape(64, (128,), (4,), (2,), (1,)), 64)


@given(st.sampled_from(list(PRESETS.values())), st.integers(0, 10**6))
def test_json_form_comes_back_equal(space, seed):
    architecture = space.sample(random.Random(seed))
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    assert hash(again) == hash(architecture)
    assert again.id == architecture.id
    assert str(again) == str(architecture)
    assert pickle.loads(pickle.dumps(architecture)) == architecture  # noqa: S301


def test_the_id_is_stable_across_processes_and_releases():
    code = "from hat_ray.space.presets import TOY; import random; print(TOY.sample(random.Random(5)).id)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert other.stdout.strip() == TOY.sample(random.Random(5)).id
    assert SMALL.id == "486dadbd14e7"


def test_different_architectures_have_different_ids():
    rng = random.Random(0)
    architectures = {TOY.sample(rng) for _ in range(5000)}
    assert len({a.id for a in architectures}) == len(architectures)


def test_reach_is_cut_to_the_layers_that_exist():
    decoder = DecoderShape(64, (64, 64), (2, 2), (2, 2), (3, 1))
    shallow = Architecture(EncoderShape(64, (64,), (2,)), decoder, 64)
    assert shallow.decoder.cross_layers == (1, 1)


def test_repeats_that_change_nothing_do_not_exist():
    decoder = DecoderShape(64, (64,), (2,), (2,), (1,))
    assert Architecture(EncoderShape(64, (64, 64), (2, 2), repeats=2), decoder, 64).encoder.repeats == 0
    reaching = DecoderShape(64, (64,), (2,), (2,), (3,))
    assert Architecture(EncoderShape(64, (64,), (2,), repeats=2), reaching, 64).decoder.cross_layers == (1,)
    kept = Architecture(EncoderShape(64, (64, 64), (2, 2), repeats=1), reaching, 64)
    assert kept.encoder.repeats == 1
    assert kept.decoder.cross_layers == (3,)
    assert Architecture.from_json(kept.to_json()) == kept


def test_of_copies_that_are_alike_one_is_attended_to():
    """Post-norm: attention over copies is attention over the one that they are copies of."""
    decoder = DecoderShape(64, (64, 64), (2, 2), (2, 2), (3, 2))
    one = Architecture(EncoderShape(64, (64, 64), (2, 2), repeats=1), decoder, 64)
    assert (one.encoder.repeats, one.decoder.cross_layers) == (1, (3, 1))
    two = Architecture(EncoderShape(64, (64, 64), (2, 2), repeats=2), decoder, 64)
    assert (two.encoder.repeats, two.decoder.cross_layers) == (0, (1, 1))
    assert two == Architecture(EncoderShape(64, (64, 64), (2, 2)), replace(decoder, cross_layers=(1, 1)), 64)


def test_repeats_before_a_norm_differ_from_the_last_output():
    """Pre-norm: the last output is normalised, its repeats are not."""
    decoder = DecoderShape(64, (64, 64), (2, 2), (2, 2), (2, 1))
    shape = EncoderShape(64, (64,), (2,), repeats=5, repeats_before_norm=True)
    one = Architecture(shape, decoder, 64)
    assert (one.encoder.repeats, one.decoder.cross_layers) == (1, (2, 1))
    assert one == Architecture(replace(shape, repeats=1), decoder, 64)
    assert Architecture.from_json(one.to_json()) == one
    assert "repeats 1 before norm" in str(one)
    plain = Architecture(shape, replace(decoder, cross_layers=(1, 1)), 64)
    assert plain == Architecture(EncoderShape(64, (64,), (2,)), replace(decoder, cross_layers=(1, 1)), 64)
    three = Architecture(replace(shape, repeats=3), replace(decoder, cross_layers=(3, 2)), 64)
    assert (three.encoder.repeats, three.decoder.cross_layers) == (2, (3, 2))
    with pytest.raises(SpaceError, match="repeats_before_norm must be true or false, got 1"):
        Architecture(replace(shape, repeats_before_norm=1), decoder, 64)


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        (EncoderShape(64, (), ()), SMALL.decoder, "at least one layer"),
        (EncoderShape(64, (64, 64), (2,)), SMALL.decoder, r"encoder.heads must name one value a layer, got 1 .* 2"),
        (EncoderShape(64, (64,), (3,)), SMALL.decoder, "heads must divide the query-key-value width 64, got 3"),
        (EncoderShape(64, (0,), (2,)), SMALL.decoder, "whole numbers from 1 on, got 0"),
        (EncoderShape(64, (64.5,), (2,)), SMALL.decoder, "whole numbers from 1 on, got 64.5"),
        (SMALL.encoder, DecoderShape(64, (64,), (2,), (2,), (4,)), "1 to 3 encoder layers, got 4"),
    ],
)
def test_an_ill_formed_architecture_is_refused_with_its_rule(encoder, decoder, message):
    with pytest.raises(SpaceError, match=message):
        Architecture(encoder, decoder, 64)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"encoder": 1, "decoder": 2, "qkv_dim": 3}', "{", '"x"'])
def test_text_that_is_no_architecture_is_refused_in_one_line(text):
    with pytest.raises(SpaceError) as refusal:
        Architecture.from_json(text)
    assert "\n" not in str(refusal.value)


def test_a_message_says_whether_a_value_is_missing_or_of_another_type():
    whole = SMALL.to_dict()
    with pytest.raises(SpaceError, match="not an architecture: 'decoder' is missing, in "):
        Architecture.from_dict({name: value for name, value in whole.items() if name != "decoder"})
    with pytest.raises(SpaceError, match="not an architecture: a value is ill-typed, "):
        Architecture.from_dict({**whole, "encoder": 3})


def test_the_readable_form_names_every_choice():
    assert str(SMALL) == "enc 64x2 ffn 128,64 heads 4,2 | dec 64x1 ffn 128 self 4 cross 2 reach 1 | qkv 64"
    assert json.loads(SMALL.to_json())["decoder"]["cross_heads"] == [2]
    assert DEEP_SHALLOW.largest().encoder.depth == 12

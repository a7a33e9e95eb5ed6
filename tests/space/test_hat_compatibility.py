"""HAT's YAML, features and published costs."""

import csv
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hat_ray.errors import SpaceError
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.cost import cost
from hat_ray.space.dimensions import HAT_CROSS_LAYERS
from hat_ray.space.features import COST_FEATURES, HAT_FEATURES, cost_features, hat_features
from hat_ray.space.hat_yaml import (
    architecture_from_config,
    read_architecture,
    read_space,
    write_architecture,
    write_space,
)
from hat_ray.space.presets import PRESETS, SPACE1


def published(shared: Path) -> list[tuple[dict[str, str], Architecture]]:
    rows = []
    with (shared / "hat" / "published_models.csv").open() as file:
        for row in csv.DictReader(file):

            def layers(key: str, row: dict[str, str] = row) -> tuple[int, ...]:
                return tuple(json.loads(row[key]))

            encoder = EncoderShape(
                int(row["encoder_embed_dim"]), layers("encoder_ffn_embed_dim"), layers("encoder_self_attention_heads")
            )
            decoder = DecoderShape(
                int(row["decoder_embed_dim"]),
                layers("decoder_ffn_embed_dim"),
                layers("decoder_self_attention_heads"),
                layers("decoder_ende_attention_heads"),
                tuple(HAT_CROSS_LAYERS[code] for code in layers("decoder_arbitrary_ende_attn")),
            )
            rows.append((row, Architecture(encoder, decoder)))
    return rows


def test_costs_equal_every_published_model_exactly(shared: Path):
    rows = published(shared)
    assert len(rows) == 32
    for row, architecture in rows:
        ours = cost(architecture, 23 if row["task"].startswith("iwslt") else 30)
        assert ours.params == int(row["params_exact"]), row["model_name"]
        assert ours.flops == int(row["flops_exact"]), row["model_name"]


def test_published_models_lie_in_their_spaces(shared: Path):
    for row, architecture in published(shared):
        space = PRESETS["space1" if row["task"].startswith("iwslt") else "space0"]
        space.require(architecture)


@given(st.sampled_from(list(PRESETS.values())), st.integers(0, 10**6))
def test_an_architecture_comes_back_from_hats_yaml(space, seed):
    architecture = space.sample(random.Random(seed))
    assert read_architecture(write_architecture(architecture)) == architecture


@pytest.mark.parametrize("space", PRESETS.values(), ids=PRESETS)
def test_a_space_comes_back_from_hats_yaml(space):
    assert read_space(write_space(space), space.name) == space


def test_skipped_encoder_layers_come_back_from_hats_yaml():
    encoder = EncoderShape(64, (64, 64), (2, 2), repeats=1)
    alike = Architecture(encoder, DecoderShape(64, (64,), (2,), (2,), (3,)), 64)
    shape = replace(encoder, ffn_dims=(64,), heads=(2,), repeats=2, repeats_before_norm=True)
    before_norm = Architecture(shape, DecoderShape(64, (64, 64), (2, 2), (2, 2), (3, 2)), 64)
    for one in (alike, before_norm):
        assert one.encoder.repeats
        assert read_architecture(write_architecture(one)) == one
    text = write_architecture(before_norm)
    for key, value, words in (
        ("encoder-layers", 0, "encoder-layers must be at least the encoder's 1 layers, got 0"),
        ("encoder-layers", "many", "encoder-layers must be a whole number"),
        ("encoder-normalize-before", 1, "encoder-normalize-before must be true or false, got 1"),
    ):
        with pytest.raises(SpaceError, match=words):
            read_architecture(yaml.safe_dump({**yaml.safe_load(text), key: value}))


def test_hats_own_yaml_reads_with_longer_lists_and_foreign_keys():
    text = """
encoder-embed-dim-subtransformer: 512
decoder-embed-dim-subtransformer: 640
encoder-ffn-embed-dim-all-subtransformer: [1024, 512]
decoder-ffn-embed-dim-all-subtransformer: [1024, 2048, 4096]  # more than there are layers
encoder-layer-num-subtransformer: 2
decoder-layer-num-subtransformer: 2
encoder-self-attention-heads-all-subtransformer: [4, 2]
decoder-self-attention-heads-all-subtransformer: [4, 8]
decoder-ende-attention-heads-all-subtransformer: [2, 4]
decoder-arbitrary-ende-attn-all-subtransformer: [2, -1]
lr: 0.1
"""
    architecture = read_architecture(text)
    assert architecture.decoder == DecoderShape(640, (1024, 2048), (4, 8), (2, 4), (2, 1))
    assert architecture.qkv_dim == 512


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder-layer-num-subtransformer": None}, "lacks the key encoder-layer-num-subtransformer"),
        ({"decoder-arbitrary-ende-attn-all-subtransformer": [3] * 6}, r"must be -1, 1 or 2 .* got 3"),
        ({"encoder-ffn-embed-dim-all-subtransformer": [64]}, "needs .* values, one a layer, got 1"),
        (
            {"encoder-embed-dim-subtransformer": "wide"},
            "encoder-embed-dim-subtransformer must be a whole number, got 'wide'",
        ),
        ({"encoder-layer-num-subtransformer": "many"}, "encoder-layer-num-subtransformer must be a whole number"),
    ],
)
def test_yaml_that_is_not_hats_is_refused_with_its_key(change, message):
    values = yaml.safe_load(write_architecture(SPACE1.largest()))
    values = {key: value for key, value in {**values, **change}.items() if value is not None}
    with pytest.raises(SpaceError, match=message):
        read_architecture(yaml.safe_dump(values))


def test_hats_features_equal_those_of_its_code(shared: Path):
    facts = json.loads((shared / "hat" / "oracle" / "shared.json").read_text())
    for name, config in facts["configs"].items():
        arguments = facts["args"]
        architecture = architecture_from_config(config, arguments["qkv_dim"], arguments["encoder_layers"])
        if architecture.encoder.depth < arguments["encoder_layers"]:
            continue  # HAT averages reaches past the encoder that exists; no published space has such a network
        np.testing.assert_allclose(hat_features([architecture])[0], facts["results"][name]["features"], rtol=1e-12)


def test_features_have_a_row_for_each_architecture_even_for_none():
    assert hat_features([]).shape == (0, len(HAT_FEATURES))
    assert cost_features([]).shape == (0, len(COST_FEATURES))
    rng = random.Random(2)
    architectures = [SPACE1.sample(rng) for _ in range(4)]
    matrix = cost_features(architectures)
    assert matrix.shape == (4, len(COST_FEATURES))
    work = matrix[:, COST_FEATURES.index("decoder_ffn_work")]
    assert list(work) == [sum(a.decoder.embed_dim * f for f in a.decoder.ffn_dims) for a in architectures]

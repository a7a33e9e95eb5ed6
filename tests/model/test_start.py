"""A trained model as the start of a SuperTransformer: the same network at first, with the best of it in front."""

import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from hat_ray.errors import CheckpointError
from hat_ray.model.checkpoints.start import started_from
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.derived import space_around
from hat_ray.space.presets import PRESETS, TOY
from hat_ray.space.search_space import SearchSpace
from tests.model.rounding import assert_same_but_for_rounding

WORDS = 40
ARCHITECTURE = Architecture(
    EncoderShape(24, (48, 32, 40), (2, 2, 2)), DecoderShape(24, (48, 48), (2, 2), (2, 2), (1, 1)), 16
)
CONFIGS: list[dict[str, Any]] = [
    {"sharing": "front"},
    {"sharing": "importance"},
    {"sharing": "middle"},
    {"sharing": "importance", "share_embeddings": "none", "normalize_before": True, "activation": "gelu"},
    {"sharing": "importance", "positions": "learned", "output_bias": True, "share_embeddings": "decoder"},
    {"sharing": "front", "positions": "marian", "start": "zero", "scale_embeddings": False},
]


def trained(architecture: Architecture = ARCHITECTURE, **settings: Any) -> SubTransformer:
    """Return a model whose weights are unlike each other, also those that begin alike."""
    model = SubTransformer(architecture, WORDS, ModelConfig(**settings), seed=3).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator)) if parameter.requires_grad else None
    return model


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    source = torch.randint(4, WORDS, (5, 9), generator=generator)
    source[:2, :3] = 1  # padded on the left
    return source, torch.randint(4, WORDS, (5, 7), generator=generator)


def of_the_shape(architecture: Architecture) -> SearchSpace:
    """Return a space whose largest architecture is the model's shape with its widest hidden layers everywhere."""
    return space_around(architecture)


@pytest.mark.parametrize("settings", CONFIGS, ids=lambda one: " ".join(map(str, one.values())))
def test_the_largest_architecture_computes_what_the_model_computes(settings: dict[str, Any]) -> None:
    own = {name: value for name, value in settings.items() if name != "sharing"}
    model, config = trained(**own), ModelConfig(**settings, dropout=0.3)
    made = started_from(model, of_the_shape(ARCHITECTURE), config, (WORDS, WORDS)).eval()
    largest = made.space.largest()
    assert largest.encoder.ffn_dims == (48, 48, 48), "layers of 32 and 40 units are filled up"
    assert_same_but_for_rounding(made(*batch(), largest), model(*batch()))
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    assert all(torch.equal(before[name], one) for name, one in model.named_parameters()), "the model itself stays"


@pytest.mark.parametrize("sharing", ["front", "importance"])
def test_a_narrower_layer_has_the_units_of_the_largest_weights(sharing: str) -> None:
    model = trained()
    space = of_the_shape(ARCHITECTURE).replaced(encoder_ffn_dims=(16, 8))
    made = started_from(model, space, ModelConfig(sharing=sharing), (WORDS, WORDS))
    for index in range(3):
        theirs, ours = model.encoder.layer(index), made.encoder.layer(index)
        weights = [theirs.fc1.weight.detach(), theirs.fc2.weight.detach().T]
        scaled = [w.double().square().sum(1) / w.double().square().sum(1).mean() for w in weights]
        best = sum(scaled).argsort(descending=True)[:16]  # type: ignore[union-attr]
        assert_same_but_for_rounding(ours.fc1.bias.detach().sort().values, theirs.fc1.bias.detach()[best].sort().values)


def test_new_units_change_nothing_and_learn() -> None:
    model = trained()
    space = of_the_shape(ARCHITECTURE).replaced(decoder_ffn_dims=(96, 48))
    made = started_from(model, space, ModelConfig(), (WORDS, WORDS)).eval()
    logits = made(*batch(), space.largest())
    assert_same_but_for_rounding(logits, model(*batch()))
    logits.square().sum().backward()
    grown = made.decoder.layer(0).fc2.weight
    assert not grown[:, 48:].any()
    assert grown.grad is not None
    assert (grown.grad[:, 48:] != 0).any()


def test_a_supertransformer_is_taken_whole_and_its_first_layers_of_a_shallower_space() -> None:
    model = SuperTransformer(TOY, WORDS, ModelConfig(), seed=3).eval()
    made = started_from(model, TOY, ModelConfig(sharing="importance"), (WORDS, WORDS)).eval()
    assert_same_but_for_rounding(made(*batch(), TOY.largest()), model(*batch(), TOY.largest()))
    again = started_from(made, TOY, ModelConfig(sharing="importance"), (WORDS, WORDS)).eval()
    assert_same_but_for_rounding(again(*batch(), TOY.largest()), model(*batch(), TOY.largest()))
    shallow = TOY.replaced(encoder_depths=(2, 1), decoder_depths=(1,), decoder_cross_layers=(1,))
    less = started_from(model, shallow, ModelConfig(), (WORDS, WORDS)).eval()
    assert_same_but_for_rounding(less(*batch(), shallow.largest()), model(*batch(), shallow.largest()))


@pytest.mark.parametrize(
    ("settings", "changes", "words", "line"),
    [
        (
            {"activation": "gelu", "normalize_before": True},
            {},
            WORDS,
            "set model.normalize_before=false, model.activation=relu$",
        ),
        ({}, {"qkv_dim": 32}, WORDS, "space.qkv_dim must be the model's, 16, got 32"),
        ({}, {"encoder_embed_dims": (32, 16)}, WORDS, "encoder_embed_dims must be the model's, 24, got 32"),
        ({}, {"decoder_depths": (3, 2)}, WORDS, "space.decoder_depths must be at most the model's 2 layers, got 3"),
        ({}, {}, 50, "of 40 source and 40 target entries, got 50 and 50"),
    ],
)
def test_what_cannot_be_the_same_network_is_refused_with_its_remedy(
    settings: dict[str, Any], changes: dict[str, Any], words: int, line: str
) -> None:
    space = of_the_shape(ARCHITECTURE).replaced(**changes)
    with pytest.raises(CheckpointError, match=line):
        started_from(trained(), space, ModelConfig(**settings), (words, words))


def test_positions_of_a_wider_network_are_refused() -> None:
    big = SuperTransformer(TOY, WORDS, ModelConfig(), seed=3)
    narrow = replace(TOY.smallest())
    model = big.extract(narrow)
    with pytest.raises(CheckpointError, match="positions must be those of its own widths"):
        started_from(model, space_around(narrow), ModelConfig(), (WORDS, WORDS))


@pytest.mark.parametrize("name", PRESETS)
def test_a_space_around_an_architecture_holds_it_and_nothing_larger(name: str) -> None:
    rng = random.Random(2)
    for _ in range(30):
        one = PRESETS[name].sample(rng)
        space = space_around(one)
        assert space.contains(one)
        largest = space.largest()
        assert (largest.encoder.embed_dim, largest.decoder.embed_dim) == (one.encoder.embed_dim, one.decoder.embed_dim)
        assert (largest.encoder.depth, largest.decoder.depth) == (one.encoder.depth, one.decoder.depth)
        assert {*largest.encoder.ffn_dims} == {max(one.encoder.ffn_dims)}
        assert {*largest.decoder.cross_layers} == {max(one.decoder.cross_layers)}
        assert space.size() > 100

"""Networks that differ in their fixed parts compute what a plain restatement of each computes."""

import random

import pytest
import torch

from hat_ray.core.config import canonical
from hat_ray.model.beam import beam_search
from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.hat_yaml import architecture_from_config
from hat_ray.space.search_space import SearchSpace
from tests.model.plain_network import Rules, logits
from tests.model.test_elastic import SPACE, random_batch

VOCAB = 40
SETTINGS = {
    "as HAT": ({}, Rules()),
    "pre-norm": ({"normalize_before": True}, Rules(pre_norm=True)),
    "no decoder final norm": (
        {"normalize_before": True, "decoder_final_norm": False},
        Rules(pre_norm=True, decoder_final_norm=False),
    ),
    "no final norm": (
        {"normalize_before": True, "decoder_final_norm": False, "encoder_final_norm": False},
        Rules(pre_norm=True, decoder_final_norm=False, encoder_final_norm=False),
    ),
    "eps": ({"layer_norm_eps": 1e-2}, Rules(eps=1e-2)),
    **{kind: ({"activation": kind}, Rules(activation=kind)) for kind in ("gelu", "gelu_tanh", "gelu_sigmoid", "swish")},
    **{
        f"{kind} positions": ({"positions": kind}, Rules(positions=kind))
        for kind in ("marian", "huggingface", "learned", "none")
    },
    "unscaled embeddings": ({"scale_embeddings": False}, Rules(scaled=False)),
    "output bias": ({"output_bias": True}, Rules(bias=True)),
    "zero start": ({"start": "zero"}, Rules(zero_start=True)),
    "start of its own": ({"start": "bos"}, Rules(bos_start=True)),
    "own output": ({"share_embeddings": "none"}, Rules(output="decoder.embed_out")),
    "Marian's": (
        {
            **{"activation": "swish", "positions": "marian", "output_bias": True, "start": "zero"},
            "layer_norm_eps": 1e-6,
        },
        Rules(activation="swish", positions="marian", bias=True, zero_start=True, eps=1e-6),
    ),
}


def drawn(space: SearchSpace, draw: random.Random) -> dict[str, dict[str, object]]:
    """Draw HAT's nested configuration; lists are as long as the SuperTransformer is deep."""
    deepest = space.largest().encoder.depth, space.largest().decoder.depth
    layers = {
        name: [draw.choice(space[name]) for _ in range(deepest[name.startswith("decoder")])]
        for name in space.choices
        if space[name] and name.endswith(("ffn_dims", "heads"))
    }
    codes = [{1: -1, 2: 1, 3: 2}[draw.choice(space.numbers("decoder_cross_layers"))] for _ in range(deepest[1])]
    return {
        "encoder": {
            "encoder_embed_dim": draw.choice(space["encoder_embed_dims"]),
            "encoder_layer_num": draw.choice(space["encoder_depths"]),
            "encoder_ffn_embed_dim": layers["encoder_ffn_dims"],
            "encoder_self_attention_heads": layers["encoder_heads"],
        },
        "decoder": {
            "decoder_embed_dim": draw.choice(space["decoder_embed_dims"]),
            "decoder_layer_num": draw.choice(space["decoder_depths"]),
            "decoder_ffn_embed_dim": layers["decoder_ffn_dims"],
            "decoder_self_attention_heads": layers["decoder_self_heads"],
            "decoder_ende_attention_heads": layers["decoder_cross_heads"],
            "decoder_arbitrary_ende_attn": codes,
        },
    }


def a_model(space: SearchSpace, seed: int = 3, **settings: object) -> SuperTransformer:
    """Return a SuperTransformer in float64 whose every weight is random, and a number of float32."""
    model = SuperTransformer(space, VOCAB, ModelConfig.model_validate(settings), seed=seed).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return model.double()


def sizes_of(space: SearchSpace) -> tuple[int, int, int]:
    encoder, decoder = space.largest().encoder, space.largest().decoder
    return encoder.embed_dim, decoder.embed_dim, encoder.depth


def weights_of(model: SuperTransformer) -> dict[str, torch.Tensor]:
    return {name: one.detach() for name, one in model.named_parameters(remove_duplicate=False)}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_network_computes_what_its_settings_say(name: str) -> None:
    settings, rules = SETTINGS[name]
    model, draw = a_model(SPACE, **settings), random.Random(name)
    source, target_in = random_batch()
    as_hat = a_model(SPACE)
    for _ in range(3):
        config = drawn(SPACE, draw)
        config["decoder"]["decoder_arbitrary_ende_attn"] = [-1] * 3
        architecture = architecture_from_config(config, SPACE.qkv_dim)
        with torch.inference_mode():
            ours = model(source, target_in, architecture)
            extracted = model.extract(architecture).double()(source, target_in)
            other = as_hat(source, target_in, architecture)
        for row, sentence in enumerate(source.tolist()):
            plain = logits(
                *(weights_of(model), rules, config, sizes_of(SPACE)),
                *([token for token in sentence if token != 1], target_in[row].tolist()),
            )
            torch.testing.assert_close(ours[row], plain, rtol=0, atol=1e-5)  # tables of sinusoids are float32
            torch.testing.assert_close(extracted[row], plain, rtol=0, atol=1e-5)
        assert settings == {} or float((ours - other).abs().max()) > 1e-3, "the setting changes nothing here"


@pytest.mark.parametrize("name", SETTINGS)
def test_beam_search_ranks_by_the_whole_networks_probabilities(name: str) -> None:
    model = a_model(SPACE, **SETTINGS[name][0])
    architecture = SPACE.sample(random.Random(5))
    sub, (source, _) = model.extract(architecture).double(), random_batch()
    for sentence, found in zip(source, beam_search(sub, source, beam=3, max_length=8), strict=True):
        for hypothesis in found:
            fed = torch.tensor([[2, *hypothesis.tokens[:-1]]])
            with torch.inference_mode():
                logs = sub(sentence[None], fed).log_softmax(-1)[0]
            score = sum(float(logs[place, token]) for place, token in enumerate(hypothesis.tokens))
            assert hypothesis.score == pytest.approx(score / len(hypothesis.tokens), abs=1e-6)


def test_settings_at_their_default_are_no_part_of_a_fingerprint() -> None:
    assert set(canonical(ModelConfig())) == {
        *("share_embeddings", "sharing", "normalize_before", "max_positions"),
        *("dropout", "attention_dropout", "activation_dropout"),
    }
    assert canonical(ModelConfig(activation="swish"))["activation"] == "swish"


def test_the_unknown_word_is_passed_over_and_all_others_keep_their_probabilities() -> None:
    architecture, source = SPACE.largest(), random_batch()[0]
    free, barred = (
        a_model(SPACE, output_bias=True, unknown_words=one).extract(architecture).double() for one in (True, False)
    )
    for model in (free, barred):
        with torch.no_grad():
            model.decoder.output_bias[3] = 50.0  # the unknown word is the likeliest
    found = [beam_search(model, source, beam=2, max_length=6) for model in (free, barred)]
    assert all(3 in hypotheses[0].tokens for hypotheses in found[0])
    assert not any(3 in one.tokens for hypotheses in found[1] for one in hypotheses)
    for sentence, hypotheses in zip(source, found[1], strict=True):
        best = hypotheses[0]
        with torch.inference_mode():
            logs = free(sentence[None], torch.tensor([[2, *best.tokens[:-1]]])).log_softmax(-1)[0]
        score = sum(float(logs[place, token]) for place, token in enumerate(best.tokens)) / len(best.tokens)
        assert best.score == pytest.approx(score, abs=1e-6)

"""Arguments of fairseq that change the network: each is honoured, or refused by its name."""

from typing import Any

import pytest
import torch
from hat_files import ARGUMENTS, SPACE, VOCAB, weights

from hat_ray.errors import CheckpointError
from hat_ray.model.checkpoints.fairseq import model_from_state
from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.hat_yaml import architecture_from_config
from tests.model.plain_network import Rules, logits

PRE_NORM = {"encoder_normalize_before": True, "decoder_normalize_before": True}
LEARNED = {"encoder_learned_pos": True, "decoder_learned_pos": True}
HONOURED: dict[str, tuple[dict[str, Any], dict[str, Any], Rules]] = {
    "nothing": ({}, {}, Rules()),
    "gelu": ({"activation_fn": "gelu"}, {}, Rules(activation="gelu")),
    "gelu_accurate": ({"activation_fn": "gelu_accurate"}, {}, Rules(activation="gelu_tanh")),
    "gelu_fast": ({"activation_fn": "gelu_fast"}, {}, Rules(activation="gelu_tanh")),
    "swish": ({"activation_fn": "swish"}, {}, Rules(activation="swish")),
    "pre-norm": (PRE_NORM, {"normalize_before": True}, Rules(pre_norm=True)),
    "no decoder final norm": (
        {**PRE_NORM, "no_decoder_final_norm": True},
        {"normalize_before": True, "decoder_final_norm": False},
        Rules(pre_norm=True, decoder_final_norm=False),
    ),
    "no_decoder_final_norm of post-norm": ({"no_decoder_final_norm": True}, {}, Rules()),
    "learned positions": (
        {**LEARNED, "max_source_positions": 30, "max_target_positions": 30},
        {"positions": "learned", "max_positions": 30},
        Rules(positions="learned"),
    ),
    "no positions": ({"no_token_positional_embeddings": True}, {}, Rules(positions="none")),
    "unscaled": ({"no_scale_embedding": True}, {}, Rules(scaled=False)),
    "own output": ({"share_all_embeddings": False}, {"share_embeddings": "none"}, Rules(output="decoder.embed_out")),
    "shared in the decoder": (
        {"share_all_embeddings": False, "share_decoder_input_output_embed": True},
        {"share_embeddings": "decoder"},
        Rules(),
    ),
}
LARGEST = {
    "encoder": {
        **{"encoder_embed_dim": 16, "encoder_layer_num": 2, "encoder_ffn_embed_dim": [24, 24]},
        "encoder_self_attention_heads": [2, 1],
    },
    "decoder": {
        **{"decoder_embed_dim": 8, "decoder_layer_num": 2, "decoder_ffn_embed_dim": [24, 16]},
        **{"decoder_self_attention_heads": [2, 1], "decoder_ende_attention_heads": [1, 2]},
        "decoder_arbitrary_ende_attn": [1, -1],
    },
}


def state_of(**settings: Any) -> dict[str, torch.Tensor]:
    """Return the weights that fairseq would write of a network."""
    model = SuperTransformer(SPACE, VOCAB, ModelConfig.model_validate(settings), seed=2)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return {name: one.detach() for name, one in model.named_parameters(remove_duplicate=False)}


@pytest.mark.parametrize("name", HONOURED)
def test_an_argument_is_honoured(name: str) -> None:
    arguments, written, rules = HONOURED[name]
    state = state_of(**written)
    model = model_from_state(state, {**ARGUMENTS, **arguments}, "x").model.double()
    source, target_in = torch.tensor([[5, 6, 7, 2]]), torch.tensor([[2, 9, 8]])
    with torch.inference_mode():
        ours = model(source, target_in, architecture_from_config(LARGEST, SPACE.qkv_dim))[0]
    as_double = {key: one.double() for key, one in state.items()}
    plain = logits(as_double, rules, LARGEST, (16, 16, 2), source[0].tolist(), target_in[0].tolist())
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"adaptive_softmax_cutoff": "1000,2000"}, "--adaptive-softmax-cutoff asks for an adaptive softmax"),
        ({"adaptive_input": True}, "--adaptive-input asks for"),
        ({"decoder_output_dim": 8}, "--decoder-output-dim 8 and --decoder-embed-dim 16"),
        ({"decoder_input_dim": 8}, "--decoder-input-dim 8 and --decoder-embed-dim 16"),
        ({"encoder_normalize_before": True, "decoder_normalize_before": False}, "--encoder-normalize-before True and"),
        ({"encoder_learned_pos": False, "decoder_learned_pos": True}, "--decoder-learned-pos True"),
        ({"layernorm_embedding": True}, "--layernorm-embedding asks for a norm of the embeddings"),
        ({"vocab_original_scaling": True}, "--vocab-original-scaling asks for"),
        ({"activation_fn": "tanh"}, "--activation-fn must be relu, gelu, .*, got 'tanh'"),
        ({"activation_fn": "linear"}, "got 'linear'"),
        ({"char_inputs": True}, "--char-inputs asks for embeddings of characters"),
        ({"cross_self_attention": True}, "--cross-self-attention"),
        ({"encoder_layers_to_keep": "0,2"}, "--encoder-layers-to-keep"),
        ({"moe_freq": 2}, "--moe-freq asks for layers of experts"),
        ({**LEARNED, "max_source_positions": 9, "max_target_positions": 8}, "positions 9 and .*positions 8"),
        ({"max_source_positions": 1e400}, "--max-source-positions must be a whole number from 1 on, got inf"),
        ({"activation_fn": ["relu"]}, "--activation-fn must be"),
        ({"adaptive_input": torch.zeros(2)}, "is not a HAT Transformer checkpoint"),
    ],
)
def test_what_the_network_lacks_is_refused_by_name(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as refused:
        model_from_state(state_of(), {**ARGUMENTS, **arguments}, "x.pt")
    told = str(refused.value)
    assert told.startswith("x.pt")
    assert "\n" not in told


def test_arguments_at_fairseqs_defaults_ask_for_nothing() -> None:
    defaults = {
        **{"adaptive_softmax_cutoff": None, "adaptive_input": False, "layernorm_embedding": False, "base_layers": 0},
        **{"decoder_output_dim": 16, "decoder_input_dim": 16, "max_relative_length": -1, "activation_fn": "relu"},
        **{"encoder_learned_pos": False, "decoder_learned_pos": False, "encoder_layers_to_keep": None},
        **{"max_source_positions": 1024, "max_target_positions": 1024, "no_scale_embedding": False},
    }
    loaded = model_from_state(state_of(), {**ARGUMENTS, **defaults}, "x")
    assert loaded.model.config == model_from_state(state_of(), ARGUMENTS, "x").model.config == ModelConfig()


def test_versions_before_the_last_norms_have_none() -> None:
    """fairseq: layers of version 1 have no last norms, of version 2 none in the decoder."""
    whole = state_of(normalize_before=True)
    for version, norms in ((1.0, (0, 0)), (2.0, (1, 0)), (3.0, (1, 1))):
        state = {name: one for name, one in whole.items() if ".layers." in name or ".layer_norm." not in name}
        for side, there in zip(("encoder", "decoder"), norms, strict=True):
            state[f"{side}.version"] = torch.tensor([version])
            state.update({name: one for name, one in whole.items() if there and name.startswith(f"{side}.layer_norm")})
        loaded = model_from_state(state, {**ARGUMENTS, **PRE_NORM}, "x").model
        assert loaded.config.final_norms == norms


def test_extra_and_missing_weights_are_named() -> None:
    others = {f"decoder.layers.0.scale_{name}": torch.zeros(1) for name in "abcde"}
    with pytest.raises(CheckpointError, match=r"lacks: decoder.layers.0.scale_a, .*scale_b, .*scale_c and 2 more"):
        model_from_state({**weights(), **others}, ARGUMENTS, "x")
    lacking = {name: one for name, one in weights().items() if not name.endswith("layer_norm.bias")}
    with pytest.raises(CheckpointError, match=r"lacks the weight encoder.layers.0.self_attn_layer_norm.bias, .* and 7"):
        model_from_state({**lacking, "room": torch.zeros(999)}, ARGUMENTS, "x")


def test_embeddings_that_are_shared_and_differ_are_refused() -> None:
    state = weights()
    state["decoder.embed_tokens.weight"] = state["decoder.embed_tokens.weight"] + 1
    with pytest.raises(CheckpointError, match="--share-all-embeddings needs one embedding for both sides"):
        model_from_state(state, ARGUMENTS, "x")

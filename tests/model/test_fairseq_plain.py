"""fairseq's own Transformers, of each form of its files: the logits of the plain restatement."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hat_ray.errors import CheckpointError
from hat_ray.foreign.open import open_foreign
from hat_ray.model.checkpoints.fairseq import load_hat_checkpoint
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from tests.model.plain_network import Rules, logits

SHAPE = Architecture(
    EncoderShape(16, (24, 24, 24), (4, 4, 4)), DecoderShape(16, (20, 20), (2, 2), (2, 2), (1, 1)), qkv_dim=16
)
CONFIG = {
    "encoder": {
        **{"encoder_embed_dim": 16, "encoder_layer_num": 3, "encoder_ffn_embed_dim": [24] * 3},
        "encoder_self_attention_heads": [4] * 3,
    },
    "decoder": {
        **{"decoder_embed_dim": 16, "decoder_layer_num": 2, "decoder_ffn_embed_dim": [20] * 2},
        **{"decoder_self_attention_heads": [2] * 2, "decoder_ende_attention_heads": [2] * 2},
        "decoder_arbitrary_ende_attn": [-1, -1],
    },
}
ARGUMENTS: dict[str, Any] = {
    **{"arch": "transformer", "encoder_embed_dim": 16, "decoder_embed_dim": 16, "encoder_layers": 3},
    **{"decoder_layers": 2, "encoder_ffn_embed_dim": 24, "decoder_ffn_embed_dim": 20},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 2, "share_all_embeddings": False, "dropout": 0.1},
    **{"share_decoder_input_output_embed": False, "activation_fn": "gelu"},
}
RULES = Rules(activation="gelu", output="decoder.embed_out")


def joint_weights(**settings: Any) -> dict[str, Tensor]:
    """Return random weights under the names that HAT and fairseq before 0.9 use."""
    model = SubTransformer(SHAPE, 30, ModelConfig(**settings), target_vocab_size=26, seed=1)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return {name: one.detach() for name, one in model.named_parameters(remove_duplicate=False)}


def apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights as fairseq writes them from 0.9 on: projections apart, the output projection by its own name."""
    found: dict[str, Tensor] = {"encoder.version": torch.tensor([3.0]), "decoder.version": torch.tensor([3.0])}
    for name, weight in state.items():
        if ".in_proj_" in name:
            owner, _, kind = name.rpartition(".in_proj_")
            found |= {f"{owner}.{part}_proj.{kind}": one for part, one in zip("qkv", weight.chunk(3), strict=True)}
        else:
            found["decoder.output_projection.weight" if name == "decoder.embed_out" else name] = weight
    return found


def numbered(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights whose norms have numbers, as the earliest files have them."""
    found = dict(state)
    for side, norms in (
        ("encoder", ("self_attn_layer_norm", "final_layer_norm")),
        ("decoder", ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")),
    ):
        for name in list(found):
            owner, _, rest = name.rpartition(".layers.")
            layer, _, part = rest.partition(".")
            norm, _, kind = part.partition(".")
            if owner == side and norm in norms:
                found[f"{side}.layers.{layer}.layer_norms.{norms.index(norm)}.{kind}"] = found.pop(name)
    return found


def written(place: Path, state: dict[str, Tensor], form: str = "args", **changes: Any) -> Path:
    arguments = argparse.Namespace(**{**ARGUMENTS, **changes})
    heads: dict[str, dict[str, Any]] = {
        "args": {"args": arguments},
        "cfg": {"args": None, "cfg": {"model": arguments, "task": {"_name": "translation"}}},
        "mapping": {"args": None, "cfg": {"model": {**ARGUMENTS, **changes, "_name": "transformer"}}},
    }
    torch.save({**heads[form], "model": state, "optimizer_history": [{"num_updates": 9}]}, place / "checkpoint.pt")
    return place / "checkpoint.pt"


@pytest.mark.parametrize("form", ["args", "cfg", "mapping"])
@pytest.mark.parametrize("names", [dict, apart, numbered], ids=["joint", "apart", "numbered"])
def test_a_plain_transformer_of_each_form_computes_the_plain_logits(tmp_path: Path, names: Any, form: str) -> None:
    state = joint_weights(share_embeddings="none", activation="gelu")
    opened = open_foreign(written(tmp_path, names(state), form))
    assert opened.kind == "fairseq"
    assert isinstance(opened.model, SubTransformer)
    assert opened.model.architecture == SHAPE
    assert load_hat_checkpoint(tmp_path / "checkpoint.pt").updates == 9
    source, target_in = [5, 17, 29, 2], [2, 25, 9]
    with torch.inference_mode():
        ours = opened.model.double()(torch.tensor([source]), torch.tensor([target_in]))[0]
    as_double = {name: one.double() for name, one in state.items()}
    plain = logits(as_double, RULES, CONFIG, (16, 16, 3), source, target_in)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)


def test_a_shared_output_projection_is_the_embedding_or_refused(tmp_path: Path) -> None:
    state = apart(joint_weights(share_embeddings="decoder"))
    state["decoder.output_projection.weight"] = state["decoder.embed_tokens.weight"].clone()
    shared = {"share_decoder_input_output_embed": True}
    model = open_foreign(written(tmp_path, state, **shared)).model
    assert model.config.share_embeddings == "decoder"
    state["decoder.output_projection.weight"][7] += 1
    with pytest.raises(CheckpointError, match="output_projection"):
        open_foreign(written(tmp_path, state, **shared))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder_embed_dim": 32}, "--encoder-embed-dim 32 and --decoder-embed-dim 16 must be equal"),
        ({"adaptive_softmax_cutoff": "5"}, "--adaptive-softmax-cutoff asks for an adaptive softmax"),
        ({"layernorm_embedding": True}, "--layernorm-embedding asks for a norm"),
        ({"encoder_attention_heads": 3}, "heads must divide"),
        ({"decoder_layers": 3}, "parameters, its weights hold"),
        ({"decoder_layers": 1}, "weights that HAT's Transformer lacks: decoder.layers.1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    state = apart(joint_weights(share_embeddings="none"))
    with pytest.raises(CheckpointError, match=words) as refused:
        open_foreign(written(tmp_path, state, **changes))
    assert "\n" not in str(refused.value)


def test_a_projection_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    state = apart(joint_weights(share_embeddings="none"))
    state["encoder.layers.0.self_attn.q_proj.weight"] = torch.zeros(1).expand(1 << 20, 1 << 20)
    with pytest.raises(CheckpointError, match="claim"):
        open_foreign(written(tmp_path, state))


def test_a_missing_projection_is_named(tmp_path: Path) -> None:
    state = apart(joint_weights(share_embeddings="none"))
    del state["decoder.layers.1.encoder_attn.v_proj.bias"]
    with pytest.raises(CheckpointError, match=r"lacks 'decoder.layers.1.encoder_attn.v_proj.bias'"):
        open_foreign(written(tmp_path, state))

"""Elastic layers and models against rigid twins, and extraction against the SuperTransformer."""

import random

import pytest
import torch
from torch import nn

from hat_ray.errors import CheckpointError, HatRayError
from hat_ray.model.channels import used_parts
from hat_ray.model.checkpoints.native import load_sub, load_super, save_model
from hat_ray.model.config import ModelConfig
from hat_ray.model.layers import ElasticAttention, ElasticLinear, slice_rule
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.presets import TOY
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from tests.model.rounding import assert_same_but_for_rounding

SPACE = SearchSpace(
    name="tiny",
    encoder_embed_dims=(24, 16),
    encoder_depths=(3, 2, 1),
    encoder_ffn_dims=(32, 16),
    encoder_heads=(4, 2),
    decoder_embed_dims=(24, 16),
    decoder_depths=(3, 2, 1),
    decoder_ffn_dims=(32, 16),
    decoder_self_heads=(4, 2),
    decoder_cross_heads=(4, 2),
    decoder_cross_layers=(1, 2, 3),
    qkv_dim=16,
)
VOCAB = 40
CONFIGS = {
    "all": ModelConfig(share_embeddings="all"),
    "decoder": ModelConfig(share_embeddings="decoder"),
    "none": ModelConfig(share_embeddings="none"),
    "pre-norm": ModelConfig(normalize_before=True),
    "middle": ModelConfig(sharing="middle"),
    "middle, apart": ModelConfig(sharing="middle", share_embeddings="none", normalize_before=True),
    "importance": ModelConfig(sharing="importance"),
    "marian": ModelConfig(
        positions="marian", start="zero", output_bias=True, layer_norm_eps=1e-6, activation="swish", sharing="middle"
    ),
    "learned": ModelConfig(
        positions="learned", normalize_before=True, decoder_final_norm=False, sharing="importance", activation="gelu"
    ),
    "plain": ModelConfig(
        positions="none", scale_embeddings=False, share_embeddings="none", output_bias=True, start="zero"
    ),
}


def random_batch(rows: int = 4, length: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(4, VOCAB, (rows, length), generator=generator)
    target = torch.randint(4, VOCAB, (rows, length), generator=generator)
    source[:, -1], target[:, 0] = 2, 2
    for row in range(1, rows):  # left-padded, as in HAT
        source[row, :row] = 1
    return source, target


def fresh(config: ModelConfig, seed: int = 3) -> SuperTransformer:
    model = SuperTransformer(SPACE, VOCAB, config, seed=seed).eval()
    with torch.no_grad():  # biases and norms start out trivial: make every weight matter
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def test_elastic_linear_equals_the_rigid_layer_that_holds_its_slice():
    elastic, x = ElasticLinear(8, 6), torch.randn(3, 5)
    nn.init.normal_(elastic.weight), nn.init.normal_(elastic.bias)
    rigid = nn.Linear(5, 4)
    rigid.load_state_dict({"weight": elastic.weight[:4, :5], "bias": elastic.bias[:4]})
    assert_same_but_for_rounding(elastic(x, out_features=4), rigid(x))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_equals_pytorchs_multi_head_attention(heads: int):
    """Where the query-key-value width is the model width, PyTorch's own attention is the rigid twin."""
    from hat_ray.model.blocks import EncoderLayer
    from hat_ray.model.layers import split_heads

    layer = EncoderLayer(16, 8, 16, ModelConfig()).eval()
    attention: ElasticAttention = layer.self_attn
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    rigid = nn.MultiheadAttention(16, heads, batch_first=True)
    with torch.no_grad():
        rigid.in_proj_weight.copy_(attention.in_proj_weight), rigid.in_proj_bias.copy_(attention.in_proj_bias)
        rigid.out_proj.weight.copy_(attention.out_proj.weight), rigid.out_proj.bias.copy_(attention.out_proj.bias)
    x = torch.randn(3, 7, 16)
    q, k, v = attention.query_key_value(x)
    ours = attention.out_proj(layer.attend(split_heads(q, heads), split_heads(k, heads), split_heads(v, heads)), 16)
    assert_same_but_for_rounding(ours, rigid(x, x, x, need_weights=False)[0])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_extracted_model_equals_the_supertransformer(config: ModelConfig):
    model, rng = fresh(config), random.Random(0)
    source, target = random_batch()
    with torch.inference_mode():
        for _ in range(25):
            architecture = SPACE.sample(rng)
            sub = model.extract(architecture)
            ours, theirs = sub(source, target), model(source, target, architecture)
            assert_same_but_for_rounding(ours, theirs, str(architecture))
            for name, weight in sub.weights().items():
                assert weight.is_contiguous(), name


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_cached_decoding_equals_uncached(config: ModelConfig):
    model, rng = fresh(config), random.Random(1)
    source, _ = random_batch()
    length = 40  # past the first capacity of the cache
    target = torch.randint(4, VOCAB, (source.shape[0], length), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        for _ in range(8):
            sub = model.extract(SPACE.sample(rng))
            whole = sub(source, target)
            state = sub.start(source, beam=1)
            steps = torch.stack([sub.step(target[:, t], state) for t in range(length)], dim=1)
            assert_same_but_for_rounding(steps, whole)


def test_reordered_and_kept_rows_go_on_from_their_own_past():
    model = fresh(CONFIGS["all"])
    sub = model.extract(SPACE.largest())
    source, _ = random_batch(3)
    beam, order = 2, torch.tensor([1, 1, 2, 3, 5, 4])  # within each sentence
    tokens = torch.randint(4, VOCAB, (6, 3), generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        state = sub.start(source, beam)
        sub.step(tokens[:, 0], state)
        sub.step(tokens[:, 1], state)
        state.reorder(order)
        state.keep(torch.tensor([0, 2]))
        kept = torch.tensor([0, 1, 4, 5])
        logits = sub.step(tokens[kept, 2], state)
        history = torch.cat([tokens[order][:, :2], tokens[:, 2:]], dim=1)[kept]
        expected = sub(source[[0, 0, 2, 2]], history)[:, -1]
    assert_same_but_for_rounding(logits, expected)


def test_weights_past_the_slice_do_not_matter():
    model, smallest = fresh(CONFIGS["all"]), SPACE.smallest()
    source, target = random_batch()
    with torch.inference_mode():
        before = model(source, target, smallest)
        model.encoder.layers[2].fc1.weight.fill_(7.0)
        model.get_parameter("encoder.layers.0.fc1.weight")[16:].fill_(7.0)
        model.get_parameter("encoder.embed_tokens.weight")[:, 16:].fill_(7.0)
        torch.testing.assert_close(model(source, target, smallest), before, rtol=0, atol=0)


def test_parameters_counted_in_closed_form_are_the_parameters_there_are():
    from hat_ray.space.cost import count_params

    rng = random.Random(4)
    for _ in range(20):
        architecture = TOY.sample(rng)
        sub = SubTransformer(architecture, VOCAB, ModelConfig())
        counted = sum(w.numel() for name, w in sub.weights().items() if "embed" not in name)
        assert counted == count_params(architecture)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_models_come_back_from_disk_bit_for_bit(config: ModelConfig, tmp_path):
    folder, model = Folder.at(tmp_path), fresh(config)
    sub = model.extract(SPACE.smallest())
    save_model(folder, "super", model, {"updates": 3})
    save_model(folder, "sub", sub)
    source, target = random_batch()
    again, sub_again = load_super(folder, "super").eval(), load_sub(folder, "sub").eval()
    with torch.inference_mode():
        assert torch.equal(again(source, target, SPACE.largest()), model(source, target, SPACE.largest()))
        assert torch.equal(sub_again(source, target), sub(source, target))
    assert sub_again.architecture == SPACE.smallest()
    assert folder.read_json("super.json")["extra"] == {"updates": 3}


def test_a_damaged_missing_or_other_model_is_refused_in_one_line(tmp_path):
    folder = Folder.at(tmp_path)
    save_model(folder, "super", fresh(CONFIGS["all"]))
    with pytest.raises(CheckpointError, match="not a sub model"):
        load_sub(folder, "super")
    with pytest.raises(CheckpointError, match="train it first"):
        load_super(folder, "other")
    content = bytearray(folder.read_bytes("super.safetensors"))
    content[-1] ^= 1
    folder.write_bytes("super.safetensors", bytes(content))
    with pytest.raises(CheckpointError, match="damaged"):
        load_super(folder, "super")


def test_an_architecture_that_does_not_fit_is_refused():
    model = fresh(CONFIGS["all"])
    big = Architecture(EncoderShape(48, (32,), (4,)), DecoderShape(24, (32,), (4,), (4,), (1,)), 16)
    with pytest.raises(HatRayError, match="does not fit"):
        model.extract(big)


def test_a_sentence_past_the_positions_is_refused():
    sub = SubTransformer(SPACE.smallest(), VOCAB, ModelConfig(max_positions=8))
    with pytest.raises(HatRayError, match="at most 8 tokens, got 9"):
        sub(torch.full((1, 9), 5), torch.full((1, 2), 5))


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = SuperTransformer(SPACE, VOCAB, ModelConfig(), seed=5).weights()
    torch.manual_seed(2)
    second = SuperTransformer(SPACE, VOCAB, ModelConfig(), seed=5).weights()
    other = SuperTransformer(SPACE, VOCAB, ModelConfig(), seed=6).weights()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["encoder.layers.0.fc1.weight"], other["encoder.layers.0.fc1.weight"])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("widths", [((24, 16), (24, 16)), ((32, 16), (24, 16))], ids=["one width", "two widths"])
def test_the_parts_that_an_architecture_uses_hold_its_whole_gradient(config: ModelConfig, widths):
    """What workers exchange after an update: all that can differ from zero, and less than everything."""
    encoder_dims, decoder_dims = widths
    space = SPACE.replaced(
        encoder_embed_dims=encoder_dims, decoder_embed_dims=decoder_dims, decoder_cells=("attention", "ssru")
    )
    model, rng = SuperTransformer(space, VOCAB, config), random.Random(3)
    source, target = random_batch()
    for _ in range(12):
        architecture = space.sample(rng)
        model.zero_grad()
        model(source, target, architecture).square().sum().backward()
        told = whole = 0
        for name, parameter in model.named_parameters():
            if parameter.grad is None:
                continue
            grad = parameter.grad.clone()
            shared = config.share_embeddings == "all"
            parts = used_parts(name, grad, architecture, slice_rule(config.sharing), shared)
            told, whole = told + sum(part.numel() for part in parts), whole + grad.numel()
            for part in parts:
                part.zero_()
            assert not grad.any(), f"{name} of {architecture}"
        assert told <= whole
        narrow = architecture.encoder.embed_dim < max(encoder_dims) and architecture.decoder.embed_dim < max(
            decoder_dims
        )
        assert told < whole or not narrow

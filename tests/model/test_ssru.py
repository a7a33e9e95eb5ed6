"""Decoders with SSRU layers against a plain loop in float64, in training, step by step and as extracted models."""

import dataclasses
import random

import pytest
import torch
from torch.nn.functional import cross_entropy

from hat_ray.errors import HatRayError
from hat_ray.model.beam import beam_search
from hat_ray.model.channels import order_by_importance
from hat_ray.model.config import ModelConfig
from hat_ray.model.ssru import ElasticSsru
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.architecture import Architecture
from hat_ray.space.hat_yaml import architecture_from_config
from hat_ray.space.presets import TOY
from hat_ray.space.search_space import SearchSpace
from tests.model.plain_network import Rules, logits, ssru
from tests.model.test_elastic import SPACE, random_batch
from tests.model.test_network_settings import a_model, drawn, sizes_of

BOTH = SPACE.replaced(name="both", decoder_cells=("attention", "ssru"))
ONLY = SPACE.replaced(name="only", decoder_cells=("ssru",))
VOCAB = 40


def sampled(space: SearchSpace, draw: random.Random) -> Architecture:
    """Draw an architecture with an SSRU layer."""
    return next(one for one in (space.sample(draw) for _ in range(100)) if "ssru" in one.cells)


@pytest.mark.parametrize("sharing", ["front", "middle"])
def test_all_steps_at_once_are_the_plain_loop_of_the_slice(sharing: str):
    """The slice of the wide layer, the rigid layer that holds it, its steps, and a loop of plain numbers agree."""
    model = a_model(BOTH, sharing=sharing)
    wide: ElasticSsru = model.decoder.layer(1).ssru
    first = {"front": 0, "middle": 4}[sharing]
    own = slice(first, first + 16)
    rigid = ElasticSsru(16).double()
    rigid.load_state_dict(
        {
            "weight": wide.weight[own, own],
            "forget_weight": wide.forget_weight[own, own],
            "forget_bias": wide.forget_bias[own],
        }
    )
    x = torch.randn(2, 37, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        made = wide(x)
        torch.testing.assert_close(made, rigid(x), rtol=0, atol=0)
        expected = torch.stack([ssru(row, {f"it.{n}": w for n, w in rigid.state_dict().items()}, "it") for row in x])
        torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)
        state = torch.zeros(2, 16, dtype=torch.float64)
        for t in range(x.shape[1]):
            y, state = wide.step(x[:, t], state)
            torch.testing.assert_close(y, expected[:, t], rtol=0, atol=1e-12)


def test_gradients_are_those_of_the_loop():
    layer = ElasticSsru(6).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    x = torch.randn(2, 11, 6, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn(2, 11, 6, dtype=torch.float64)
    inputs = [x, *layer.parameters()]
    at_once = torch.autograd.grad((layer(x) * wanted).sum(), inputs)
    state, rows = x.new_zeros(2, 6), []
    for t in range(x.shape[1]):
        y, state = layer.step(x[:, t], state)
        rows.append(y)
    step_by_step = torch.autograd.grad((torch.stack(rows, 1) * wanted).sum(), inputs)
    torch.testing.assert_close(at_once, step_by_step, rtol=0, atol=1e-12)


@pytest.mark.parametrize("space", [BOTH, ONLY], ids=lambda space: space.name)
@pytest.mark.parametrize(
    ("settings", "rules"),
    [
        ({}, Rules()),
        ({"normalize_before": True, "share_embeddings": "none"}, Rules(pre_norm=True, output="decoder.embed_out")),
        (
            {"positions": "marian", "start": "zero", "output_bias": True},
            Rules(positions="marian", zero_start=True, bias=True),
        ),
    ],
    ids=["post-norm", "pre-norm", "Marian's"],
)
def test_a_network_is_the_plain_loop_of_a_sentence(space, settings, rules):
    """The SuperTransformer's slice, the extracted model, and the model with a state of constant size."""
    model, draw = a_model(space, **settings), random.Random(5)
    weights = {name: one.detach() for name, one in model.named_parameters(remove_duplicate=False)}
    source, target = (batch[:1] for batch in random_batch(1, 13))
    for _ in range(4):
        config = drawn(SPACE, draw)
        config["decoder"]["decoder_arbitrary_ende_attn"] = [-1] * 3  # reach has tests of its own
        plain = architecture_from_config(config, SPACE.qkv_dim)
        cells = tuple(draw.choice(space["decoder_cells"]) for _ in range(plain.decoder.depth))
        config["decoder"]["cells"] = cells
        architecture = dataclasses.replace(plain, extra=(("decoder_cells", cells),))
        expected = logits(weights, rules, config, sizes_of(SPACE), source[0].tolist(), target[0].tolist())
        with torch.inference_mode():  # tables of sinusoids are float32: hence 1e-5
            sub = model.extract(architecture).double()
            torch.testing.assert_close(model(source, target, architecture)[0], expected, rtol=0, atol=1e-5)
            torch.testing.assert_close(sub(source, target)[0], expected, rtol=0, atol=1e-5)
            state = sub.start(source, beam=1)
            steps = torch.cat([sub.step(target[:, t], state) for t in range(target.shape[1])])
        torch.testing.assert_close(steps, expected, rtol=0, atol=1e-5)


def test_a_model_holds_the_weights_of_the_cells_it_may_have():
    both, only = (SuperTransformer(space, VOCAB, ModelConfig()) for space in (BOTH, ONLY))
    held = {name for name, _ in both.named_parameters()}
    assert {"decoder.layers.2.ssru.weight", "decoder.layers.2.self_attn.in_proj_weight"} <= held
    assert not any("decoder" in name and "self_attn." in name for name, _ in only.named_parameters())
    sub = both.extract(sampled(BOTH, random.Random(2)))
    for index, cell in enumerate(sub.architecture.cells):
        own = {name.split(".")[3] for name, _ in sub.named_parameters() if name.startswith(f"decoder.layers.{index}.")}
        assert {"ssru", "self_attn"} & own == {"ssru" if cell == "ssru" else "self_attn"}
    with pytest.raises(HatRayError, match="does not fit in weights for"):
        only.extract(SPACE.largest())


def test_reordered_and_kept_rows_go_on_from_their_own_past():
    model = a_model(BOTH)
    sub = model.extract(BOTH.smallest()).double()
    assert {*sub.architecture.cells} == {"ssru"}
    source, _ = random_batch(3)
    beam, order = 2, torch.tensor([1, 1, 2, 3, 5, 4])
    tokens = torch.randint(4, VOCAB, (6, 3), generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        state = sub.start(source, beam)
        sub.step(tokens[:, 0], state), sub.step(tokens[:, 1], state)
        state.reorder(order)
        state.keep(torch.tensor([0, 2]))
        kept = torch.tensor([0, 1, 4, 5])
        made = sub.step(tokens[kept, 2], state)
        history = torch.cat([tokens[order][:, :2], tokens[:, 2:]], dim=1)[kept]
        expected = sub(source[[0, 0, 2, 2]], history)[:, -1]
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-10)


def test_beam_search_scores_a_hypothesis_as_the_whole_sentence():
    sub = a_model(BOTH).float().extract(sampled(BOTH, random.Random(8)))
    source, _ = random_batch(2, 7)
    for row, hypotheses in enumerate(beam_search(sub, source, beam=3, max_length=12)):
        for one in hypotheses:
            fed = torch.tensor([[2, *one.tokens[:-1]]])
            with torch.inference_mode():
                shares = sub(source[row : row + 1], fed)[0].log_softmax(1)
            total = shares[torch.arange(len(one.tokens)), torch.tensor(one.tokens)].sum()
            assert float(total) / len(one.tokens) == pytest.approx(one.score, abs=1e-4)


def test_the_state_stays_fp32_where_layers_compute_in_bf16():
    sub = a_model(BOTH).float().extract(BOTH.smallest()).bfloat16()
    source, target = random_batch(2, 30)
    with torch.inference_mode():
        state = sub.start(source, beam=1)
        for t in range(30):
            step = sub.step(target[:2, t], state)
        assert state.layers[0].own.state.dtype == torch.float32
        assert state.layers[0].own.state.shape == (2, 16)
        difference = (step.float() - sub(source[:2], target[:2])[:, -1].float()).abs().max()
    assert float(difference) < 0.1


def test_channels_sorted_by_importance_change_no_output_of_the_whole():
    model = SuperTransformer(BOTH, VOCAB, ModelConfig(sharing="importance"), seed=3).double().eval()
    mixed = dataclasses.replace(SPACE.largest(), extra=(("decoder_cells", ("ssru", "attention", "ssru")),))
    source, target = random_batch()
    with torch.inference_mode():
        before = model(source, target, mixed)
        order = order_by_importance(model)
        assert order.groups["decoder"].tolist() != [*range(24)]
        for name, parameter in model.named_parameters():
            parameter.copy_(order.apply(name, parameter))
        torch.testing.assert_close(model(source, target, mixed), before, rtol=0, atol=1e-9)
        narrow = sampled(BOTH.replaced(decoder_embed_dims=(16,)), random.Random(1))
        ours, theirs = model.extract(narrow).double()(source, target), model(source, target, narrow)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_one_supertransformer_learns_with_both_cells():
    model = SuperTransformer(BOTH, VOCAB, ModelConfig(dropout=0.0), seed=3).train()
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    source, words = random_batch(4, 9)
    target_in, ends = words, (BOTH.largest(), BOTH.smallest())
    losses: list[list[float]] = []
    for _ in range(120):
        adam.zero_grad()
        made = [model(source, target_in, one)[:, :-1].flatten(0, 1) for one in ends]
        found = [cross_entropy(one, words[:, 1:].flatten()) for one in made]
        sum(found).backward()
        adam.step()
        losses.append([one.item() for one in found])
    assert all(last < 0.5 * first for first, last in zip(losses[0], losses[-1], strict=True)), (losses[0], losses[-1])


def test_a_space_without_cells_has_the_weights_that_it_always_had():
    """Figures of the version before there were cells; uniform draws are the same on every processor."""
    model = SuperTransformer(TOY, 40, ModelConfig(share_embeddings="none", output_bias=True), seed=3)
    weights = dict(model.named_parameters())
    assert len(weights) == 148
    for name, total, last in (
        ("encoder.layers.0.self_attn.in_proj_weight", 2657.4641194992078, 0.06501980125904083),
        ("decoder.layers.0.encoder_attn.in_proj_weight", 2663.2800550098214, 0.02560248412191868),
        ("decoder.layers.3.fc2.weight", 2052.8149716705084, 0.07989692687988281),
        ("decoder.layers.3.self_attn.out_proj.weight", 1251.227758569623, -0.04149269312620163),
    ):
        assert float(weights[name].detach().double().abs().sum()) == pytest.approx(total, rel=1e-9)
        assert float(weights[name].detach().flatten()[-1]) == pytest.approx(last, rel=1e-6)

"""Architectures of HAT's spaces under both norms, against the plain restatement of HAT's rules: the same logits, and
equal values for equal networks alone."""

import random
from itertools import product
from typing import Any

import pytest
import torch
from hat_oracle import BATCHES, load

from hat_ray.model.beam import beam_search
from hat_ray.model.checkpoints.fairseq import model_from_state
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.architecture import Architecture
from hat_ray.space.hat_yaml import architecture_from_config
from hat_ray.space.presets import PRESETS
from hat_ray.space.search_space import SearchSpace
from tests.model.plain_network import Rules, logits
from tests.model.test_network_settings import a_model, drawn, sizes_of, weights_of

NORMS = pytest.mark.parametrize("pre_norm", [False, True], ids=["post-norm", "pre-norm"])
SOURCE, TARGET = [5, 9, 6, 2], [2, 7, 11, 8]
SMALLER = 16
"""Widths are divided by this: what is tested is which parts are put together, and not how wide they are."""


def narrowed(space: SearchSpace) -> SearchSpace:
    """Return a HAT space of narrow networks in which encoder layers may be skipped, as HAT's code allows."""
    sizes = {name: space.numbers(name) for name in space.choices if name.endswith("_dims")}
    deepest = max(space.numbers("encoder_depths"))
    return space.replaced(
        qkv_dim=space.qkv_dim // SMALLER,
        encoder_depths=tuple(range(deepest, 0, -1)),
        **{name: tuple(size // SMALLER for size in values) for name, values in sizes.items()},
    )


HATS = {name: narrowed(PRESETS[name]) for name in ("space0", "space1", "hat-latency")}
FEW = SearchSpace(
    **{"name": "few", "qkv_dim": 8, "encoder_embed_dims": (8,), "decoder_embed_dims": (8,)},
    **{"encoder_depths": (4, 3, 2, 1), "encoder_ffn_dims": (8,), "encoder_heads": (2,)},
    **{"decoder_depths": (2, 1), "decoder_ffn_dims": (8,), "decoder_self_heads": (2,), "decoder_cross_heads": (2,)},
    decoder_cross_layers=(1, 2, 3),
)
"""Networks that differ in their depths and in what they attend to alone."""


def plain(model: SuperTransformer, space: SearchSpace, config: Any, pre_norm: bool) -> torch.Tensor:
    return logits(weights_of(model), Rules(pre_norm=pre_norm), config, sizes_of(space), SOURCE, TARGET)


def ours(space: SearchSpace, config: Any, pre_norm: bool) -> Architecture:
    return architecture_from_config(config, space.qkv_dim, sizes_of(space)[2], pre_norm)


@NORMS
@pytest.mark.parametrize("name", HATS)
def test_every_network_of_hats_spaces_computes_what_hat_computes(name: str, pre_norm: bool) -> None:
    space, draw = HATS[name], random.Random(name)
    model = a_model(space, normalize_before=pre_norm)
    skipping = 0
    for _ in range(25):
        config = drawn(space, draw)
        architecture = ours(space, config, pre_norm)
        with torch.inference_mode():
            found = model(torch.tensor([SOURCE]), torch.tensor([TARGET]), architecture)[0]
        torch.testing.assert_close(found, plain(model, space, config, pre_norm), rtol=0, atol=1e-5)
        skipping += architecture.encoder.depth < sizes_of(space)[2]
        assert Architecture.from_json(architecture.to_json()) == architecture
    assert skipping > 15


def every_config() -> list[Any]:
    """Return each depth of encoder and decoder with each way of attending."""
    basis = drawn(FEW, random.Random(0))
    return [
        {
            "encoder": {**basis["encoder"], "encoder_layer_num": depth},
            "decoder": {**basis["decoder"], "decoder_layer_num": layers, "decoder_arbitrary_ende_attn": list(attended)},
        }
        for depth in FEW.numbers("encoder_depths")
        for layers in FEW.numbers("decoder_depths")
        for attended in product((-1, 1, 2), repeat=2)
    ]


@NORMS
def test_equal_networks_and_only_those_are_equal(pre_norm: bool) -> None:
    model, configs = a_model(FEW, normalize_before=pre_norm), every_config()
    told = [(ours(FEW, one, pre_norm), plain(model, FEW, one, pre_norm)) for one in configs]
    alike = 0
    for place, (one, its) in enumerate(told):
        for other, others in told[:place]:
            difference = float((its - others).abs().max())
            assert difference < 1e-9 or difference > 1e-6, "equal or not: the numbers must say"
            assert (one == other) == (difference < 1e-9), f"{one} and {other} differ by {difference}"
            assert (one.id == other.id) == (one == other)
            alike += one == other
    assert alike > 30
    assert len({one for one, _ in told}) > 20


@NORMS
@pytest.mark.parametrize("name", HATS)
def test_one_gene_makes_another_value_where_it_makes_another_network(name: str, pre_norm: bool) -> None:
    space, draw = HATS[name], random.Random(f"{name} again")
    model, same = a_model(space, normalize_before=pre_norm), 0
    for _ in range(15):
        config, other = drawn(space, draw), drawn(space, draw)
        side = draw.choice(("encoder", "decoder"))
        gene = draw.choice(list(config[side]))
        changed = {**config, side: {**config[side], gene: other[side][gene]}}
        difference = (plain(model, space, config, pre_norm) - plain(model, space, changed, pre_norm)).abs().max()
        is_same = bool(difference < 1e-9)
        assert (ours(space, config, pre_norm) == ours(space, changed, pre_norm)) == is_same
        same += is_same
    assert same < 15


@NORMS
def test_hats_own_trained_weights_under_both_norms(shared: Any, pre_norm: bool) -> None:
    oracle = load(shared, "shared")
    arguments = {**oracle.facts["args"], "encoder_normalize_before": pre_norm, "decoder_normalize_before": pre_norm}
    state, draw = weights_of(oracle.model), torch.Generator().manual_seed(0)
    for side in ("encoder", "decoder") if pre_norm else ():
        for part, centre in (("weight", 1.0), ("bias", 0.0)):
            state[f"{side}.layer_norm.{part}"] = centre + 0.2 * torch.randn(48, generator=draw)
    model = model_from_state(state, arguments, "shared").model.double()
    super_sizes = 48, 48, arguments["encoder_layers"]
    for config in oracle.facts["configs"].values():
        architecture = architecture_from_config(config, arguments["qkv_dim"], super_sizes[2], pre_norm)
        for batch in BATCHES:
            source, target_in = (
                oracle.tensor(f"batch/{batch}/{which}") for which in ("src_tokens", "prev_output_tokens")
            )
            with torch.inference_mode():
                found = model(source, target_in, architecture)
            for row, (sentence, fed) in enumerate(zip(source.tolist(), target_in.tolist(), strict=True)):
                real = [token for token in fed if token != 1]
                expected = logits(
                    *(weights_of(model), Rules(pre_norm=pre_norm), config, super_sizes),
                    *([token for token in sentence if token != 1], real),
                )
                torch.testing.assert_close(found[row, : len(real)], expected, rtol=0, atol=2e-5)


def test_a_skipped_encoder_layer_under_pre_norm_is_searched_as_it_computes(shared: Any) -> None:
    """HAT's case `enc1layer_identity`: beam search's scores are the plain network's probabilities."""
    oracle = load(shared, "shared")
    config, model = oracle.facts["configs"]["enc1layer_identity"], a_model(oracle.model.space, normalize_before=True)
    architecture = architecture_from_config(config, 32, 3, True)
    assert (architecture.encoder.repeats, architecture.decoder.cross_layers) == (2, (3, 2))
    source = oracle.tensor("batch/pad/src_tokens") % 40
    compared = 0
    for sentence, found in zip(
        source.tolist(), beam_search(model.extract(architecture).double(), source, beam=3, max_length=8), strict=True
    ):
        for hypothesis in found:
            logs = logits(
                *(weights_of(model), Rules(pre_norm=True), config, (48, 48, 3)),
                *([token for token in sentence if token != 1], [2, *hypothesis.tokens[:-1]]),
            ).log_softmax(1)
            score = sum(float(logs[place, token]) for place, token in enumerate(hypothesis.tokens))
            assert hypothesis.score == pytest.approx(score / len(hypothesis.tokens), abs=1e-5)
            compared += 1
    assert compared > 6

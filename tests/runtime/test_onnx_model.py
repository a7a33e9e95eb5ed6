"""ONNX Runtime computes what PyTorch computes."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from hat_ray.errors import HatRayError
from hat_ray.model.beam import beam_search
from hat_ray.model.config import ModelConfig
from hat_ray.model.protocol import StepwiseEngine, top_tokens
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.onnx.engine import OnnxEngine
from hat_ray.runtime.onnx.graph import GraphDtype, quantise
from hat_ray.runtime.protocol import RuntimeSettings, load_engine
from hat_ray.runtime.standalone.beams import beam_search as beam_search_on_arrays
from hat_ray.space.architecture import Architecture
from tests.model.rounding import assert_same_but_for_rounding
from tests.runtime.models import ARCHITECTURES, NETWORKS, VOCAB, a_model, sources


@pytest.fixture(params=list(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return ARCHITECTURES[request.param]


@torch.inference_mode()
def differences(
    model: StepwiseEngine, other: StepwiseEngine, steps: int, beam: int, sentences: int = 3
) -> Iterator[float]:
    """Feed both the same tokens, orders of beams and finished sentences; yield each step's largest difference."""
    source = sources(sentences, 9)
    states = [each.start(source, beam) for each in (model, other)]
    draw = torch.Generator().manual_seed(5)
    for position in range(steps):
        tokens = torch.randint(4, VOCAB, (sentences * beam,), generator=draw)
        logits = [each.step(tokens, state) for each, state in zip((model, other), states, strict=True)]
        assert logits[0].shape == logits[1].shape
        yield float((logits[0] - logits[1]).abs().max() / logits[0].abs().max())
        parents = torch.randint(0, beam, (sentences, beam), generator=draw)
        rows = (torch.arange(0, sentences * beam, beam)[:, None] + parents).flatten()
        for state in states:
            state.reorder(rows)
        if position == 3 and sentences > 2:
            sentences -= 1
            for state in states:
                state.keep(torch.tensor([*range(1, sentences + 1)]))


@pytest.mark.parametrize(("beam", "norm_first"), [(1, False), (3, True)])
def test_logits_are_those_of_pytorch_through_padding_reordered_beams_and_finished_sentences(
    architecture: Architecture, beam: int, norm_first: bool
) -> None:
    model = a_model(architecture, normalize_before=norm_first)
    assert max(differences(model, OnnxEngine.of(model, "fp32"), 40, beam)) < 1e-5  # past the cache's first capacity


@pytest.mark.parametrize("share", ["decoder", "none"])
@pytest.mark.parametrize("sharing", ["middle", "importance"])
def test_shared_and_cut_embeddings_are_the_same(share: str, sharing: str) -> None:
    model = a_model(ARCHITECTURES["decoder wider than encoder"], share_embeddings=share, sharing=sharing)
    assert max(differences(model, OnnxEngine.of(model, "fp32"), 5, 2)) < 1e-5


@pytest.mark.parametrize("network", NETWORKS)
def test_every_kind_of_network_is_the_same(network: str) -> None:
    model = a_model(ARCHITECTURES["decoder wider than encoder"], **NETWORKS[network])
    assert max(differences(model, OnnxEngine.of(model, "fp32"), 5, 2)) < 1e-5


def test_an_extracted_models_positions_are_cut_from_the_wider_table() -> None:
    small = ARCHITECTURES["one layer each"]
    model = SubTransformer(small, VOCAB, ModelConfig(sharing="middle"), super_dims=(64, 48)).eval()
    assert max(differences(model, OnnxEngine.of(model, "fp32"), 5, 2)) < 1e-5


def test_int8_is_close(architecture: Architecture) -> None:
    model = a_model(architecture)
    assert max(differences(model, OnnxEngine.of(model, "int8"), 8, 2)) < 0.05


@pytest.mark.parametrize("network", NETWORKS)
def test_every_kind_of_network_is_close_in_int8(network: str) -> None:
    model = a_model(ARCHITECTURES["decoder wider than encoder"], **NETWORKS[network])
    assert max(differences(model, OnnxEngine.of(model, "int8"), 5, 2)) < 0.05


@pytest.mark.parametrize(("inputs", "block"), [(256, 128), (192, 64), (96, 32), (33, 32)])
def test_a_quantised_weight_is_within_half_a_step_of_itself(inputs: int, block: int) -> None:
    weight = torch.randn(7, inputs) * torch.logspace(-6, 3, 7)[:, None]
    weight[3] = 0
    packed, scales = quantise(weight)
    assert packed.shape == (*scales.shape, block)
    restored = ((packed.astype(np.float32) - 128) * scales[:, :, None]).reshape(7, -1)[:, :inputs]
    steps = np.repeat(scales, block, 1)[:, :inputs]
    assert (np.abs(restored - weight.numpy()) <= steps * 0.5001).all()
    assert (restored[3] == 0).all()
    assert packed.min() >= 1  # symmetric


def test_beam_search_is_the_same_on_both_and_in_the_loader() -> None:
    for seed, architecture in enumerate(ARCHITECTURES.values()):
        model = a_model(architecture, seed=seed)
        served = OnnxEngine.of(model, "fp32")
        source = sources(5, 12, seed=seed)
        for beam, penalty in ((1, 1.0), (4, 0.6)):
            settings = {"beam": beam, "length_penalty": penalty, "max_length": 15}
            expected = [best[0].tokens for best in beam_search(model, source, **settings)]
            assert [best[0].tokens for best in beam_search(served, source, **settings)] == expected
            alone = beam_search_on_arrays(served.graphs, source.numpy(), **settings, pad=1, eos=2)
            assert [(*tokens, 2) for tokens in alone] == expected
        assert len({len(tokens) for tokens in expected}) > 0


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_the_best_words_are_those_of_all_logits(dtype: GraphDtype) -> None:
    model = OnnxEngine.of(a_model(ARCHITECTURES["one layer each"]), dtype)
    states = [model.start(sources(3, 7), 2) for _ in range(2)]
    draw = torch.Generator().manual_seed(2)
    for count in (4, 1, 101, 4):
        tokens = torch.randint(4, VOCAB, (6,), generator=draw)
        best = model.best(tokens, states[0], count)
        expected = top_tokens(model.step(tokens, states[1]), count)
        assert_same_but_for_rounding(best.values, expected.values)
        assert_same_but_for_rounding(best.ending, expected.ending)
        assert torch.equal(best.words, expected.words)


def test_one_model_serves_several_translations_at_once() -> None:
    model = a_model(ARCHITECTURES["one layer each"])
    served = OnnxEngine.of(model, "fp32")
    first, second = sources(2, 6, seed=1), sources(2, 6, seed=2)
    tokens = torch.tensor([5, 6])
    with torch.inference_mode():
        together = [served.start(source, 1) for source in (first, second)]
        mixed = [served.step(tokens, state).clone() for state in together]
        alone = [served.step(tokens, served.start(source, 1)).clone() for source in (first, second)]
    for one, other in zip(mixed, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_sentence_may_not_be_longer_than_the_models_positions() -> None:
    model = a_model(ARCHITECTURES["one layer each"], max_positions=8)
    served = OnnxEngine.of(model, "fp32")
    with pytest.raises(HatRayError, match="at most 8 tokens, got 9"):
        served.start(sources(1, 9), 1)
    with torch.inference_mode():
        state = served.start(sources(1, 8), 1)
        for _ in range(8):
            served.step(torch.tensor([5]), state)
        with pytest.raises(HatRayError, match="at most 8 tokens"):
            served.step(torch.tensor([5]), state)


def test_runtimes_refuse_dtypes_that_they_do_not_compute_in() -> None:
    model = a_model(ARCHITECTURES["one layer each"])
    with pytest.raises(HatRayError, match="runtime onnx computes in fp32 or int8, got dtype bf16"):
        load_engine(model, "onnx", RuntimeSettings("bf16"))
    with pytest.raises(HatRayError, match="runtime eager computes in fp32 or bf16, got dtype int8"):
        load_engine(model, "eager", RuntimeSettings("int8"))
    with pytest.raises(HatRayError, match="runs on the CPU, not on cuda"):
        load_engine(model, "onnx", RuntimeSettings(device="cuda"))
    assert load_engine(model, "eager", RuntimeSettings()) is model

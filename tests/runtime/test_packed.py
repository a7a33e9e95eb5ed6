"""The packed runtime computes what the model computes."""

import pytest
import torch

from hat_ray.model.beam import beam_search
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.packed import PackedEngine, best_logits, is_available
from hat_ray.runtime.protocol import RuntimeSettings, why_unsupported
from hat_ray.space.architecture import Architecture
from tests.runtime.models import ARCHITECTURES, NETWORKS, VOCAB, a_model, sources
from tests.runtime.test_onnx_model import differences

pytestmark = pytest.mark.skipif(not is_available(), reason="this PyTorch has no oneDNN")


@pytest.fixture(params=list(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return ARCHITECTURES[request.param]


@pytest.mark.parametrize(("beam", "norm_first"), [(1, False), (3, True)])
def test_logits_are_those_of_the_model_through_padding_reordered_beams_and_finished_sentences(
    architecture: Architecture, beam: int, norm_first: bool
) -> None:
    model = a_model(architecture, normalize_before=norm_first)
    assert max(differences(model, PackedEngine(model), 40, beam)) < 1e-5  # past the caches' first capacity


@pytest.mark.parametrize("network", NETWORKS)
def test_every_kind_of_network_is_the_same(network: str) -> None:
    model = a_model(ARCHITECTURES["decoder wider than encoder"], **NETWORKS[network])
    assert max(differences(model, PackedEngine(model), 5, 2)) < 1e-5


def test_cut_embeddings_and_positions_are_the_same() -> None:
    small = ARCHITECTURES["one layer each"]
    model = SubTransformer(small, VOCAB, ModelConfig(sharing="middle"), super_dims=(64, 48)).eval()
    assert max(differences(model, PackedEngine(model), 5, 2)) < 1e-5


BF16 = why_unsupported("packed", RuntimeSettings("bf16"))


@pytest.mark.skipif(BF16 is not None, reason=str(BF16))
def test_bf16_is_close(architecture: Architecture) -> None:
    model = a_model(architecture)
    packed = PackedEngine(a_model(architecture), torch.bfloat16)
    assert max(differences(model, packed, 8, 2)) < 0.05


def test_beam_search_is_the_same() -> None:
    for seed, architecture in enumerate(ARCHITECTURES.values()):
        model = a_model(architecture, seed=seed)
        source = sources(5, 12, seed=seed)
        for beam, penalty in ((1, 1.0), (4, 0.6)):
            settings = {"beam": beam, "length_penalty": penalty, "max_length": 15}
            found = [best[0].tokens for best in beam_search(PackedEngine(model), source, **settings)]
            assert found == [best[0].tokens for best in beam_search(model, source, **settings)]


def test_the_best_words_are_those_of_a_full_sort() -> None:
    draw = torch.Generator().manual_seed(0)
    for vocab in (4, 10, 64, 640, 641, 5000):
        logits = torch.randn(4, vocab, generator=draw)
        logits[1, :] = -torch.inf
        logits[1, vocab // 2] = 0.0
        values, words = best_logits(logits, min(6, vocab))
        assert torch.equal(values, logits.sort(dim=1, descending=True).values[:, : min(6, vocab)])
        assert torch.equal(logits.gather(1, words), values)
        assert all(len(set(row)) == len(row) for row in words.tolist())

"""Sorting channels: nothing changes for the whole, and the front holds the most."""

import pytest
import torch

from hat_ray.errors import HatRayError
from hat_ray.model.channels import order_by_importance
from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.search_space import SearchSpace
from tests.model.rounding import assert_same_but_for_rounding

WIDE = {"encoder_embed_dims": (24, 16), "decoder_embed_dims": (24, 16)}
NARROW_DECODER = {"encoder_embed_dims": (24, 16), "decoder_embed_dims": (16, 8)}


def space(widths: dict[str, tuple[int, ...]]) -> SearchSpace:
    return SearchSpace(
        name="tiny",
        encoder_depths=(2, 1),
        encoder_ffn_dims=(32, 16),
        encoder_heads=(2,),
        decoder_depths=(2, 1),
        decoder_ffn_dims=(32, 16),
        decoder_self_heads=(2,),
        decoder_cross_heads=(2,),
        decoder_cross_layers=(1, 2),
        qkv_dim=16,
        **widths,
    )


def model_with_uneven_channels(widths: dict[str, tuple[int, ...]], **config: object) -> SuperTransformer:
    model = SuperTransformer(space(widths), 40, ModelConfig(sharing="importance", **config), seed=3).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def sort(model: SuperTransformer):
    order = order_by_importance(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(order.apply(name, parameter))
    return order


@pytest.mark.parametrize(
    ("widths", "config"),
    [
        (WIDE, {"share_embeddings": "all"}),
        (WIDE, {"share_embeddings": "decoder", "normalize_before": True}),
        (WIDE, {"share_embeddings": "none"}),
        (WIDE, {"positions": "learned", "output_bias": True, "start": "zero"}),
        (NARROW_DECODER, {"share_embeddings": "none"}),
        (NARROW_DECODER, {"share_embeddings": "decoder"}),
    ],
)
def test_sorting_changes_nothing_for_the_largest_and_something_for_others(widths, config):
    model = model_with_uneven_channels(widths, **config)
    source, target = torch.randint(4, 40, (3, 7)), torch.randint(4, 40, (3, 6))
    largest, smallest = model.space.largest(), model.space.smallest()
    with torch.inference_mode():
        before = [model(source, target, architecture) for architecture in (largest, smallest)]
        sort(model)
        after = [model(source, target, architecture) for architecture in (largest, smallest)]
        torch.testing.assert_close(after[0], before[0], rtol=1e-4, atol=1e-4)
        assert not torch.allclose(after[1], before[1], rtol=1e-2, atol=1e-2)
        assert_same_but_for_rounding(model.extract(smallest)(source, target), after[1])


def test_sorted_channels_go_from_large_to_small_and_sorting_again_moves_nothing():
    model = model_with_uneven_channels(WIDE)
    sort(model)
    layer = model.encoder.layers[0]
    hidden = layer.fc1.weight.square().sum(1), layer.fc2.weight.square().sum(0)
    norms = sum(part / part.mean() for part in hidden)
    assert torch.equal(norms.argsort(descending=True, stable=True), torch.arange(32))
    for group, order in order_by_importance(model).groups.items():
        assert torch.equal(order, torch.arange(len(order))), group


def test_one_embedding_for_two_widths_is_refused():
    model = model_with_uneven_channels(NARROW_DECODER, share_embeddings="all")
    with pytest.raises(HatRayError, match="needs one largest width, got 24 and 16"):
        order_by_importance(model)

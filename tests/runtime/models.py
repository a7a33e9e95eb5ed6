"""Architectures and models that the runtime tests share."""

import torch

from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape

torch.set_num_threads(1)
VOCAB = 101

ARCHITECTURES = {
    "every layer its own, reach 3 1 2": Architecture(
        EncoderShape(48, (80, 33, 64), (2, 4, 1)),
        DecoderShape(24, (40, 96, 56), (4, 2, 1), (1, 4, 2), (3, 1, 2)),
        qkv_dim=32,
    ),
    "decoder wider than encoder": Architecture(
        EncoderShape(16, (32,), (2,)), DecoderShape(64, (128, 20), (8, 2), (2, 8), (1, 1)), qkv_dim=64
    ),
    "one layer each": Architecture(EncoderShape(32, (64,), (4,)), DecoderShape(32, (64,), (4,), (4,), (1,)), 32),
    "HAT's repeats of a skipped layer": Architecture(
        EncoderShape(32, (64, 48), (4, 2), 1), DecoderShape(32, (64,), (4,), (2,), (3,)), 32
    ),
    "HAT's repeats before a norm": Architecture(
        EncoderShape(32, (48,), (2,), 2, True), DecoderShape(32, (64, 48), (4, 4), (2, 4), (3, 2)), 32
    ),
}


NETWORKS: dict[str, dict[str, object]] = {
    "Marian's": {"positions": "marian", "start": "zero", "output_bias": True, "layer_norm_eps": 1e-2},
    "Hugging Face's Marian": {"positions": "huggingface", "start": "bos", "output_bias": True, "activation": "swish"},
    "swish": {"activation": "swish", "share_embeddings": "none", "output_bias": True},
    "gelu": {"activation": "gelu", "positions": "huggingface"},
    "gelu_tanh": {"activation": "gelu_tanh", "positions": "none", "start": "zero"},
    "gelu_sigmoid": {"activation": "gelu_sigmoid", "scale_embeddings": False, "sharing": "importance"},
    "learned": {"positions": "learned", "normalize_before": True, "decoder_final_norm": False, "sharing": "middle"},
    "no encoder norm": {"normalize_before": True, "encoder_final_norm": False, "share_embeddings": "decoder"},
}
"""Settings of networks that differ in their fixed parts from HAT's."""


def a_model(architecture: Architecture, *, seed: int = 1, vocab: int = VOCAB, **settings: object) -> SubTransformer:
    """Return a model whose every weight is random: biases and norms too, which a new model has at 0 and 1."""
    model = SubTransformer(architecture, vocab, ModelConfig(**settings), seed=seed).eval()  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return model


def sources(sentences: int, length: int, *, seed: int = 0) -> torch.Tensor:
    """Return left-padded sources (N, S): the first is full, the others are shorter and shorter."""
    draw = torch.Generator().manual_seed(seed)
    source = torch.randint(4, VOCAB, (sentences, length), generator=draw)
    source[:, -1] = 2
    for row in range(1, sentences):
        source[row, : min(2 * row, length - 2)] = 1
    return source

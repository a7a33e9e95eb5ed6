"""Parameters and floating-point operations of an architecture in closed form, by HAT's convention.

Parameters: active layers only; no embeddings and no output layer, because they depend on the vocabulary and not on the
architecture. FLOPs: two for each multiply-accumulate of one teacher-forced pass at batch 1 with `length` source and
target tokens, the output projection left out. Both equal the figures that HAT publishes for its models, exactly.
"""

from dataclasses import dataclass

from hat_ray.space.architecture import Architecture


@dataclass(frozen=True, slots=True)
class Cost:
    """`params` counts weights and biases; `flops` is for one sentence."""

    params: int
    flops: int


def cost(architecture: Architecture, length: int = 30) -> Cost:
    """Count parameters and FLOPs; HAT uses length 30 for WMT and 23 for IWSLT."""
    return Cost(params=count_params(architecture), flops=2 * count_macs(architecture, length))


def count_params(architecture: Architecture) -> int:
    """Count weights and biases of the active layers, without embeddings and output layer."""
    e, d, qkv = architecture.encoder, architecture.decoder, architecture.qkv_dim
    encoder = sum(
        _attention_params(e.embed_dim, e.embed_dim, qkv) + _ffn_params(e.embed_dim, ffn) + 2 * _norm_params(e.embed_dim)
        for ffn in e.ffn_dims
    )
    decoder = sum(
        (ssru_params(d.embed_dim) if cell == "ssru" else _attention_params(d.embed_dim, d.embed_dim, qkv))
        + _attention_params(d.embed_dim, e.embed_dim, qkv)
        + _ffn_params(d.embed_dim, ffn)
        + 3 * _norm_params(d.embed_dim)
        for ffn, cell in zip(d.ffn_dims, architecture.cells, strict=True)
    )
    return encoder + decoder


def _attention_params(query_dim: int, memory_dim: int, qkv: int) -> int:
    return query_dim * qkv + 2 * memory_dim * qkv + 3 * qkv + qkv * query_dim + query_dim


def ssru_params(dim: int) -> int:
    """Count the weights and biases of an SSRU."""
    return 2 * dim * dim + dim


def _ffn_params(dim: int, ffn: int) -> int:
    return 2 * dim * ffn + ffn + dim


def _norm_params(dim: int) -> int:
    return 2 * dim


def count_macs(architecture: Architecture, length: int) -> int:
    """Count multiply-accumulates of one teacher-forced pass at batch 1, without the output projection.

    HAT's profiler also counts element-wise products: the embeddings' scaling, the mask product that makes positions,
    the queries' scaling, the layer norms, and three products of sizes that each traced attention computes.
    """
    return encoder_macs(architecture, length) + decoder_macs(architecture, length)


def encoder_macs(architecture: Architecture, length: int) -> int:
    """Count the encoder's share of `count_macs`, source embeddings included."""
    e, qkv = architecture.encoder, architecture.qkv_dim
    total = length * e.embed_dim + length  # scaled embeddings, positions
    for ffn in e.ffn_dims:
        total += _attention_macs(e.embed_dim, e.embed_dim, qkv, length, length)
        total += 2 * length * e.embed_dim * ffn + 2 * length * e.embed_dim
    return total


def decoder_macs(architecture: Architecture, length: int) -> int:
    """Count the decoder's share of `count_macs`, target embeddings included."""
    e, d, qkv = architecture.encoder, architecture.decoder, architecture.qkv_dim
    total = length * d.embed_dim + length
    for ffn, layers, cell in zip(d.ffn_dims, d.cross_layers, architecture.cells, strict=True):
        if cell == "ssru":  # two projections; the forget gate weighs the state and what is new
            total += 2 * length * d.embed_dim * (d.embed_dim + 1)
        else:
            total += _attention_macs(d.embed_dim, d.embed_dim, qkv, length, length)
        total += _attention_macs(d.embed_dim, e.embed_dim, qkv, length, layers * length)
        total += 2 * length * d.embed_dim * ffn + 3 * length * d.embed_dim
    return total


def _attention_macs(query_dim: int, memory_dim: int, qkv: int, length: int, memory_length: int) -> int:
    """Count projections in and out, scores and weighted values, and the scaling of the queries."""
    projections = 2 * length * query_dim * qkv + 2 * memory_length * memory_dim * qkv
    products = 2 * length * memory_length * qkv
    return projections + products + length * qkv + 3

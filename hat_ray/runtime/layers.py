"""The layers that the encoder's and the decoder's graph share, as `model/blocks.py` computes them in evaluation mode.

D width, Q query-key-value width.
"""

import torch

from hat_ray.model.blocks import ElasticBlock
from hat_ray.model.layers import ElasticAttention, ElasticLayerNorm
from hat_ray.runtime.graph import GraphBuilder


def before(graph: GraphBuilder, block: ElasticBlock, norm: ElasticLayerNorm, x: str) -> str:
    """Pre-norm: normalise what goes into a sub-layer."""
    return graph.layer_norm(x, norm) if block.config.normalize_before else x


def query_key_value(graph: GraphBuilder, attention: ElasticAttention, x: str, heads: int) -> list[str]:
    """(rows, D) -> three of (rows, Q); attention's scale is part of the query's weights."""
    qkv = attention.qkv_dim
    scale = torch.ones(3 * qkv)
    scale[:qkv] = (qkv // heads) ** -0.5
    weight, bias = attention.in_proj_weight.detach(), attention.in_proj_bias.detach()
    return graph.ops("Split", 3, graph.linear(x, weight * scale[:, None], bias * scale), axis=1)


def residual(
    graph: GraphBuilder, block: ElasticBlock, attention: ElasticAttention, norm: ElasticLayerNorm, x: str, y: str
) -> str:
    """Project attention's output (rows, Q) back to the width, add the residual, normalise."""
    return _added(graph, block, norm, x, graph.linear(y, attention.out_proj.weight, attention.out_proj.bias))


def feed_forward(graph: GraphBuilder, block: ElasticBlock, x: str) -> str:
    """(rows, D) -> (rows, D) with residual and norm."""
    y = before(graph, block, block.final_layer_norm, x)
    y = graph.op("Relu", graph.linear(y, block.fc1.weight, block.fc1.bias))
    return _added(graph, block, block.final_layer_norm, x, graph.linear(y, block.fc2.weight, block.fc2.bias))


def _added(graph: GraphBuilder, block: ElasticBlock, norm: ElasticLayerNorm, x: str, y: str) -> str:
    """Post-norm: normalise the sum of residual and sub-layer."""
    total = graph.op("Add", x, y)
    return total if block.config.normalize_before else graph.layer_norm(total, norm)

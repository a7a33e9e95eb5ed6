"""The encoder as an ONNX graph; it also computes what the decoder's layers attend to.

N sentences, S source length, D width, H heads, K head width, S' = S * reach.

In: source (N, S), padded with PAD on either side. Out: memory_mask (N, 1, 1, S), which is added to scores, and for each
decoder layer keys (N, H, K, S') and values (N, H, S', K), in the layout that its products read.

The layers that the encoder's and the decoder's graph share, as `model/blocks.py` computes them in evaluation mode.

D width, Q query-key-value width.
"""

import onnx
import torch
from onnx import TensorProto

from hat_ray.model.blocks import ElasticBlock, EncoderLayer
from hat_ray.model.embedding import PAD
from hat_ray.model.layers import ElasticAttention, ElasticLayerNorm
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.onnx.graph import GraphBuilder, GraphDtype
from hat_ray.runtime.onnx.layout import LARGE_OF_MANY_ROWS
from hat_ray.runtime.standalone.graphs_onnx import HIDDEN


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
    return added(graph, block, norm, x, graph.linear(y, attention.out_proj.weight, attention.out_proj.bias))


def feed_forward(graph: GraphBuilder, block: ElasticBlock, x: str) -> str:
    """(rows, D) -> (rows, D) with residual and norm."""
    y = before(graph, block, block.final_layer_norm, x)
    y = graph.activate(graph.linear(y, block.fc1.weight, block.fc1.bias), block.config.activation)
    return added(graph, block, block.final_layer_norm, x, graph.linear(y, block.fc2.weight, block.fc2.bias))


def added(graph: GraphBuilder, block: ElasticBlock, norm: ElasticLayerNorm, x: str, y: str) -> str:
    """Post-norm: normalise the sum of residual and sub-layer."""
    total = graph.op("Add", x, y)
    return total if block.config.normalize_before else graph.layer_norm(total, norm)


def encoder_graph(model: SubTransformer, dtype: GraphDtype) -> onnx.ModelProto:
    """Return the encoder's graph."""
    graph = GraphBuilder("encoder", dtype, LARGE_OF_MANY_ROWS)
    shape = model.architecture.encoder
    source = graph.input("source", ["N", "S"], TensorProto.INT64)
    padding = graph.op("Equal", source, graph.ints(PAD))
    mask = graph.op("Where", padding, graph.number(HIDDEN), graph.number(0.0))
    mask = graph.op("Unsqueeze", mask, graph.ints(1, 2))
    size = graph.op("Shape", source)
    x = _embedded(graph, model, source, padding)
    outputs: list[str] = []
    for index, heads in enumerate(shape.heads):
        x = _layer(graph, model.encoder.layer(index), x, mask, size, heads)
        outputs.append(x)
    outputs.extend([x] * shape.repeats)
    if model.encoder.layer_norm is not None:  # HAT: pre-norm normalises the last output only
        outputs[-1] = graph.layer_norm(x, model.encoder.layer_norm)
    graph.output("memory_mask", mask, ["N", 1, 1, "S"])
    _memory(graph, model, outputs, size)
    return graph.model()


def _embedded(graph: GraphBuilder, model: SubTransformer, source: str, padding: str) -> str:
    """(N, S) -> (N * S, D): tokens and positions; positions count real tokens from PAD + 1 on, padding has PAD."""
    dim = model.architecture.encoder.embed_dim
    real = graph.op("Cast", graph.op("Not", padding), to=TensorProto.INT64)
    counted = graph.op("Mul", graph.op("CumSum", real, graph.ints(1)), real)
    places = graph.op("Reshape", graph.op("Add", counted, graph.ints(PAD)), graph.ints(-1))
    positions = graph.op("Gather", graph.weight(model.encoder.embed_positions.columns(dim)), places)
    tokens = graph.embed(source, model.encoder.embed_tokens.columns(dim), model.encoder.embed_tokens.scale(dim))
    return graph.op("Add", tokens, positions)


def _layer(graph: GraphBuilder, layer: EncoderLayer, x: str, mask: str, size: str, heads: int) -> str:
    """(N * S, D) -> (N * S, D)."""
    attention = layer.self_attn
    qkv, head_width = attention.qkv_dim, attention.qkv_dim // heads
    q, k, v = query_key_value(graph, attention, before(graph, layer, layer.self_attn_layer_norm, x), heads)
    shape = graph.op("Concat", size, graph.ints(heads, head_width), axis=0)
    q = graph.split_heads(q, shape, [0, 2, 1, 3])  # (N, H, S, K)
    k = graph.split_heads(k, shape, [0, 2, 3, 1])  # (N, H, K, S)
    v = graph.split_heads(v, shape, [0, 2, 1, 3])
    scores = graph.op("Softmax", graph.op("Add", graph.op("MatMul", q, k), mask), axis=-1)
    y = graph.merge_heads(graph.op("MatMul", scores, v), qkv)
    x = residual(graph, layer, attention, layer.self_attn_layer_norm, x, y)
    return feed_forward(graph, layer, x)


def _memory(graph: GraphBuilder, model: SubTransformer, outputs: list[str], size: str) -> None:
    """Write out every decoder layer's keys and values."""
    shape = model.architecture.decoder
    reached = {reach: _reach(graph, model, outputs, size, reach) for reach in sorted(set(shape.cross_layers))}
    for index, (heads, reach) in enumerate(zip(shape.cross_heads, shape.cross_layers, strict=True)):
        attention = model.decoder.layer(index).encoder_attn
        seen, lengths = reached[reach]
        weights, biases = attention.key_value_weights()
        head_width = attention.qkv_dim // heads
        split = graph.op("Concat", lengths, graph.ints(heads, head_width), axis=0)
        k, v = (graph.linear(seen, weight, bias) for weight, bias in zip(weights, biases, strict=True))
        keys = graph.split_heads(k, split, [0, 2, 3, 1])
        values = graph.split_heads(v, split, [0, 2, 1, 3])
        graph.output(f"keys_{index}", keys, ["N", heads, head_width, f"S{reach}"])
        graph.output(f"values_{index}", values, ["N", heads, f"S{reach}", head_width])


def _reach(graph: GraphBuilder, model: SubTransformer, outputs: list[str], size: str, reach: int) -> tuple[str, str]:
    """Return the last `reach` outputs over time, last one first, (N * S * reach, D), and their sizes (N, S * reach)."""
    if reach == 1:
        return outputs[-1], size
    dim = model.architecture.encoder.embed_dim
    whole = graph.op("Concat", size, graph.ints(dim), axis=0)
    parts = [graph.op("Reshape", outputs[-1 - back], whole) for back in range(reach)]
    joined = graph.op("Concat", *parts, axis=1)
    return graph.op("Reshape", joined, graph.ints(-1, dim)), graph.op("Mul", size, graph.ints(1, reach))

"""One decoder step as an ONNX graph.

N sentences, R = N * beam rows, P cached places (position times beam), Q query-key-value width, H heads, K head width.

In: tokens (N, beam), position (1,), seen (N, 1, beam, P) and memory_mask (N, 1, 1, S), which are added to scores; for
each layer past_keys and past_values (P, N, Q), or an SSRU's state (R, D), and the encoder's keys and values; count
(1,), which is C. A decoder of SSRU layers alone has no seen. With short-lists of L words in all: listed (L,), output
(L, D), bias (L,) where the model has one, and allowed (N, 1, L), which is added to logits (R, L).
Out: logits (R, V); of the C best words the logarithms of probability, values (R, C), and words (R, C), and of the end
of sentence, ending (R, 1); for each layer new_keys and new_values (N, beam, Q), or new_state (R, D); and the last
layer's attention to the encoder, the mean of its heads, (N, beam, S'). `graphs_onnx.py` explains the layout of the
cache.
"""

import math

import onnx
import torch
from onnx import TensorProto

from hat_ray.model.blocks import DecoderLayer
from hat_ray.model.embedding import PAD
from hat_ray.model.protocol import EOS, UNK
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.onnx.encoder import added, before, feed_forward, query_key_value, residual
from hat_ray.runtime.onnx.graph import GraphBuilder, GraphDtype


def decoder_graph(model: SubTransformer, dtype: GraphDtype, *, listed: bool = False) -> onnx.ModelProto:
    """Return the graph of one decoder step; `listed`: for short-lists, with `output_graph` beside it."""
    graph = GraphBuilder("decoder", dtype)
    decoder, shape = model.decoder, model.architecture.decoder
    tokens = graph.input("tokens", ["N", "beam"], TensorProto.INT64)
    position = graph.input("position", [1], TensorProto.INT64)
    if "attention" in model.architecture.cells:
        graph.input("seen", ["N", 1, "beam", "P"])
    mask = graph.input("memory_mask", ["N", 1, 1, "S"])
    masks = {
        reach: mask if reach == 1 else graph.op("Concat", *[mask] * reach, axis=3)
        for reach in sorted(set(shape.cross_layers))
    }
    size = graph.op("Shape", tokens)
    width = shape.embed_dim
    places = decoder.embed_positions.columns(width)[PAD + 1 :]
    if model.config.start == "bos":  # BOS is 0: whatever is fed at position 0 becomes it
        tokens = graph.op("Mul", tokens, graph.op("Min", position, graph.ints(1)))
    x = graph.embed(tokens, decoder.embed_tokens.columns(width), decoder.embed_tokens.scale(width))
    if model.config.start == "zero":  # 0 at position 0, else 1
        x = graph.op("Mul", x, graph.op("Cast", graph.op("Min", position, graph.ints(1)), to=TensorProto.FLOAT))
    x = graph.op("Add", x, graph.op("Gather", graph.weight(places), position))
    for index, reach in enumerate(shape.cross_layers):
        layer = decoder.layer(index)
        if model.architecture.cells[index] == "ssru":
            x = _recurrence(graph, layer, x, index, width)
        else:
            x = _self_attention(graph, layer, x, size, index, shape.self_heads[index])
        is_last = index == shape.depth - 1
        x = _memory_attention(graph, layer, x, masks[reach], size, index, shape.cross_heads[index], is_last)
        x = feed_forward(graph, layer, x)
    if decoder.layer_norm is not None:
        x = graph.layer_norm(x, decoder.layer_norm)
    if listed:
        logits = _listed_logits(graph, x, size, width, decoder.output_bias is not None)
        words = graph.input("listed", ["L"], TensorProto.INT64)
        _best(graph, graph.output("logits", logits, ["R", "L"]), model.config.unknown_words, words)
    else:
        logits = graph.linear(x, decoder.output_weight(width), decoder.output_bias)
        _best(graph, graph.output("logits", logits, ["R", model.target_vocab_size]), model.config.unknown_words)
    return graph.model()


def output_graph(model: SubTransformer, dtype: GraphDtype) -> onnx.ModelProto:
    """Return the graph that gathers the output projection of some words: words (L,) -> output (L, D), bias (L,)."""
    graph, width = GraphBuilder("output", dtype), model.architecture.decoder.embed_dim
    words = graph.input("words", ["L"], TensorProto.INT64)
    rows = graph.embed(words, model.decoder.output_weight(width), 1.0)
    graph.output("output", rows, ["L", width])
    if model.decoder.output_bias is not None:
        graph.output("bias", graph.op("Gather", graph.weight(model.decoder.output_bias), words), ["L"])
    return graph.model()


def _listed_logits(graph: GraphBuilder, x: str, size: str, width: int, biased: bool) -> str:
    """(R, D) -> (R, L): of the words on a batch's lists, those on other sentences' lists hidden."""
    inputs = [graph.input("output", ["L", width]), *([graph.input("bias", ["L"])] if biased else [])]
    logits = graph.op("Gemm", x, *inputs, transB=1)
    by_sentence = graph.op("Reshape", logits, graph.op("Concat", size, graph.ints(-1), axis=0))  # (N, beam, L)
    hidden = graph.op("Add", by_sentence, graph.input("allowed", ["N", 1, "L"]))
    return graph.op("Reshape", hidden, graph.op("Shape", logits))


def _best(graph: GraphBuilder, logits: str, unknown_words: bool, listed: str = "") -> None:
    """Write the best words of each row: a reader of these alone never holds all logits."""
    count = graph.input("count", [1], TensorProto.INT64)
    logarithms = graph.op("LogSoftmax", logits, axis=-1)
    values, words = graph.ops("TopK", 2, logarithms, count, axis=-1, largest=1, sorted=1)
    if listed:
        words = graph.op("Gather", listed, words)
    if not unknown_words:
        values = graph.op("Where", graph.op("Equal", words, graph.ints(UNK)), graph.number(-math.inf), values)
    graph.output("values", values, ["R", "C"])
    graph.output("words", words, ["R", "C"], TensorProto.INT64)
    graph.output("ending", graph.op("Gather", logarithms, graph.ints(EOS), axis=1), ["R", 1])


def _self_attention(graph: GraphBuilder, layer: DecoderLayer, x: str, size: str, index: int, heads: int) -> str:
    """(R, D) -> (R, D): attend to what the cache holds and, apart from it, to the row's own token."""
    qkv = layer.self_attn.qkv_dim
    head_width = qkv // heads
    q, k, v = query_key_value(graph, layer.self_attn, before(graph, layer, layer.self_attn_layer_norm, x), heads)
    split = graph.op("Concat", size, graph.ints(heads, head_width), axis=0)
    rows = graph.op("Concat", size, graph.ints(qkv), axis=0)
    past = [graph.input(f"past_{kind}_{index}", ["P", "N", qkv]) for kind in ("keys", "values")]
    for kind, new in (("keys", k), ("values", v)):
        graph.output(f"new_{kind}_{index}", graph.op("Reshape", new, rows), ["N", "beam", qkv])
    q, k, v = (graph.split_heads(each, split, [0, 2, 1, 3]) for each in (q, k, v))  # (N, H, beam, K)
    by_head = graph.ints(0, 0, heads, head_width)  # 0: as it is
    past_keys = graph.split_heads(past[0], by_head, [1, 2, 3, 0])  # (N, H, K, P)
    past_values = graph.split_heads(past[1], by_head, [1, 2, 0, 3])  # (N, H, P, K)
    scores = graph.op("Add", graph.op("MatMul", q, past_keys), "seen")
    own = graph.op("ReduceSum", graph.op("Mul", q, k), graph.ints(3), keepdims=1)  # (N, H, beam, 1)
    shares = graph.op("Softmax", graph.op("Concat", scores, own, axis=3), axis=-1)
    of_past = graph.op("Slice", shares, graph.ints(0), graph.ints(-1), graph.ints(3))
    of_own = graph.op("Slice", shares, graph.ints(-1), graph.ints(2**31 - 1), graph.ints(3))
    y = graph.op("Add", graph.op("MatMul", of_past, past_values), graph.op("Mul", of_own, v))
    return residual(graph, layer, layer.self_attn, layer.self_attn_layer_norm, x, graph.merge_heads(y, qkv))


def _recurrence(graph: GraphBuilder, layer: DecoderLayer, x: str, index: int, width: int) -> str:
    """(R, D) -> (R, D): let the gate's share of what is new into the state."""
    ssru, norm = layer.ssru, layer.self_attn_layer_norm
    weight = torch.cat([ssru.weight, ssru.forget_weight])
    bias = torch.cat([torch.zeros_like(ssru.forget_bias), ssru.forget_bias])
    new, forget = graph.ops("Split", 2, graph.linear(before(graph, layer, norm, x), weight, bias), axis=1)
    state = graph.input(f"state_{index}", ["R", width])
    kept = graph.op("Mul", graph.op("Sigmoid", forget), graph.op("Sub", state, new))
    state = graph.output(f"new_state_{index}", graph.op("Add", new, kept), ["R", width])
    return added(graph, layer, norm, x, graph.op("Relu", state))


def _memory_attention(
    graph: GraphBuilder, layer: DecoderLayer, x: str, mask: str, size: str, index: int, heads: int, is_last: bool
) -> str:
    """(R, D) -> (R, D), the beams of a sentence attending to its one memory."""
    attention = layer.encoder_attn
    qkv, head_width = attention.qkv_dim, attention.qkv_dim // heads
    weight, bias = attention.query_weights()
    scale = head_width**-0.5
    q = graph.linear(before(graph, layer, layer.encoder_attn_layer_norm, x), weight * scale, bias * scale)
    split = graph.op("Concat", size, graph.ints(heads, head_width), axis=0)
    q = graph.split_heads(q, split, [0, 2, 1, 3])  # (N, H, beam, K)
    keys = graph.input(f"keys_{index}", ["N", heads, head_width, f"S{index}"])
    values = graph.input(f"values_{index}", ["N", heads, f"S{index}", head_width])
    scores = graph.op("Add", graph.op("MatMul", q, keys), mask)
    shares = graph.op("Softmax", scores, axis=-1)
    if is_last:
        graph.output("attention", graph.op("ReduceMean", shares, axes=[1], keepdims=0), ["N", "beam", f"S{index}"])
    y = graph.op("MatMul", shares, values)
    return residual(graph, layer, attention, layer.encoder_attn_layer_norm, x, graph.merge_heads(y, qkv))

"""Bytes on disk of an exported ONNX model, in closed form: both graphs and `weights.bin`. Imports no ONNX.

Constants from `OUTSIDE_BYTES` on stand in `weights.bin`, each from the start of a page on; smaller ones stand in their
graph.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hat_ray.runtime.onnx.layout import BLOCKS, LARGE, LARGE_OF_MANY_ROWS, OUTSIDE_BYTES, PAGE
from hat_ray.runtime.size import Sizes, StoredModel
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import IntArray

_FLOAT = 4
_HEADER = {"fp32": (1_400, 2_640, 5_730), "int8": (2_330, 3_070, 6_540)}
"""Nodes, names and places of constants: of a model, of an encoder layer, of a decoder layer."""
_SSRU_LESS = {"fp32": 1_900, "int8": 2_050}
"""What of a decoder layer's nodes and names one with an SSRU saves."""
_BY_CHANNELS = 602
"""The same of an int8 weight with scales by channel, beyond those of one with scales by block."""


def model_bytes(architectures: Sequence[Architecture], model: StoredModel) -> IntArray:
    """Return the bytes, (N,), of `encoder.onnx`, `decoder.onnx` and `weights.bin`, without short-lists."""
    sizes, config, is_int8 = Sizes.of(architectures), model.config, model.dtype == "int8"
    e, d, v = sizes.encoder_dim, sizes.decoder_dim, np.int64(model.vocab_size)
    encoder, decoder = sizes.depths
    total = np.zeros(len(architectures), dtype=np.int64)
    for one in sizes.linears():
        large = LARGE if one.part == "decoder" else LARGE_OF_MANY_ROWS
        weight = _int8(one.outputs, one.inputs, large) if is_int8 else _placed(_FLOAT * one.outputs * one.inputs)
        if is_int8:
            weight = weight + _BY_CHANNELS * (one.outputs * one.inputs >= large)
        total += ((weight + _placed(_FLOAT * one.outputs)) * one.exists).sum(axis=1)
    last = config.final_norms
    total += 2 * ((2 * encoder + last[0]) * _placed(_FLOAT * e) + (3 * decoder + last[1]) * _placed(_FLOAT * d))
    total += _placed(_FLOAT * v) * config.output_bias
    total += _placed(_FLOAT * (config.max_positions + 2) * e) + _placed(_FLOAT * config.max_positions * d)
    total += _tables(e, d, v, model)
    of_model, of_encoder, of_decoder = _HEADER[model.dtype]
    header = of_model + of_encoder * encoder + of_decoder * decoder - _SSRU_LESS[model.dtype] * sizes.ssru.sum(axis=1)
    return np.asarray(total + header, dtype=np.int64)


def _tables(e: IntArray, d: IntArray, v: Any, model: StoredModel) -> IntArray:
    """Count the source's and the target's embeddings and the output projection; equal ones stand there once."""
    is_int8, sharing = model.dtype == "int8", model.config.share_embeddings
    words = zip(map(np.int64, model.vocab_sizes), (e, d), strict=True)
    source, target = (_int8(one, width, LARGE) if is_int8 else _placed(_FLOAT * one * width) for one, width in words)
    total = source + target
    if sharing == "all":
        total = total - np.where(e == d, source, 0)
    if sharing == "none":
        return np.asarray(total + target)
    if is_int8:  # the large table's scales are the embeddings' or the projection's own
        total = total + np.where(v * d >= LARGE, _placed(_FLOAT * v), 0)
    return np.asarray(total)


def _int8(outputs: Any, inputs: IntArray, large: int) -> IntArray:
    """Count the bytes and the scales of a quantised weight (outputs, inputs): by channels where it is large."""
    by_channels = _placed(outputs * inputs) + _placed(_FLOAT * outputs)
    block = np.select([inputs % size == 0 for size in BLOCKS], BLOCKS, BLOCKS[-1])
    blocks = outputs * -(-inputs // block)
    by_blocks = _placed(blocks * block) + _placed(_FLOAT * blocks)
    return np.asarray(np.where(outputs * inputs >= large, by_channels, by_blocks))


def _placed(size: Any) -> IntArray:
    """Return the bytes that a constant of a size takes."""
    size = np.asarray(size)
    return np.asarray(np.where(size < OUTSIDE_BYTES, size, -(-size // PAGE) * PAGE))

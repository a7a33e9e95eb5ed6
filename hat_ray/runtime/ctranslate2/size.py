"""Bytes on disk of a CTranslate2 model, in closed form. Imports nothing of CTranslate2."""

from collections.abc import Sequence

import numpy as np

from hat_ray.runtime.size import Sizes, StoredModel
from hat_ray.space.architecture import Architecture
from hat_ray.space.features import IntArray

_HEADER, _ENCODER_HEADER, _DECODER_HEADER = 1_120, 695, 1_150  # names and shapes: of a model, of a layer
_SCALE = 57  # name and shape of an int8 weight's scales
_FLOAT = 4


def model_bytes(architectures: Sequence[Architecture], model: StoredModel) -> IntArray:
    """Return the bytes, (N,), of `model.bin` and `config.json`; the vocabulary's words are not counted."""
    sizes, is_int8 = Sizes.of(architectures), model.dtype == "int8"
    (e, d), (s, v) = (sizes.encoder_dim, sizes.decoder_dim), model.vocab_sizes
    encoder, decoder = sizes.depths
    total = _FLOAT * sizes.norms(model.config)
    for one in sizes.linears():
        numbers = one.inputs * one.outputs * (1 if is_int8 else _FLOAT)
        total = total + ((numbers + _FLOAT * one.outputs * (2 if is_int8 else 1)) * one.exists).sum(axis=1)
    tables = [(s, e), (v, d)] if model.config.share_embeddings != "none" else [(s, e), (v, d), (v, d)]
    for words, width in tables:
        total = total + words * (width + _FLOAT if is_int8 else _FLOAT * width)
    if model.config.share_embeddings == "all":  # equal widths: one table
        total = total - np.where(e == d, v * (e + _FLOAT if is_int8 else _FLOAT * e), 0)
    kind = model.config.positions
    is_one_table = kind != "learned" and (kind == "none" or model.super_dims[0] == model.super_dims[1])
    positions = np.where((e == d) & is_one_table, e, e + d)
    total = total + _FLOAT * (model.config.max_positions * positions + v * model.config.output_bias)
    header = _HEADER + _ENCODER_HEADER * encoder + _DECODER_HEADER * decoder
    scales = _SCALE * (len(tables) + 4 * encoder + 7 * decoder) if is_int8 else 0
    return np.asarray(total + header + scales, dtype=np.int64)

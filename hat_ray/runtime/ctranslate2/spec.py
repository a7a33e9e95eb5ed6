"""A SubTransformer as a CTranslate2 model, where the architecture is one that CTranslate2 can express.

Free are depths, the widths of both sides, the width of queries, keys and values, and each layer's hidden width; norms
stand before or after. But there is *one* number of heads for all of the encoder and *one* for all of the decoder,
and the decoder attends to the last encoder layer only.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hat_ray.corpus.vocabulary import BOS, EOS, UNK
from hat_ray.model.blocks import ElasticBlock
from hat_ray.model.config import Activation
from hat_ray.model.embedding import PAD
from hat_ray.model.layers import ElasticLayerNorm, ElasticLinear
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.onnx.graph import quantise_channels
from hat_ray.space.architecture import Architecture

try:
    import ctranslate2
except ModuleNotFoundError:  # an optional extra
    ctranslate2 = None

COMPUTE_TYPES = {"fp32": "float32", "int8": "int8"}
"""CTranslate2's names of the numbers that weights are kept and multiplied in."""
_ACTIVATIONS: dict[Activation, str] = {
    **{"relu": "RELU", "gelu": "GELU", "gelu_tanh": "GELUTanh", "gelu_sigmoid": "GELUSigmoid"},
    "swish": "SWISH",
}
"""CTranslate2's names of what stands between the two layers of a feed-forward network."""


def supported_compute_types() -> set[str]:
    """Return CTranslate2's names of the numbers that it computes in on this processor."""
    return set(ctranslate2.get_supported_compute_types("cpu"))


def why_not_expressible(architecture: Architecture) -> str | None:
    """Return why CTranslate2 has no place for an architecture, or None where it has."""
    encoder, decoder = architecture.encoder, architecture.decoder
    if "ssru" in architecture.cells:
        return f"its decoder layers have the cells {list(architecture.cells)}, CTranslate2's all have self-attention"
    if any(reach != 1 for reach in decoder.cross_layers):
        return (
            f"its decoder layers attend to {list(decoder.cross_layers)} encoder layers, CTranslate2's to the last one"
        )
    if len(set(encoder.heads)) > 1:
        return f"its encoder layers have {list(encoder.heads)} heads, CTranslate2's all have the same number"
    if len({*decoder.self_heads, *decoder.cross_heads}) > 1:
        heads = sorted({*decoder.self_heads, *decoder.cross_heads})
        return f"its decoder's attentions have {heads} heads, CTranslate2's all have the same number"
    return None


def write_model(model: SubTransformer, source: Sequence[str], target: Sequence[str], folder: Path, dtype: str) -> None:
    """Write CTranslate2's own files into a folder; `source` and `target` are the vocabularies' words in their order."""
    spec = model_spec(model)
    spec.register_source_vocabulary(list(source))
    spec.register_target_vocabulary(list(target))
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = target[BOS], target[EOS], target[UNK]
    spec.config.decoder_start_token = target[BOS if model.config.start == "bos" else EOS]
    spec.config.add_source_bos = spec.config.add_source_eos = False
    spec.validate()
    spec.optimize(quantization=None if dtype == "int8" else COMPUTE_TYPES[dtype])  # equal weights are one from now on
    if dtype == "int8":
        quantise_spec(spec)
    spec.save(str(folder))


def open_translator(folder: Path | str, compute_type: str, threads: int) -> Any:
    """Let CTranslate2 load the model of a folder; 0 threads: its own choice."""
    with own_threads():
        return ctranslate2.Translator(
            str(folder), device="cpu", compute_type=compute_type, intra_threads=threads, inter_threads=1
        )


@contextmanager
def own_threads() -> Iterator[None]:
    """Keep PyTorch's threads as they are: CTranslate2 sets OpenMP's number for the thread that loads a model."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def model_spec(model: SubTransformer) -> Any:
    """Return CTranslate2's description of a model, with its weights."""
    spec, shape = _empty_spec(model), model.architecture
    for side, ours, width in (
        (spec.encoder, model.encoder, shape.encoder.embed_dim),
        (spec.decoder, model.decoder, shape.decoder.embed_dim),
    ):
        embeddings = side.embeddings[0] if isinstance(side.embeddings, list) else side.embeddings
        embeddings.weight = _array(ours.embed_tokens.columns(width))
        side.position_encodings.encodings = _array(ours.embed_positions.columns(width)[PAD + 1 :])
        side.scale_embeddings = model.config.scale_embeddings
        if ours.layer_norm is not None:
            _norm(side.layer_norm, ours.layer_norm)
    spec.decoder.projection.weight = _array(model.decoder.output_weight(shape.decoder.embed_dim))
    if model.decoder.output_bias is not None:
        spec.decoder.projection.bias = _array(model.decoder.output_bias)
    spec.decoder.start_from_zero_embedding = model.config.start == "zero"
    spec.config.layer_norm_epsilon = model.config.layer_norm_eps
    for index, layer in enumerate(spec.encoder.layer):
        _block(layer, model.encoder.layer(index))
    for index, layer in enumerate(spec.decoder.layer):
        block = model.decoder.layer(index)
        _block(layer, block)
        cross = block.encoder_attn
        query, joint, out = layer.attention.linear
        query.weight, query.bias = map(_array, cross.query_weights())
        joint.weight, joint.bias = (
            np.concatenate([_array(each) for each in pair]) for pair in cross.key_value_weights()
        )
        _linear(out, cross.out_proj)
        _norm(layer.attention.layer_norm, block.encoder_attn_layer_norm)
    return spec


def _empty_spec(model: SubTransformer) -> Any:
    """Return CTranslate2's description of a network without its weights."""
    specs, shape, config = ctranslate2.specs, model.architecture, model.config
    heads = shape.encoder.heads[0], shape.decoder.self_heads[0]
    common = {"pre_norm": config.normalize_before, "activation": specs.Activation[_ACTIVATIONS[config.activation]]}
    finals = model.encoder.layer_norm, model.decoder.layer_norm
    own = [
        {**common, "head_dim": shape.qkv_dim // count, "no_final_norm": final is None}
        for count, final in zip(heads, finals, strict=True)
    ]
    return specs.TransformerSpec(
        specs.TransformerEncoderSpec(shape.encoder.depth, heads[0], **own[0]),
        specs.TransformerDecoderSpec(shape.decoder.depth, heads[1], alignment_heads=heads[1], **own[1]),
    )


def _block(layer: Any, ours: ElasticBlock) -> None:
    joint, out = layer.self_attention.linear
    joint.weight, joint.bias = _array(ours.self_attn.in_proj_weight), _array(ours.self_attn.in_proj_bias)
    _linear(out, ours.self_attn.out_proj)
    _norm(layer.self_attention.layer_norm, ours.self_attn_layer_norm)
    _linear(layer.ffn.linear_0, ours.fc1)
    _linear(layer.ffn.linear_1, ours.fc2)
    _norm(layer.ffn.layer_norm, ours.final_layer_norm)


def quantise_spec(spec: Any) -> None:
    """Replace the weights of CTranslate2's description by bytes and their scales.

    Bytes as CTranslate2 chooses them saturate where oneDNN multiplies without VNNI; `onnx/graph.py` explains why these
    do not.
    """
    ctranslate2.specs.model_spec.visit_spec(spec, _quantise)


def _quantise(layer: Any, name: str, value: Any) -> None:
    name = name.rpartition("/")[2]
    variable = ctranslate2.specs.model_spec.NumpyVariable
    if hasattr(layer, f"{name}_scale") and isinstance(value, variable):
        packed, scales = quantise_channels(torch.from_numpy(value.numpy()))
        setattr(layer, name, variable(packed))
        setattr(layer, f"{name}_scale", variable(1 / np.where(scales == 0, np.float32(1), scales)))


def _linear(spec: Any, ours: ElasticLinear) -> None:
    spec.weight, spec.bias = _array(ours.weight), _array(ours.bias)


def _norm(spec: Any, ours: ElasticLayerNorm) -> None:
    spec.gamma, spec.beta = _array(ours.weight), _array(ours.bias)


def _array(value: Tensor) -> NDArray[Any]:
    """Return a copy: CTranslate2 quantises in place."""
    return np.array(value.detach().numpy(), order="C")

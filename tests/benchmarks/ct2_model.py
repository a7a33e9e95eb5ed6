"""A SubTransformer as a CTranslate2 model, where CTranslate2 is installed: post-norm, uniform heads, reach 1."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hat_ray.model.embedding import PAD
from hat_ray.model.subtransformer import SubTransformer


def save_ct2(model: SubTransformer, place: Path) -> None:
    """Write `model`, whose vocabulary becomes the words "0", "1", ..."""
    import ctranslate2  # a yardstick, not a dependency

    encoder, decoder = model.encoder, model.decoder
    depths = model.architecture.encoder.depth, model.architecture.decoder.depth
    spec = ctranslate2.specs.TransformerSpec.from_config(depths, model.architecture.encoder.heads[0], pre_norm=False)
    shapes = model.architecture.encoder, model.architecture.decoder
    for side, ours, shape in zip((spec.encoder, spec.decoder), (encoder, decoder), shapes, strict=True):
        width = shape.embed_dim
        embeddings = side.embeddings[0] if isinstance(side.embeddings, list) else side.embeddings
        embeddings.weight = _array(ours.embed_tokens.columns(width))
        side.position_encodings.encodings = _array(ours.embed_positions.columns(width)[PAD + 1 :])
    spec.decoder.projection.weight = _array(decoder.output_weight(width))
    for layer, ours in zip(spec.encoder.layer, encoder.layers, strict=True):
        _block(layer, ours)
    for layer, ours in zip(spec.decoder.layer, decoder.layers, strict=True):
        _block(layer, ours)
        cross = ours.encoder_attn
        weights, biases = cross.key_value_weights()
        query, joint, out = layer.attention.linear
        query.weight, query.bias = map(_array, cross.query_weights())
        joint.weight, joint.bias = (np.concatenate([_array(each) for each in pair]) for pair in (weights, biases))
        _linear(out, cross.out_proj)
        _norm(layer.attention.layer_norm, ours.encoder_attn_layer_norm)
    words = [str(number) for number in range(model.target_vocab_size)]
    spec.register_source_vocabulary(words)
    spec.register_target_vocabulary(words)
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = "0", "2", "3"
    spec.config.decoder_start_token = "2"
    spec.config.add_source_bos = spec.config.add_source_eos = False
    spec.validate()
    spec.optimize(quantization="float32")
    place.mkdir(parents=True, exist_ok=True)
    spec.save(str(place))


def _block(layer: Any, ours: Any) -> None:
    joint, out = layer.self_attention.linear
    joint.weight, joint.bias = _array(ours.self_attn.in_proj_weight), _array(ours.self_attn.in_proj_bias)
    _linear(out, ours.self_attn.out_proj)
    _norm(layer.self_attention.layer_norm, ours.self_attn_layer_norm)
    _linear(layer.ffn.linear_0, ours.fc1)
    _linear(layer.ffn.linear_1, ours.fc2)
    _norm(layer.ffn.layer_norm, ours.final_layer_norm)


def _linear(spec: Any, ours: Any) -> None:
    spec.weight, spec.bias = _array(ours.weight), _array(ours.bias)


def _norm(spec: Any, ours: Any) -> None:
    spec.gamma, spec.beta = _array(ours.weight), _array(ours.bias)


def _array(value: Tensor) -> np.ndarray:
    return np.ascontiguousarray(value.detach().numpy())

"""The settings of a MarianMTModel (`config.json`) as an architecture and settings of the network.

Decisions
- What `transformers` computes counts, not what the settings promise: a setting that MarianMTModel ignores and that
  would change the network is refused where it asks for more.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hat_ray.errors import CheckpointError, SpaceError
from hat_ray.foreign.weights import require_values, whole_number
from hat_ray.model.config import ModelConfig
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.dimension import MAX_DEPTH, MAX_SIZE
from hat_ray.storage.plain_file import read_text

_ACTIVATIONS: Mapping[str, Literal["relu", "swish", "gelu"]] = {
    "relu": "relu",
    "swish": "swish",
    "silu": "swish",
    "gelu": "gelu",
}
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (True,),
    "is_decoder": (False,),
    "normalize_before": (False,),
    "normalize_embedding": (False,),
    "add_final_layer_norm": (False,),
    "add_bias_logits": (False,),
    "static_position_embeddings": (True,),
}
"""Settings that have one value in MarianMTModel, whether or not it reads them."""


@dataclass(frozen=True)
class Settings:
    """A MarianMTModel."""

    architecture: Architecture
    config: ModelConfig
    vocab_sizes: tuple[int, int]
    start: int
    """Foreign id of the decoder's first input."""
    special: tuple[int, int]
    """Foreign ids of the padding and of the end of sentence."""


def read_config(path: Path) -> Mapping[str, Any]:
    """Read a `config.json` as keys and values; raise CheckpointError where it is none."""
    text = read_text(path, "the settings", CheckpointError)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON: {' '.join(str(error).split())[:100]}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold keys and values, got {type(values).__name__}")
    return values


def read_settings(values: Mapping[str, Any], source: str) -> Settings:
    """Read the settings; raise CheckpointError for what hat-ray's network cannot compute."""
    if values.get("model_type") != "marian":
        found = values.get("model_type")
        raise CheckpointError(f"{source} is a model of type {found!r:.60}, of Hugging Face's only marian is read")
    require_values(values, _ONLY, source)
    activation = values.get("activation_function", "gelu")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise CheckpointError(
            f"{source}: activation_function must be one of {', '.join(_ACTIVATIONS)}, got {activation!r:.60}"
        )
    shared, tied = bool(values.get("share_encoder_decoder_embeddings", True)), values.get("tie_word_embeddings", True)
    sharing: Literal["all", "decoder", "none"] = "none"
    if tied:
        sharing = "all" if shared else "decoder"
    first = whole_number(values, "vocab_size", 58101, source)
    second = first if shared else whole_number(values, "decoder_vocab_size", first, source)
    config = ModelConfig(
        share_embeddings=sharing,
        activation=_ACTIVATIONS[activation],
        positions="huggingface",
        start="bos",
        output_bias=True,
        scale_embeddings=bool(values.get("scale_embedding", False)),
        max_positions=whole_number(values, "max_position_embeddings", 1024, source, 8, 1_000_000),
        dropout=_share(values, "dropout", source),
        attention_dropout=_share(values, "attention_dropout", source),
        activation_dropout=_share(values, "activation_dropout", source),
    )
    start, pad = (whole_number(values, name, 58100, source, 0) for name in ("decoder_start_token_id", "pad_token_id"))
    eos = whole_number(values, "eos_token_id", 0, source, 0)
    if not max(start, pad, eos) < second or not max(pad, eos) < first or pad == eos:
        raise CheckpointError(
            f"{source}: decoder_start_token_id, pad_token_id and eos_token_id must be entries of the vocabulary, "
            f"got {start}, {pad} and {eos}"
        )
    return Settings(_architecture(values, source), config, (first, second), start, (pad, eos))


def _architecture(values: Mapping[str, Any], source: str) -> Architecture:
    def size(name: str, default: int) -> int:
        return whole_number(values, name, default, source, most=MAX_SIZE)

    width = size("d_model", 1024)
    encoder, decoder = (
        whole_number(values, name, 12, source, most=MAX_DEPTH) for name in ("encoder_layers", "decoder_layers")
    )
    heads, decoder_heads = size("encoder_attention_heads", 16), size("decoder_attention_heads", 16)
    try:
        return Architecture(
            EncoderShape(width, (size("encoder_ffn_dim", 4096),) * encoder, (heads,) * encoder),
            DecoderShape(
                width,
                (size("decoder_ffn_dim", 4096),) * decoder,
                (decoder_heads,) * decoder,
                (decoder_heads,) * decoder,
                (1,) * decoder,
            ),
            width,
        )
    except SpaceError as error:
        raise CheckpointError(f"{source} is no Transformer of sizes that hat-ray has: {error}") from error


def _share(values: Mapping[str, Any], name: str, source: str) -> float:
    value = values.get(name, 0.1 if name == "dropout" else 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise CheckpointError(f"{source}: {name} must be from 0 to below 1, got {value!r:.60}")
    return float(value)

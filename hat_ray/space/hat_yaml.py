"""HAT's YAML files, read and written: SubTransformer configurations and search spaces.

HAT writes a reach of the last encoder layer as -1, of the last two as 1 and of the last three as 2.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hat_ray.config import nearest_name
from hat_ray.errors import SpaceError
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.search_space import SearchSpace

HAT_REACH = {-1: 1, 1: 2, 2: 3}
"""HAT's code for "layers attended" to their number."""
REACH_CODE = {reach: code for code, reach in HAT_REACH.items()}

_SUB = "-subtransformer"
_SUB_KEYS = (
    "encoder-embed-dim",
    "encoder-layer-num",
    "encoder-ffn-embed-dim-all",
    "encoder-self-attention-heads-all",
    "decoder-embed-dim",
    "decoder-layer-num",
    "decoder-ffn-embed-dim-all",
    "decoder-self-attention-heads-all",
    "decoder-ende-attention-heads-all",
    "decoder-arbitrary-ende-attn-all",
)

_SPACE_KEYS = {
    "encoder_embed_dims": "encoder-embed-choice",
    "encoder_depths": "encoder-layer-num-choice",
    "encoder_ffn_dims": "encoder-ffn-embed-dim-choice",
    "encoder_heads": "encoder-self-attention-heads-choice",
    "decoder_embed_dims": "decoder-embed-choice",
    "decoder_depths": "decoder-layer-num-choice",
    "decoder_ffn_dims": "decoder-ffn-embed-dim-choice",
    "decoder_self_heads": "decoder-self-attention-heads-choice",
    "decoder_cross_heads": "decoder-ende-attention-heads-choice",
    "decoder_cross_layers": "decoder-arbitrary-ende-attn-choice",
}


def read_architecture(text: str, source: str = "HAT YAML", qkv_dim: int = 512) -> Architecture:
    """Read a HAT SubTransformer YAML. A `qkv-dim` key in the file wins over `qkv_dim`."""
    values = _mapping(text, source)
    keys = [key + _SUB for key in _SUB_KEYS]
    config = {key: _need(values, name, source) for key, name in zip(_SUB_KEYS, keys, strict=True)}
    try:
        encoder_depth, decoder_depth = int(config["encoder-layer-num"]), int(config["decoder-layer-num"])

        def layers(key: str, depth: int) -> tuple[int, ...]:
            if len(config[key]) < depth:
                raise SpaceError(f"{source}: {key}{_SUB} needs {depth} values, one a layer, got {len(config[key])}")
            return tuple(config[key][:depth])

        return Architecture(
            EncoderShape(
                config["encoder-embed-dim"],
                layers("encoder-ffn-embed-dim-all", encoder_depth),
                layers("encoder-self-attention-heads-all", encoder_depth),
            ),
            DecoderShape(
                config["decoder-embed-dim"],
                layers("decoder-ffn-embed-dim-all", decoder_depth),
                layers("decoder-self-attention-heads-all", decoder_depth),
                layers("decoder-ende-attention-heads-all", decoder_depth),
                tuple(_reach(code, source) for code in layers("decoder-arbitrary-ende-attn-all", decoder_depth)),
            ),
            int(values.get("qkv-dim", qkv_dim)),
        )
    except (TypeError, ValueError) as error:
        raise SpaceError(f"{source} is not a HAT SubTransformer: {error}") from error


def write_architecture(architecture: Architecture) -> str:
    """Write a HAT SubTransformer YAML; HAT's code reads it as it is."""
    e, d = architecture.encoder, architecture.decoder
    values: tuple[int | list[int], ...] = (
        e.embed_dim,
        e.depth,
        list(e.ffn_dims),
        list(e.heads),
        d.embed_dim,
        d.depth,
        list(d.ffn_dims),
        list(d.self_heads),
        list(d.cross_heads),
        [REACH_CODE[reach] for reach in d.cross_layers],
    )
    content = {key + _SUB: value for key, value in zip(_SUB_KEYS, values, strict=True)}
    return yaml.safe_dump({**content, "qkv-dim": architecture.qkv_dim}, sort_keys=False, default_flow_style=None)


def architecture_from_config(
    config: Mapping[str, Mapping[str, Any]], qkv_dim: int, super_encoder_depth: int | None = None
) -> Architecture:
    """Read HAT's nested configuration (`{"encoder": {...}, "decoder": {...}}`, as in its checkpoints and logs).

    With `super_encoder_depth` the skipped encoder layers repeat the last output, as HAT's SuperTransformer does.
    """
    e, d = config["encoder"], config["decoder"]
    encoder_depth, decoder_depth = e["encoder_layer_num"], d["decoder_layer_num"]
    return Architecture(
        EncoderShape(
            e["encoder_embed_dim"],
            tuple(e["encoder_ffn_embed_dim"][:encoder_depth]),
            tuple(e["encoder_self_attention_heads"][:encoder_depth]),
            repeats=(super_encoder_depth or encoder_depth) - encoder_depth,
        ),
        DecoderShape(
            d["decoder_embed_dim"],
            tuple(d["decoder_ffn_embed_dim"][:decoder_depth]),
            tuple(d["decoder_self_attention_heads"][:decoder_depth]),
            tuple(d["decoder_ende_attention_heads"][:decoder_depth]),
            tuple(_reach(code, "HAT configuration") for code in d["decoder_arbitrary_ende_attn"][:decoder_depth]),
        ),
        qkv_dim,
    )


def read_space(text: str, name: str, source: str = "HAT YAML") -> SearchSpace:
    """Read the search-space keys of a HAT SuperTransformer YAML; its other keys are left alone."""
    values = _mapping(text, source)
    choices: dict[str, tuple[int, ...]] = {}
    for field, key in _SPACE_KEYS.items():
        value = _need(values, key, source)
        if not isinstance(value, list):
            raise SpaceError(f"{source}: {key} must be a list of choices, got {value!r}")
        choices[field] = tuple(value)
    choices["decoder_cross_layers"] = tuple(_reach(code, source) for code in choices["decoder_cross_layers"])
    return SearchSpace(name=name, qkv_dim=int(values.get("qkv-dim", 512)), **choices)


def write_space(space: SearchSpace) -> str:
    """Write the search-space keys and the super sizes that HAT's code expects beside them."""
    largest = space.largest()
    content: dict[str, Any] = {
        "encoder-embed-dim": largest.encoder.embed_dim,
        "decoder-embed-dim": largest.decoder.embed_dim,
        "encoder-ffn-embed-dim": max(space.encoder_ffn_dims),
        "decoder-ffn-embed-dim": max(space.decoder_ffn_dims),
        "encoder-layers": space.max_encoder_depth,
        "decoder-layers": space.max_decoder_depth,
        "encoder-attention-heads": max(space.encoder_heads),
        "decoder-attention-heads": max(space.decoder_self_heads),
        "qkv-dim": space.qkv_dim,
    }
    for field, key in _SPACE_KEYS.items():
        content[key] = list(space.dimensions()[field])
    content["decoder-arbitrary-ende-attn-choice"] = [REACH_CODE[reach] for reach in space.decoder_cross_layers]
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None)


def load_architecture(path: str | Path, qkv_dim: int = 512) -> Architecture:
    """Read an architecture from a file: HAT's YAML, or our JSON (`.json`)."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceError(f"cannot read the architecture file {path}: {error}") from error
    return Architecture.from_json(text) if path.suffix == ".json" else read_architecture(text, str(path), qkv_dim)


def _mapping(text: str, source: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpaceError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise SpaceError(f"{source} must hold keys and values, got {type(values).__name__}")
    return values


def _need(values: dict[str, Any], key: str, source: str) -> Any:
    if key in values:
        return values[key]
    near = nearest_name(key, [str(name) for name in values])
    raise SpaceError(f"{source} lacks the key {key}" + (f"; it has {near}" if near else ""))


def _reach(code: object, source: str) -> int:
    if code not in HAT_REACH:
        raise SpaceError(f"{source}: layers attended must be -1, 1 or 2 (the last 1, 2 or 3 layers), got {code!r}")
    return HAT_REACH[code]

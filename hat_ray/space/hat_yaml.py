"""HAT's YAML files, read and written: SubTransformer configurations and search spaces.

HAT writes a reach of the last encoder layer as -1, of the last two as 1 and of the last three as 2.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hat_ray.core.config import nearest_name
from hat_ray.core.yaml_text import read_mapping
from hat_ray.errors import SpaceError
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.plain_file import printable, read_text

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

    def number(key: str) -> int:
        return _number(config[key], key + _SUB, source)

    def layers(key: str, depth: int) -> tuple[int, ...]:
        numbers = _numbers(config[key], key + _SUB, source)
        if len(numbers) < depth:
            raise SpaceError(f"{source}: {key}{_SUB} needs {depth} values, one a layer, got {len(numbers)}")
        return numbers[:depth]

    encoder_depth, decoder_depth = number("encoder-layer-num"), number("decoder-layer-num")
    if min(encoder_depth, decoder_depth) < 1:
        raise SpaceError(
            f"{source}: encoder and decoder need a layer at least, got {encoder_depth} and {decoder_depth}"
        )
    try:
        return Architecture(
            EncoderShape(
                number("encoder-embed-dim"),
                layers("encoder-ffn-embed-dim-all", encoder_depth),
                layers("encoder-self-attention-heads-all", encoder_depth),
            ),
            DecoderShape(
                number("decoder-embed-dim"),
                layers("decoder-ffn-embed-dim-all", decoder_depth),
                layers("decoder-self-attention-heads-all", decoder_depth),
                layers("decoder-ende-attention-heads-all", decoder_depth),
                tuple(_reach(code, source) for code in layers("decoder-arbitrary-ende-attn-all", decoder_depth)),
            ),
            _number(values.get("qkv-dim", qkv_dim), "qkv-dim", source),
        )
    except SpaceError as error:
        reason = str(error)
        raise SpaceError(reason if reason.startswith(source) else f"{source}: {reason}") from error


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
        choices[field] = _numbers(_need(values, key, source), key, source)
    choices["decoder_cross_layers"] = tuple(_reach(code, source) for code in choices["decoder_cross_layers"])
    return SearchSpace(name=name, qkv_dim=_number(values.get("qkv-dim", 512), "qkv-dim", source), **choices)


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
    text = read_text(path, "architecture file", SpaceError)
    return Architecture.from_json(text) if path.suffix == ".json" else read_architecture(text, str(path), qkv_dim)


def _mapping(text: str, source: str) -> dict[str, Any]:
    values: dict[str, Any] = read_mapping(text, source, SpaceError).values
    return values


def _need(values: dict[str, Any], key: str, source: str) -> Any:
    if key in values:
        return values[key]
    near = nearest_name(key, [str(name) for name in values])
    raise SpaceError(f"{source} lacks the key {key}" + (f"; it has {near}" if near else ""))


def _number(value: object, key: str, source: str) -> int:
    if type(value) is not int:
        raise SpaceError(f"{source}: {key} must be a whole number, got {printable(repr(value))}")
    return value


def _numbers(value: object, key: str, source: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise SpaceError(f"{source}: {key} must be a list of whole numbers, got {printable(repr(value))}")
    return tuple(_number(entry, key, source) for entry in value)


def _reach(code: object, source: str) -> int:
    if code not in HAT_REACH:
        raise SpaceError(f"{source}: layers attended must be -1, 1 or 2 (the last 1, 2 or 3 layers), got {code!r}")
    return HAT_REACH[code]

"""HAT's YAML files, read and written: SubTransformer configurations and search spaces.

The table of dimensions has HAT's keys and codes: HAT writes the last encoder layer attended to as -1, the last two as 1
and the last three as 2. A dimension that HAT lacks has a key of its own, written where it is not `absent`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hat_ray.core.config import nearest_name
from hat_ray.core.yaml_text import read_mapping
from hat_ray.errors import SpaceError
from hat_ray.space.architecture import Architecture, build, choices_of
from hat_ray.space.dimension import Choice, Dimension
from hat_ray.space.dimensions import BY_NAME, DIMENSIONS
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.plain_file import printable, read_text

_SUB = "-subtransformer"
_SUPER_DEPTH, _PRE_NORM = "encoder-layers", "encoder-normalize-before"
_ALIKE = "alike-layers"
"""A key of ours, written where it is true: HAT's code passes over it."""
_SUPER_SIZES = {
    "encoder-embed-dim": "encoder_embed_dims",
    "decoder-embed-dim": "decoder_embed_dims",
    "encoder-ffn-embed-dim": "encoder_ffn_dims",
    "decoder-ffn-embed-dim": "decoder_ffn_dims",
    "encoder-layers": "encoder_depths",
    "decoder-layers": "decoder_depths",
    "encoder-attention-heads": "encoder_heads",
    "decoder-attention-heads": "decoder_self_heads",
}
"""The largest sizes, which HAT's code expects beside the choices."""


def read_architecture(text: str, source: str = "HAT YAML", qkv_dim: int = 512) -> Architecture:
    """Read a HAT SubTransformer YAML. A `qkv-dim` key in the file wins over `qkv_dim`.

    HAT: where the file names the SuperTransformer's `encoder-layers`, the skipped ones repeat the last output.
    """
    values = _mapping(text, source)
    given = _given(values, source, _sub_key)
    qkv_dim = _number(values.get("qkv-dim", qkv_dim), "qkv-dim", source)
    super_depth, pre_norm = values.get(_SUPER_DEPTH), values.get(_PRE_NORM, False)
    if type(pre_norm) is not bool:
        raise SpaceError(f"{source}: {_PRE_NORM} must be true or false, got {printable(repr(pre_norm))}")
    if super_depth is not None:
        least = _number(given["encoder_depths"], _sub_key(BY_NAME["encoder_depths"]), source)
        if _number(super_depth, _SUPER_DEPTH, source) < least:
            raise SpaceError(
                f"{source}: {_SUPER_DEPTH} must be at least the encoder's {least} layers, got {super_depth}"
            )
    return _architecture(given, source, _sub_key, qkv_dim, super_depth, pre_norm)


def write_architecture(architecture: Architecture) -> str:
    """Write a HAT SubTransformer YAML; HAT's code reads it as it is."""
    content: dict[str, Any] = {}
    for one in DIMENSIONS:
        codes = _codes(one, choices_of(architecture, one))
        if {*codes} != {one.absent}:
            content[_sub_key(one)] = codes if one.per_layer else codes[0]
    encoder = architecture.encoder
    if encoder.repeats:
        content[_SUPER_DEPTH] = encoder.depth + encoder.repeats
    if encoder.repeats_before_norm:
        content[_PRE_NORM] = True
    return yaml.safe_dump({**content, "qkv-dim": architecture.qkv_dim}, sort_keys=False, default_flow_style=None)


def architecture_from_config(
    config: Mapping[str, Mapping[str, Any]],
    qkv_dim: int,
    super_encoder_depth: int | None = None,
    normalize_before: bool = False,
) -> Architecture:
    """Read HAT's nested configuration (`{"encoder": {...}, "decoder": {...}}`, as in its checkpoints and logs).

    With `super_encoder_depth` the skipped encoder layers repeat the last output, as HAT's SuperTransformer does; with
    `normalize_before`, as a pre-norm one does.
    """
    given = {one.name: config[one.side][_config_key(one)] for one in DIMENSIONS if one.hat_key}
    return _architecture(given, "HAT configuration", _config_key, qkv_dim, super_encoder_depth, normalize_before)


def architecture_from_arguments(arguments: Mapping[str, Any]) -> Architecture:
    """Read the SubTransformer that HAT's arguments describe, as its checkpoints keep them."""
    given = {one.name: arguments[_argument(one)] for one in DIMENSIONS if one.hat_key}
    super_depth = arguments["encoder_layers"]
    pre_norm = bool(arguments.get("encoder_normalize_before"))
    return _architecture(given, "HAT arguments", _argument, arguments["qkv_dim"], super_depth, pre_norm)


def read_space(text: str, name: str, source: str = "HAT YAML") -> SearchSpace:
    """Read the search-space keys of a HAT SuperTransformer YAML; its other keys are left alone."""
    values = _mapping(text, source)
    given = _given(values, source, choice_key)
    choices = {one.name: _choices(given[one.name], one, choice_key(one), source) for one in _named(given)}
    alike = values.get(_ALIKE, False)
    if type(alike) is not bool:
        raise SpaceError(f"{source}: {_ALIKE} must be true or false, got {printable(repr(alike))}")
    return SearchSpace(name, _number(values.get("qkv-dim", 512), "qkv-dim", source), alike, **choices)


def write_space(space: SearchSpace) -> str:
    """Write the search-space keys and the super sizes that HAT's code expects beside them."""
    content: dict[str, Any] = {key: max(space.numbers(name)) for key, name in _SUPER_SIZES.items()}
    content["qkv-dim"] = space.qkv_dim
    for one in space.dimensions:
        content[choice_key(one)] = _codes(one, space[one.name])
    if space.alike_layers:
        content[_ALIKE] = True
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None)


def load_architecture(path: str | Path, qkv_dim: int = 512) -> Architecture:
    """Read an architecture from a file: HAT's YAML, or our JSON (`.json`)."""
    path = Path(path)
    text = read_text(path, "architecture file", SpaceError)
    return Architecture.from_json(text) if path.suffix == ".json" else read_architecture(text, str(path), qkv_dim)


Key = Callable[[Dimension], str]


def _sub_key(dimension: Dimension) -> str:
    return f"{dimension.yaml_key}{'-all' if dimension.per_layer else ''}{_SUB}"


def choice_key(dimension: Dimension) -> str:
    """HAT: the choices of a width are called `encoder-embed-choice`, without `dim`."""
    return f"{dimension.yaml_key.removesuffix('-dim') if dimension.field == 'embed_dim' else dimension.yaml_key}-choice"


def _config_key(dimension: Dimension) -> str:
    return dimension.yaml_key.replace("-", "_")


def _argument(dimension: Dimension) -> str:
    return _sub_key(dimension).replace("-", "_")


def _named(given: Mapping[str, Any]) -> list[Dimension]:
    return [one for one in DIMENSIONS if one.name in given]


def _given(values: Mapping[str, Any], source: str, key: Key) -> dict[str, Any]:
    """Return a file's value of each dimension; raise SpaceError for one that it must name."""
    for one in DIMENSIONS:
        if one.absent is None and key(one) not in values:
            near = nearest_name(key(one), [str(name) for name in values])
            raise SpaceError(f"{source} lacks the key {key(one)}" + (f"; it has {near}" if near else ""))
    return {one.name: values[key(one)] for one in DIMENSIONS if key(one) in values}


def _architecture(
    given: Mapping[str, Any],
    source: str,
    key: Key,
    qkv_dim: int,
    super_encoder_depth: int | None = None,
    pre_norm: bool = False,
) -> Architecture:
    """Build what was read of each dimension; layers past the depth are left out."""
    depths = {one.name: _number(given[one.name], key(one), source) for one in _named(given) if one.name == one.depths}
    if min(depths.values()) < 1:
        numbers = " and ".join(map(str, depths.values()))
        raise SpaceError(f"{source}: encoder and decoder need a layer at least, got {numbers}")
    choices: dict[str, Sequence[Choice]] = {}
    for one in _named(given):
        value, count = given[one.name], depths[one.depths] if one.per_layer else 1
        choices[one.name] = _choices(value if one.per_layer else [value], one, key(one), source, count)
    repeats = (super_encoder_depth or depths["encoder_depths"]) - depths["encoder_depths"]
    try:
        return build(choices, qkv_dim, repeats, pre_norm and repeats > 0)
    except SpaceError as error:
        raise SpaceError(f"{source}: {error}") from error


def _choices(
    value: object, dimension: Dimension, key: str, source: str, count: int | None = None
) -> tuple[Choice, ...]:
    """Read all of a file's values of a dimension, or the first `count`."""
    kind = "words" if dimension.words else "whole numbers"
    if not isinstance(value, list | tuple):
        raise SpaceError(f"{source}: {key} must be a list of {kind}, got {printable(repr(value))}")
    if dimension.words:
        broken = [rule for one in value if (rule := dimension.why_not(one))]
        if broken:
            raise SpaceError(f"{source}: {key} {printable(broken[0])}")
    choices = tuple(value) if dimension.words else tuple(_number(one, key, source) for one in value)
    if count is not None and len(choices) < count:
        raise SpaceError(f"{source}: {key} needs {count} values, one a layer, got {len(choices)}")
    return tuple(_of_code(one, dimension, source) for one in choices[:count])


def _codes(dimension: Dimension, choices: Sequence[Choice]) -> list[Choice]:
    """Return choices as HAT writes them."""
    codes: dict[Choice, Choice] = {value: code for code, value in dimension.hat_codes.items()}
    return [codes.get(choice, choice) for choice in choices]


def _of_code(code: Choice, dimension: Dimension, source: str) -> Choice:
    codes = dimension.hat_codes
    if not codes or isinstance(code, str):
        return code
    if code not in codes:
        *others, last = map(str, codes)
        meant = f"HAT's codes of {', '.join(map(str, codes.values()))}"
        raise SpaceError(f"{source}: {dimension.title} must be {', '.join(others)} or {last} ({meant}), got {code}")
    return codes[code]


def _mapping(text: str, source: str) -> dict[str, Any]:
    values: dict[str, Any] = read_mapping(text, source, SpaceError).values
    return values


def _number(value: object, key: str, source: str) -> int:
    if type(value) is not int:
        raise SpaceError(f"{source}: {key} must be a whole number, got {printable(repr(value))}")
    return value

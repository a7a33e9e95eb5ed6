"""A Marian model's settings (`special:model.yml`) as an architecture and settings of the network, and back.

Decisions
- A setting that changes the network and that hat-ray lacks is refused by name. Settings of training are not read.
- A decoder with pre-norm self-attention is not written for Marian. Marian 1.12 normalises keys and values in training,
  and no longer in decoding after the first word. Such a model of Marian's computes here what it computed in training.
- `gelu` means what the version of Marian that wrote the file computed: x * sigmoid(1.702 x) before 1.12.3, then the
  exact function. A file without a version is of no old Marian.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, cast

from hat_ray.errors import CheckpointError, SpaceError
from hat_ray.foreign.weights import require_values, whole_number
from hat_ray.model.config import Activation, ModelConfig
from hat_ray.model.transformer import ElasticTransformer
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape, own_choices_of
from hat_ray.space.dimension import MAX_DEPTH, MAX_SIZE
from hat_ray.space.dimensions import BY_NAME, CELLS, SELF_HEADS

VERSION = "v1.12.3 hat-ray"
LAYER_NORM_EPS = 1e-6
ACTIVATIONS = ("relu", "swish", "gelu")
OLD_GELU = "its gelu is x * sigmoid(1.702 x), as Marian computed it before 1.12.3; later ones decode it otherwise"

Sharing = Literal["all", "decoder", "none"]

_ONLY: Mapping[str, tuple[Any, ...]] = {
    "type": ("transformer",),
    "transformer-decoder-autoreg": ("self-attention", "rnn"),
    "transformer-attention-mask": ("default",),
    "transformer-ffn-depth": (2,),
    "transformer-decoder-ffn-depth": (0, 2),
    "transformer-postprocess-emb": ("d", ""),
    "transformer-tied-layers": ([],),
    "input-types": ([],),
    "lemma-dim-emb": (0,),
    "factors-dim-emb": (0,),
    "transformer-no-projection": (False,),
    "transformer-rnn-projection": (False,),
    "transformer-train-position-embeddings": (False,),
    "transformer-disable-position-embeddings": (False,),
    "transformer-pool": (False,),
    "transformer-no-bias": (False,),
    "transformer-no-affine": (False,),
    "alibi": (False,),
    "ulr": (False,),
    "right-left": (False,),
}
"""Settings of the network that hat-ray has in one form only. One that is missing has Marian's default, the first."""

_ONLY_RECURRENT: Mapping[str, tuple[Any, ...]] = {"dec-cell": ("ssru",), "layer-normalization": (False,)}
"""The same of recurrent decoder layers (`transformer-decoder-autoreg: rnn`); the cell must be named."""

_EXACT_GELU, _VERSION = (1, 12, 3), re.compile(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})")

_NORMS: Mapping[tuple[str, str, str], tuple[bool, bool]] = {
    ("", "an", ""): (False, True),
    ("n", "a", "n"): (True, True),
    ("n", "a", ""): (True, False),
}
"""Operations before and after a layer and after a stack, without dropout -> norms before layers, after the stack."""


@dataclass(frozen=True)
class Settings:
    """A Marian Transformer."""

    architecture: Architecture
    config: ModelConfig
    vocab_sizes: tuple[int, int]
    """Entries of the source's and the target's vocabulary, as Marian counts them."""
    output_bias: bool
    tied_source: bool = False
    """Source and target embeddings are one matrix, the output projection is another."""


def read_settings(values: Mapping[str, Any], source: str) -> Settings:
    """Read Marian's settings; raise CheckpointError for what hat-ray's network cannot compute."""
    require_values(values, _ONLY, source)
    if _is_recurrent(values):
        require_values({"dec-cell": "gru", **values}, _ONLY_RECURRENT, source)
    before, final = _norms(values, source)
    sharing, tied_source = _sharing(values)
    config = ModelConfig(
        share_embeddings=sharing,
        normalize_before=before,
        encoder_final_norm=final,
        decoder_final_norm=final,
        layer_norm_eps=LAYER_NORM_EPS,
        activation=_activation(values, source),
        positions="marian",
        start="zero",
        output_bias=True,
        unknown_words=False,
    )
    sizes = values.get("dim-vocabs")
    if not isinstance(sizes, list) or len(sizes) != 2:
        raise CheckpointError(f"{source}: dim-vocabs must name two sizes, source and target, got {sizes!r:.60}")
    named = dict(zip(("first", "second"), sizes, strict=True))
    vocab_sizes = whole_number(named, "first", 0, source), whole_number(named, "second", 0, source)
    bias = not values.get("output-omit-bias", False)
    return Settings(_architecture(values, source), config, vocab_sizes, bias, tied_source)


def settings_of(model: ElasticTransformer, vocab_sizes: tuple[int, int], name: str) -> dict[str, Any]:
    """Return Marian's settings of a model of one architecture; raise CheckpointError for what Marian cannot compute."""
    if broken := _why_not(model):
        raise CheckpointError(f"Marian's format cannot hold {name}: {broken}")
    return {
        "version": VERSION,
        "dim-vocabs": list(vocab_sizes),
        "transformer-decoder-dim-ffn": model.holds.decoder.ffn_dims[0],
        "output-omit-bias": not model.config.output_bias,
        **_FIXED,
        **_network(model.holds, model.config),
    }


def training_settings(architecture: Architecture, config: ModelConfig, name: str) -> dict[str, Any]:
    """Return the options with which Marian trains a network of this shape; raise CheckpointError where it has none.

    They are those of Marian's command line, in the order of its help. What Marian has in one form only is its own:
    positions, the decoder's first input, the norms' epsilon. Self-attention in the decoder is post-norm, which Marian
    decodes as it trains it.
    """
    if broken := _first_broken(_rules_of_shape(architecture), _rules_of_network(config)):
        raise CheckpointError(f"Marian cannot train {name}: {broken}")
    if is_decoded_otherwise(architecture, config):
        config = config.model_copy(update={"normalize_before": False})
    found = _network(architecture, config)
    if (ffn := architecture.decoder.ffn_dims[0]) != found["transformer-dim-ffn"]:
        found["transformer-decoder-dim-ffn"] = ffn
    return {key: value for key, value in found.items() if value not in (False, "")}


def is_decoded_otherwise(architecture: Architecture, config: ModelConfig) -> bool:
    """Return whether Marian's decoder computes another network than its training: pre-norm self-attention."""
    return config.normalize_before and "attention" in architecture.cells


def _network(architecture: Architecture, config: ModelConfig) -> dict[str, Any]:
    """Return the settings that a shape and a configuration decide, but for the decoder's feed-forward width."""
    encoder, pre_norm = architecture.encoder, config.normalize_before
    recurrent = {"transformer-decoder-autoreg": "rnn", "dec-cell": "ssru"} if "ssru" in architecture.cells else {}
    return {
        "type": "transformer",
        "dim-emb": encoder.embed_dim,
        "enc-depth": encoder.depth,
        "dec-depth": architecture.decoder.depth,
        "tied-embeddings": config.share_embeddings == "decoder",
        "tied-embeddings-src": False,
        "tied-embeddings-all": config.share_embeddings == "all",
        "transformer-heads": encoder.heads[0],
        "transformer-dim-ffn": encoder.ffn_dims[0],
        "transformer-ffn-activation": config.activation,
        **recurrent,
        "transformer-preprocess": "n" if pre_norm else "",
        "transformer-postprocess-emb": "d",
        "transformer-postprocess": "da" if pre_norm else "dan",
        "transformer-postprocess-top": "n" if config.encoder_final_norm and pre_norm else "",
    }


_FIXED: Mapping[str, Any] = {
    **{name: accepted[0] for name, accepted in _ONLY.items() if name not in ("type", "transformer-postprocess-emb")},
    "transformer-dim-aan": 2048,
    "transformer-aan-depth": 2,
    "transformer-aan-activation": "swish",
    "transformer-aan-nogate": False,
    "skip": False,
    "layer-normalization": False,
}
"""What Marian wants to find, although these models do not use it."""


_Rules = tuple[tuple[bool, str], ...]
"""Whether a rule holds, and it in words with the value that breaks it."""


def _first_broken(*rules: _Rules) -> str | None:
    return next((words for holds, words in chain(*rules) if not holds), None)


def _why_not(model: ElasticTransformer) -> str | None:
    """Return in words what of a trained model Marian's Transformer lacks; None when it has everything."""
    config, dims = model.config, (model.holds.encoder.embed_dim, model.holds.decoder.embed_dim)
    of_weights = (
        (config.positions == "marian", f"model.positions must be marian, got {config.positions}"),
        (config.start == "zero", f"model.start must be zero, got {config.start}"),
        (config.scale_embeddings, "model.scale_embeddings must be true"),
        (
            config.layer_norm_eps == LAYER_NORM_EPS,
            f"model.layer_norm_eps must be {LAYER_NORM_EPS}, got {config.layer_norm_eps}",
        ),
        (config.sharing != "importance", "model.sharing=importance orders the positions, which Marian cannot"),
        (
            model.super_dims == dims,
            f"its positions are those of a SuperTransformer of width {max(model.super_dims)}: train it by itself",
        ),
    )
    return _first_broken(of_weights, _rules_of_network(config), _rules_of_shape(model.holds))


def _rules_of_network(config: ModelConfig) -> _Rules:
    return (
        (config.activation in ACTIVATIONS, f"model.activation must be one of {', '.join(ACTIVATIONS)}"),
        (
            config.encoder_final_norm == config.decoder_final_norm or not config.normalize_before,
            "both stacks or neither must end in a norm",
        ),
    )


def _rules_of_shape(architecture: Architecture) -> _Rules:
    encoder, decoder, width = architecture.encoder, architecture.decoder, architecture.qkv_dim
    heads = {*encoder.heads, *own_choices_of(architecture, BY_NAME[SELF_HEADS]), *decoder.cross_heads}
    cells = architecture.cells
    return (
        (
            encoder.embed_dim == decoder.embed_dim == width,
            f"encoder, decoder and attention must have one width, got {encoder.embed_dim}, {decoder.embed_dim} and "
            f"{width}",
        ),
        (len({*cells}) == 1, f"all decoder layers must have one cell, got {', '.join(map(str, cells))}"),
        (len(heads) == 1, f"all attentions must have one number of heads, got {_numbers(heads)}"),
        (len({*encoder.ffn_dims}) == 1, f"encoder layers must have one feed-forward width, got {encoder.ffn_dims}"),
        (len({*decoder.ffn_dims}) == 1, f"decoder layers must have one feed-forward width, got {decoder.ffn_dims}"),
        (
            {*decoder.cross_layers} == {1},
            f"decoder layers must attend to the last encoder layer alone, got {_reach(decoder)}",
        ),
    )


def _architecture(values: Mapping[str, Any], source: str) -> Architecture:
    def size(name: str, default: int) -> int:
        return whole_number(values, name, default, source, most=MAX_SIZE)

    width, heads, ffn = size("dim-emb", 512), size("transformer-heads", 8), size("transformer-dim-ffn", 2048)
    encoder, decoder = (whole_number(values, name, 1, source, most=MAX_DEPTH) for name in ("enc-depth", "dec-depth"))
    decoder_ffn = size("transformer-decoder-dim-ffn", 0) if values.get("transformer-decoder-dim-ffn") else ffn
    try:
        return Architecture(
            EncoderShape(width, (ffn,) * encoder, (heads,) * encoder),
            DecoderShape(width, (decoder_ffn,) * decoder, *((heads,) * decoder,) * 2, (1,) * decoder),
            width,
            ((CELLS, ("ssru",) * decoder),) if _is_recurrent(values) else (),
        )
    except SpaceError as error:
        raise CheckpointError(f"{source} is no Transformer of sizes that hat-ray has: {error}") from error


def _is_recurrent(values: Mapping[str, Any]) -> bool:
    return values.get("transformer-decoder-autoreg") == "rnn"


def _norms(values: Mapping[str, Any], source: str) -> tuple[bool, bool]:
    names = ("transformer-preprocess", "transformer-postprocess", "transformer-postprocess-top")
    given = tuple(str(values.get(name, default)) for name, default in zip(names, ("", "dan", ""), strict=True))
    found = cast(tuple[str, str, str], tuple(one.replace("d", "") for one in given))
    if found not in _NORMS:
        raise CheckpointError(
            f"{source}: {', '.join(names)} must be '', 'dan', '' (post-norm) or 'n', 'da', 'n' (pre-norm), "
            f"got {', '.join(map(repr, given))[:60]}"
        )
    return _NORMS[found]


def _sharing(values: Mapping[str, Any]) -> tuple[Sharing, bool]:
    """Return the embeddings that are one matrix, and whether source and target are one that is not the output's."""
    target, source = bool(values.get("tied-embeddings")), bool(values.get("tied-embeddings-src"))
    if values.get("tied-embeddings-all") or (target and source):
        return "all", False
    return ("decoder", False) if target else ("none", source)


def _activation(values: Mapping[str, Any], source: str) -> Activation:
    found = values.get("transformer-ffn-activation", "swish")
    if found not in ACTIVATIONS:
        raise CheckpointError(
            f"{source}: transformer-ffn-activation must be {', '.join(ACTIVATIONS)}, got {found!r:.60}"
        )
    version = _VERSION.match(str(values.get("version", "")))
    if found == "gelu" and version and tuple(map(int, version.groups())) < _EXACT_GELU:
        return "gelu_sigmoid"
    return cast(Activation, found)


def _numbers(values: set[Any]) -> str:
    return ", ".join(map(str, sorted(values)))


def _reach(decoder: DecoderShape) -> str:
    return ", ".join(map(str, decoder.cross_layers))

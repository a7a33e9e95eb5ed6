"""The fixed parts of a network, as fairseq's arguments name them: honoured, or refused by the argument's name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from hat_ray.errors import CheckpointError
from hat_ray.model.config import Activation, ModelConfig, PositionKind

if TYPE_CHECKING:  # a recipe is imported without PyTorch
    from torch import Tensor

_ACTIVATIONS: Mapping[str, Activation] = {
    **{"relu": "relu", "gelu": "gelu", "gelu_accurate": "gelu_tanh", "gelu_fast": "gelu_tanh"},
    "swish": "swish",
}
LACKED: Mapping[str, str] = {
    "adaptive_softmax_cutoff": "an adaptive softmax",
    "adaptive_input": "adaptive input embeddings",
    "tie_adaptive_weights": "adaptive weights",
    "layernorm_embedding": "a norm of the embeddings",
    "vocab_original_scaling": "embeddings that are scaled by the super width at every sampled width",
    "no_cross_attention": "a decoder without attention to the encoder",
    "cross_self_attention": "attention to encoder and decoder at once",
    "char_inputs": "embeddings of characters",
    "character_embeddings": "embeddings of characters",
    "max_relative_length": "relative positions",
    "encoder_layers_to_keep": "layers left out of the weights",
    "decoder_layers_to_keep": "layers left out of the weights",
    **dict.fromkeys(("scale_attn", "scale_fc", "scale_heads", "scale_resids"), "NormFormer's scales"),
    **dict.fromkeys(("base_layers", "moe_freq"), "layers of experts"),
}
"""What an argument asks for and hat-ray's network does not have."""
_ABSENT: tuple[Any, ...] = (None, False, 0, -1, "", [], ())
_EQUAL = (
    ("encoder_normalize_before", "decoder_normalize_before", "norms before the layers on both sides or on neither"),
    ("encoder_learned_pos", "decoder_learned_pos", "learned positions on both sides or on neither"),
    ("decoder_output_dim", "decoder_embed_dim", "an output projection of the decoder's own width"),
    ("decoder_input_dim", "decoder_embed_dim", "embeddings of the decoder's own width"),
)
"""Pairs of arguments that must agree, where both are there, and the rule that this keeps."""
_POSITIONS = "max_source_positions", "max_target_positions"
_DEFAULT_POSITIONS = 1024
_MOST_SINUSOIDS = 1 << 13
"""Sinusoids are computed, not read: no file decides how much memory they take."""


def network_from_arguments(arguments: Mapping[str, Any], state: Mapping[str, "Tensor"], source: str) -> ModelConfig:
    """Read what the arguments ask of a network; raise CheckpointError for what hat-ray's network lacks."""
    return ModelConfig(
        **network_settings(arguments, state, source),
        dropout=arguments.get("dropout", 0.1),
        attention_dropout=arguments.get("attention_dropout", 0.0),
        activation_dropout=arguments.get("activation_dropout", 0.0) or arguments.get("relu_dropout", 0.0),
    )


def network_settings(arguments: Mapping[str, Any], state: Mapping[str, "Tensor"], source: str) -> dict[str, Any]:
    """Return the settings of a network, by their names in `ModelConfig`, without those of training."""
    _require_known(arguments, source)
    dropped = bool(arguments.get("no_decoder_final_norm"))
    kind: PositionKind = "fairseq"
    if arguments.get("no_token_positional_embeddings"):
        kind = "none"
    elif arguments.get("encoder_learned_pos"):
        kind = "learned"
    return {
        "share_embeddings": _sharing(arguments),
        "normalize_before": bool(arguments.get("encoder_normalize_before")),
        # fairseq: models of earlier versions have no norm after their layers
        "encoder_final_norm": _version(state, "encoder") >= 2,
        "decoder_final_norm": not dropped and _version(state, "decoder") > 2,
        "activation": _ACTIVATIONS[arguments.get("activation_fn") or "relu"],
        "positions": kind,
        "scale_embeddings": not arguments.get("no_scale_embedding"),
        "max_positions": _positions(arguments, kind, source),
    }


def _require_known(arguments: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError, with the argument's name, for each part of a network that hat-ray's lacks."""
    for name, part in LACKED.items():
        if arguments.get(name) not in _ABSENT:
            raise CheckpointError(
                f"{source}: {_option(name)} asks for {part}, which hat-ray's network lacks: name a model without it"
            )
    for one, other, rule in _EQUAL:
        values = arguments.get(one), arguments.get(other)
        if None not in values and values[0] != values[1]:
            raise CheckpointError(
                f"{source}: hat-ray's network has {rule}, got {_option(one)} {values[0]!r:.40} and "
                f"{_option(other)} {values[1]!r:.40}: name a model whose sides agree"
            )
    activation = arguments.get("activation_fn") or "relu"
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise CheckpointError(
            f"{source}: --activation-fn must be {', '.join(_ACTIVATIONS)}, got {activation!r:.40}: "
            "name a model with one of these"
        )


def require_shared(config: ModelConfig, state: Mapping[str, "Tensor"], source: str) -> None:
    """Raise CheckpointError where the arguments share an embedding that the weights hold twice, and not alike."""
    ours, theirs = (state.get(f"{side}.embed_tokens.weight") for side in ("encoder", "decoder"))
    if config.share_embeddings != "all" or ours is None or theirs is None:
        return
    if ours.shape != theirs.shape or not bool((ours == theirs).all()):
        raise CheckpointError(
            f"{source}: --share-all-embeddings needs one embedding for both sides, encoder.embed_tokens.weight and "
            "decoder.embed_tokens.weight differ: it is damaged or its arguments are another model's"
        )


def _sharing(arguments: Mapping[str, Any]) -> Literal["all", "decoder", "none"]:
    if arguments.get("share_all_embeddings"):
        return "all"
    return "decoder" if arguments.get("share_decoder_input_output_embed") else "none"


def _positions(arguments: Mapping[str, Any], kind: PositionKind, source: str) -> int:
    """Return the number of positions; raise CheckpointError where that of learned ones differs between the sides."""
    counts = [_DEFAULT_POSITIONS if arguments.get(name) is None else arguments[name] for name in _POSITIONS]
    for name, count in zip(_POSITIONS, counts, strict=True):
        if type(count) is not int or count < 1:
            raise CheckpointError(f"{source}: {_option(name)} must be a whole number from 1 on, got {count!r:.40}")
    if kind != "learned":
        return min(max(counts), _MOST_SINUSOIDS)
    if counts[0] != counts[1]:
        raise CheckpointError(
            f"{source}: hat-ray's network has one number of learned positions, got --max-source-positions "
            f"{counts[0]} and --max-target-positions {counts[1]}: name a model whose sides agree"
        )
    return counts[0]


def _version(state: Mapping[str, "Tensor"], side: str) -> float:
    """Return the version of fairseq's layers that a side of the network was written with."""
    found = state.get(f"{side}.version")
    return 3.0 if found is None or found.numel() != 1 else float(found)


def _option(argument: str) -> str:
    return f"--{argument.replace('_', '-')}"

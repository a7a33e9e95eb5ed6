"""HAT's (fairseq's) checkpoints, read without executing anything from the file.

A HAT `.pt` file is a pickle with an argparse Namespace and fairseq's meter objects beside the tensors. What it claims
is held against what stands in the file (`pickle_scan`); then it goes through PyTorch's weights-only unpickler with
inert stand-ins for those few names; any other name in it is refused.
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch

from hat_ray.errors import CheckpointError, SpaceError, in_one_line
from hat_ray.model.checkpoints.claims import first_line, listed, require_floats, require_room
from hat_ray.model.checkpoints.fairseq_network import network_from_arguments, require_shared
from hat_ray.model.checkpoints.fairseq_plain import arguments_of, is_plain, with_choices, with_hats_names
from hat_ray.model.checkpoints.native import assign_weights
from hat_ray.model.checkpoints.pickle_scan import METERS, check_file
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.architecture import Architecture
from hat_ray.space.dimension import MAX_DEPTH, MAX_SIZE
from hat_ray.space.dimensions import HAT_CROSS_LAYERS
from hat_ray.space.hat_yaml import architecture_from_arguments
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.plain_file import open_plain


class _Meter:
    """Stands in for fairseq's running averages; holds the file's values and does nothing."""


_SIZES = ("encoder_embed_dim", "decoder_embed_dim", "encoder_ffn_embed_dim", "decoder_ffn_embed_dim", "qkv_dim")
_DEPTHS = ("encoder_layers", "decoder_layers")
_LARGEST = {
    "encoder_embed_dim": "encoder_embed_dims",
    "decoder_embed_dim": "decoder_embed_dims",
    "encoder_ffn_embed_dim": "encoder_ffn_dims",
    "decoder_ffn_embed_dim": "decoder_ffn_dims",
    "encoder_layers": "encoder_depths",
    "decoder_layers": "decoder_depths",
}
"""The dimension that each of HAT's super sizes is the largest choice of."""
_HAT_ATTENDS = 2
"""Encoder layers that HAT's representative architectures attend to (its code 1)."""
_NO_PARAMETER = (".version", "._float_tensor", ".embed_positions.weights")
"""Endings of what fairseq keeps beside the parameters."""


@dataclass(frozen=True)
class HatCheckpoint:
    """A HAT model. `architecture` is set where the file is one SubTransformer inside its SuperTransformer's shapes.

    fairseq's plain Transformer is the one architecture of its space.
    """

    space: SearchSpace
    model: SuperTransformer
    architecture: Architecture | None
    updates: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What HAT's training was called with, as the file has it."""
    valid_loss_bits: float | None = None
    """The validation loss that the file notes, of HAT's smallest architecture (`hat_smallest`); None: it notes none."""


def load_hat_checkpoint(path: str | Path, space: SearchSpace | None = None) -> HatCheckpoint:
    """Read a checkpoint that HAT's code wrote; raises CheckpointError for anything else, and for unsafe content.

    `space` names the choices in place of the file's own; its largest sizes must be the file's.
    """
    content = read_pickle_safely(path)
    if not isinstance(content, dict) or not {"args", "cfg"} & content.keys() or "model" not in content:
        raise CheckpointError(f"{path} is not a HAT checkpoint: it lacks `args` or `model`")
    arguments = arguments_of(content, str(path))
    history = content.get("optimizer_history")
    last = history[-1] if isinstance(history, list) and history else None
    updates = last.get("num_updates") if isinstance(last, dict) else None
    updates = updates if isinstance(updates, int) else 0
    read = model_from_state(content["model"], arguments, str(path), updates, space)
    state = content.get("extra_state")
    noted = state.get("val_loss") if isinstance(state, dict) else None
    return replace(read, valid_loss_bits=noted if isinstance(noted, float) and math.isfinite(noted) else None)


def read_pickle_safely(path: str | Path) -> Any:
    """Unpickle tensors, plain containers, a Namespace and fairseq's meters; refuse everything else in one line."""
    try:
        with open_plain(path, "the checkpoint", CheckpointError) as file:
            return _unpickled(file)
    except (CheckpointError, OSError):  # an OSError is a fault of the disk, not of the file
        raise
    except Exception as error:  # PyTorch's reader raises whatever a damaged file makes of it
        reason = in_one_line(error, 1 << 10)
        what = f"it asks for code: {reason[reason.index('GLOBAL') :]}" if "GLOBAL" in reason else reason
        raise CheckpointError(f"{path} is not a safe checkpoint and was not loaded ({what[:160]})") from error


def _unpickled(file: BinaryIO) -> Any:
    check_file(file)
    file.seek(0)
    with torch.serialization.safe_globals([argparse.Namespace, *((_Meter, name) for name in METERS)]):
        return torch.load(file, map_location="cpu", weights_only=True)


def model_from_state(
    state: Mapping[str, torch.Tensor],
    arguments: Mapping[str, Any],
    source: str,
    updates: int = 0,
    space: SearchSpace | None = None,
) -> HatCheckpoint:
    """Build a SuperTransformer from HAT's state dict and arguments, once the weights are known to be there."""
    try:
        require_floats(state, source)
        if plain := is_plain(arguments):
            arguments, state = with_choices(arguments, source), with_hats_names(state, arguments)
        _require_sizes(arguments, source)
        if space is None:
            space = space_from_arguments(arguments, Path(source).stem)
        else:
            _require_largest(space, arguments, source)
        vocab = state["encoder.embed_tokens.weight"].shape[0], state["decoder.embed_tokens.weight"].shape[0]
        config, architecture = network_from_arguments(arguments, state, source), _architecture(arguments)
        architecture = space.largest() if plain else architecture
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError, SpaceError) as error:  # of tensors, too
        raise CheckpointError(f"{source} is not a HAT Transformer checkpoint: {first_line(error)}") from error
    require_shared(config, state, source)
    require_room(space.largest(), vocab, config, state, source)
    model = SuperTransformer(space, vocab[0], config, target_vocab_size=vocab[1])
    assign_weights(model, state, source)
    _require_no_others(model, state, source)
    return HatCheckpoint(space, model.eval(), architecture, updates, dict(arguments))


def _require_sizes(arguments: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError for sizes that are none, before anything as large is made."""
    for key in (*_SIZES, *_DEPTHS):
        value, most = arguments[key], MAX_DEPTH if key in _DEPTHS else MAX_SIZE
        if type(value) is not int or not 1 <= value <= most:
            raise CheckpointError(f"{source}: {key} must be a whole number from 1 to {most}, got {value!r:.40}")


def hat_smallest(space: SearchSpace) -> Architecture | None:
    """Return the architecture whose validation loss HAT notes: the smallest, which attends to the last two layers.

    None where the space has no such one.
    """
    if _HAT_ATTENDS not in space["decoder_cross_layers"]:
        return None
    return space.replaced(decoder_cross_layers=(_HAT_ATTENDS,)).smallest()


def _require_largest(space: SearchSpace, arguments: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError for a space whose largest sizes are not those of the weights."""
    for key, dimension in _LARGEST.items():
        most = max(space.numbers(dimension))
        if most != arguments[key]:
            raise CheckpointError(
                f"{source}: the largest of {dimension} must be the checkpoint's {key} {arguments[key]}, space "
                f"{space.name} has {most}: name the space that it was trained on"
            )
    if space.qkv_dim != arguments["qkv_dim"]:
        raise CheckpointError(
            f"{source}: qkv_dim must be the checkpoint's {arguments['qkv_dim']}, space {space.name} has "
            f"{space.qkv_dim}: name the space that it was trained on"
        )


def _require_no_others(model: SuperTransformer, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Raise CheckpointError for weights that this model would leave unused."""
    known = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    others = [name for name in state if name not in known and not name.endswith(_NO_PARAMETER)]
    if others:
        raise CheckpointError(f"{source} has weights that HAT's Transformer lacks: {listed(others)}")


def space_from_arguments(arguments: Mapping[str, Any], name: str) -> SearchSpace:
    """Read the search space from HAT's arguments, widened where needed to the super sizes that the weights have."""
    encoder_depth, decoder_depth = arguments["encoder_layers"], arguments["decoder_layers"]
    return SearchSpace(
        name=name,
        encoder_embed_dims=_choices(arguments, "encoder_embed_choice", arguments["encoder_embed_dim"]),
        encoder_depths=_choices(arguments, "encoder_layer_num_choice", encoder_depth),
        encoder_ffn_dims=_choices(arguments, "encoder_ffn_embed_dim_choice", arguments["encoder_ffn_embed_dim"]),
        encoder_heads=tuple(arguments["encoder_self_attention_heads_choice"]),
        decoder_embed_dims=_choices(arguments, "decoder_embed_choice", arguments["decoder_embed_dim"]),
        decoder_depths=_choices(arguments, "decoder_layer_num_choice", decoder_depth),
        decoder_ffn_dims=_choices(arguments, "decoder_ffn_embed_dim_choice", arguments["decoder_ffn_embed_dim"]),
        decoder_self_heads=tuple(arguments["decoder_self_attention_heads_choice"]),
        decoder_cross_heads=tuple(arguments["decoder_ende_attention_heads_choice"]),
        decoder_cross_layers=tuple(HAT_CROSS_LAYERS[code] for code in arguments["decoder_arbitrary_ende_attn_choice"]),
        qkv_dim=arguments["qkv_dim"],
    )


def _choices(arguments: Mapping[str, Any], key: str, largest: int) -> tuple[int, ...]:
    """Choices that fit in the weights, with the weights' own size among them.

    HAT's SubTransformer checkpoints keep the super's weights, but their arguments hold the code's default choices,
    some of them larger than the weights.
    """
    choices = tuple(choice for choice in arguments[key] if choice <= largest)
    return choices if largest in choices else (largest, *choices)


def _architecture(arguments: Mapping[str, Any]) -> Architecture | None:
    """Read the one architecture that a SubTransformer checkpoint was trained as."""
    if not arguments.get("encoder_embed_dim_subtransformer"):
        return None
    return architecture_from_arguments(arguments)

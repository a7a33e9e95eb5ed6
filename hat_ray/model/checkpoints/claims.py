"""A model's description, compared with its weights before a model of that size is made."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hat_ray.errors import CheckpointError, in_one_line
from hat_ray.model.config import ModelConfig
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_params

MOST_OF_POSITIONS = 1 << 28
"""Numbers in the table of positions: it is computed, not stored, so the weights do not bound it."""
_LISTED = 3
"""Names of weights in one message."""


def require_floats(state: object, source: str) -> None:
    """Raise CheckpointError unless every weight is a dense tensor of floating-point numbers under a name."""
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{source}: the weights must be a dictionary, got {type(state).__name__}")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{source}: each weight must be a tensor with a name, got {name!r:.80}")
        if tensor.layout != torch.strided or not tensor.is_floating_point():
            raise CheckpointError(f"{source}: {name:.80} must be dense floating-point numbers, got {tensor.dtype}")


def require_room(
    holds: Architecture,
    vocab_sizes: tuple[int, int],
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    source: str,
    super_dims: tuple[int, int] = (1, 1),
) -> None:
    """Raise CheckpointError when a model would be larger than the weights that are there for it."""
    widths = (holds.encoder.embed_dim, holds.decoder.embed_dim, *super_dims)
    if max(widths) * config.max_positions > MOST_OF_POSITIONS:
        raise CheckpointError(
            f"{source}: its widths times max_positions must be at most {MOST_OF_POSITIONS}, "
            f"got {max(widths)} times {config.max_positions}"
        )
    needed = count_params(holds) + _embeddings(holds, vocab_sizes, config)
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in weights.values() if tensor.numel()}
    there = sum(tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in storages.values())
    if needed > there:
        raise CheckpointError(
            f"{source}: the model that it describes has {needed} parameters, its weights hold {there}: "
            "it is damaged or from another model"
        )


def listed(names: Sequence[str]) -> str:
    """Return the first names of weights, and how many there are more, in one bounded line."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(f"{name:.80}" for name in names[:_LISTED]) + more


def first_line(error: BaseException) -> str:
    """Return an exception's text in one bounded line."""
    reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    return in_one_line(reason) or type(error).__name__


def _embeddings(holds: Architecture, vocab_sizes: tuple[int, int], config: ModelConfig) -> int:
    source, target = vocab_sizes
    encoder, decoder = holds.encoder.embed_dim, holds.decoder.embed_dim
    others = config.max_positions * (encoder + decoder) if config.positions == "learned" else 0
    others += target * config.output_bias
    if config.share_embeddings == "all":
        return source * max(encoder, decoder) + others
    return source * encoder + target * decoder * (2 if config.share_embeddings == "none" else 1) + others

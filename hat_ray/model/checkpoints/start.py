"""A trained model's weights as the start of a SuperTransformer.

Decisions
- The largest architecture of the space keeps the model's widths, so that it computes what the model computes where it
  also has the model's layers and heads. Fewer layers are the model's first ones.
- Hidden units are sorted by importance, which changes nothing but lets slices hold the best of a layer; with
  model.sharing=importance so are the widths' channels, with their positions. With `middle` nothing is sorted.
- Hidden units that the model lacks begin with outgoing weights of zero: the network is the same, and they learn.
- What cannot be the same network is refused with the settings that would make it so.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from hat_ray.errors import CheckpointError
from hat_ray.model.channels import ChannelOrder, channel_importance, require_sortable
from hat_ray.model.config import ModelConfig
from hat_ray.model.embedding import Positions
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.model.transformer import ElasticTransformer
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace

_OF_TRAINING = {"dropout", "attention_dropout", "activation_dropout", "sharing", "max_positions"}
"""Settings that change no output of a trained model."""


def started_from(
    model: ElasticTransformer, space: SearchSpace, config: ModelConfig, vocab_sizes: tuple[int, int], seed: int = 0
) -> SuperTransformer:
    """Return the SuperTransformer of a space with a trained model's weights; raise CheckpointError where none can be.

    The message starts with what differs, for a caller that names the model.
    """
    reasons = list(why_not_started(model, space, config, vocab_sizes))
    if reasons:
        raise CheckpointError("; ".join(reasons))
    made = SuperTransformer(space, vocab_sizes[0], config, target_vocab_size=vocab_sizes[1], seed=seed)
    order = _order(model, config)
    weights = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name in weights:
                _take(name, parameter, order.apply(name, weights[name].detach()))
            elif name.endswith("embed_positions.order"):  # the model's channels stand as they are
                parameter.copy_(order.apply(name, parameter))
    return made


def why_not_started(
    model: ElasticTransformer, space: SearchSpace, config: ModelConfig, vocab_sizes: tuple[int, int] | None
) -> Iterator[str]:
    """Yield each reason why a model cannot be the start of a space's SuperTransformer, with its remedy.

    `vocab_sizes` are those of source and target; None: not known yet.
    """
    yield from _other_settings(model.config, config)
    yield from _other_shape(model.holds, space)
    own = model.source_vocab_size, model.target_vocab_size
    if vocab_sizes is not None and own != vocab_sizes:
        yield (
            f"the corpus's vocabulary must be the model's, of {own[0]} source and {own[1]} target entries, got "
            f"{vocab_sizes[0]} and {vocab_sizes[1]}: name the model's vocabulary in corpus.vocabulary"
        )
    if not _same_positions(model, config):
        yield (
            f"its positions must be those of its own widths, got model.sharing={model.config.sharing} in a network of "
            f"widths {model.super_dims[0]} and {model.super_dims[1]}: start from the SuperTransformer that it comes "
            "from, with the same model.sharing"
        )


def network_settings(config: ModelConfig) -> dict[str, object]:
    """Return the settings of a trained model's network that are not the usual ones."""
    usual = ModelConfig()
    names = [name for name in ModelConfig.model_fields if name not in _OF_TRAINING]
    found = {name: getattr(config, name) for name in names if getattr(config, name) != getattr(usual, name)}
    if config.positions == "learned":
        found["max_positions"] = config.max_positions
    return found


def _other_settings(own: ModelConfig, asked: ModelConfig) -> Iterator[str]:
    names = [name for name in ModelConfig.model_fields if name not in _OF_TRAINING]
    other = [
        f"model.{name}={_yaml(getattr(own, name))}" for name in names if getattr(own, name) != getattr(asked, name)
    ]
    if own.positions == asked.positions == "learned" and own.max_positions != asked.max_positions:
        other.append(f"model.max_positions={own.max_positions}")
    if other:
        yield f"the network's settings must be the model's: set {', '.join(other)}"


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _other_shape(holds: Architecture, space: SearchSpace) -> Iterator[str]:
    largest = space.largest()
    same = (
        ("space.qkv_dim", holds.qkv_dim, largest.qkv_dim),
        ("the largest of space.encoder_embed_dims", holds.encoder.embed_dim, largest.encoder.embed_dim),
        ("the largest of space.decoder_embed_dims", holds.decoder.embed_dim, largest.decoder.embed_dim),
    )
    for key, own, asked in same:
        if own != asked:
            yield f"{key} must be the model's, {own}, got {asked}: set it (`hat-ray space around MODEL` writes a space)"
    for side, own, asked in (
        ("encoder", holds.encoder.depth, largest.encoder.depth),
        ("decoder", holds.decoder.depth, largest.decoder.depth),
    ):
        if asked > own:
            yield f"space.{side}_depths must be at most the model's {own} layers, got {asked}: lower it"


def _same_positions(model: ElasticTransformer, config: ModelConfig) -> bool:
    """Return whether a model adds to its embeddings what a SuperTransformer of its widths adds."""
    kept = model.config.sharing == "importance" == config.sharing
    sides = ((model.encoder, model.holds.encoder.embed_dim), (model.decoder, model.holds.decoder.embed_dim))
    for side, dim in sides:
        own = side.embed_positions
        if own.weight is not None or model.config.positions == "none":
            continue
        if kept and own.table.shape[1] == dim:
            continue
        fresh = Positions(dim, 8, dim, "front", model.config.positions).table
        if not torch.equal(own.columns(dim)[: len(fresh)], fresh):
            return False
    return True


def _order(model: ElasticTransformer, config: ModelConfig) -> ChannelOrder:
    """Return the order that puts the most important channels first, of those that may be sorted."""
    if config.sharing == "middle":
        return ChannelOrder({})
    importance = channel_importance(model)
    if config.sharing == "importance":
        require_sortable(config, (model.holds.encoder.embed_dim, model.holds.decoder.embed_dim))
    else:  # a width's channels belong to their positions
        importance = {group: total for group, total in importance.items() if "." in group}
    return ChannelOrder({group: total.argsort(descending=True, stable=True) for group, total in importance.items()})


def _take(name: str, parameter: Tensor, weight: Tensor) -> None:
    """Copy a weight into a parameter that may hold fewer or more hidden units, or positions."""
    part = tuple(slice(0, min(pair)) for pair in zip(parameter.shape, weight.shape, strict=True))
    if name.endswith("fc2.weight"):
        parameter.zero_()
    parameter[part] = weight[part].to(parameter.dtype)

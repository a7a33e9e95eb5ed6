"""Models on disk: weights as safetensors, everything else as JSON beside them. No code is ever read from a file."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import safetensors.torch
import torch
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor

from hat_ray.core.codec import read, write
from hat_ray.errors import CheckpointError, SpaceError
from hat_ray.model.checkpoints.claims import first_line, listed, require_room
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.model.transformer import ElasticTransformer
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder

_ILL_FORMED = (LookupError, TypeError, AttributeError, ValueError, SpaceError)


_Size = Annotated[int, Field(ge=1, strict=True)]


@dataclass(frozen=True)
class _Description:
    """Content of a model's JSON file."""

    kind: Literal["super", "sub"]
    source_vocab_size: _Size
    target_vocab_size: _Size
    super_dims: tuple[_Size, _Size]
    config: ModelConfig
    sha256: str
    """Of the weights."""
    space: dict[str, Any] | None = None
    architecture: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """A training's notes on the model, for people."""

    def __post_init__(self) -> None:
        if (self.space if self.kind == "super" else self.architecture) is None:
            raise ValueError(f"a {self.kind} model names its {'space' if self.kind == 'super' else 'architecture'}")


def save_model(
    folder: Folder, name: str, model: SuperTransformer | SubTransformer, extra: Mapping[str, Any] | None = None
) -> None:
    """Write `<name>.safetensors`, then `<name>.json` with the weights' SHA-256; `extra` is kept in the JSON."""
    content = safetensors.torch.save({key: tensor.cpu().contiguous() for key, tensor in model.weights().items()})
    description = _Description(
        kind="super" if isinstance(model, SuperTransformer) else "sub",
        space=model.space.to_dict() if isinstance(model, SuperTransformer) else None,
        architecture=model.architecture.to_dict() if isinstance(model, SubTransformer) else None,
        source_vocab_size=model.source_vocab_size,
        target_vocab_size=model.target_vocab_size,
        super_dims=model.super_dims,
        config=model.config,
        sha256=hashlib.sha256(content).hexdigest(),
        extra=dict(extra or {}),
    )
    folder.write_bytes(f"{name}.safetensors", content)
    write(folder, f"{name}.json", description)


def weights_digest(folder: Folder, name: str) -> str:
    """Return the SHA-256 of the weights of a model that `save_model` wrote, as its JSON states it."""
    return read(folder, f"{name}.json", _Description).sha256


def load_super(folder: Folder, name: str) -> SuperTransformer:
    """Read a SuperTransformer that `save_model` wrote; raises CheckpointError when it is damaged or something else."""
    return _super(*_read(folder, name, "super"), f"{folder}/{name}")


def load_sub(folder: Folder, name: str) -> SubTransformer:
    """Read a SubTransformer that `save_model` wrote; raises CheckpointError when it is damaged or something else."""
    return _sub(*_read(folder, name, "sub"), f"{folder}/{name}")


def load_any(folder: Folder, name: str) -> SuperTransformer | SubTransformer:
    """Read a model of either kind that `save_model` wrote; raises CheckpointError when it is damaged."""
    description, weights = _read(folder, name, None)
    made = _super if description.kind == "super" else _sub
    return made(description, weights, f"{folder}/{name}")


def read_sub_architecture(folder: Folder, name: str) -> Architecture:
    """Read the architecture of a SubTransformer that `save_model` wrote, without its weights."""
    return _architecture(read(folder, f"{name}.json", _Description), f"{folder}/{name}")


def _super(description: _Description, weights: Mapping[str, Tensor], source: str) -> SuperTransformer:
    try:
        space = SearchSpace.from_dict(description.space or {})
    except _ILL_FORMED as error:
        raise CheckpointError(f"{source}.json does not describe a model: {first_line(error)}") from error
    vocab = description.source_vocab_size, description.target_vocab_size
    require_room(space.largest(), vocab, description.config, weights, source, description.super_dims)
    model = SuperTransformer(space, vocab[0], description.config, target_vocab_size=vocab[1])
    assign_weights(model, weights, source)
    return model


def _sub(description: _Description, weights: Mapping[str, Tensor], source: str) -> SubTransformer:
    architecture = _architecture(description, source)
    vocab = description.source_vocab_size, description.target_vocab_size
    super_dims = description.super_dims
    require_room(architecture, vocab, description.config, weights, source, super_dims)
    model = SubTransformer(
        architecture, vocab[0], description.config, super_dims=super_dims, target_vocab_size=vocab[1]
    )
    assign_weights(model, weights, source)
    return model


def _architecture(description: _Description, source: str) -> Architecture:
    try:
        return Architecture.from_dict(description.architecture or {})
    except _ILL_FORMED as error:
        raise CheckpointError(f"{source}.json does not describe a model: {first_line(error)}") from error


def assign_weights(model: ElasticTransformer, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy tensors into a model's parameters by name; every parameter must be there with its exact shape."""
    missing = [name for name, _ in model.named_parameters() if name not in weights]
    if missing:
        raise CheckpointError(f"{source} lacks the weight {listed(missing)}: it is from another model")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if weights[name].shape != parameter.shape:
                raise CheckpointError(
                    f"{source}: {name} has shape {tuple(weights[name].shape)}, "
                    f"the model needs {tuple(parameter.shape)}: it is from another model"
                )
            parameter.copy_(weights[name])


def _read(folder: Folder, name: str, kind: str | None) -> tuple[_Description, dict[str, Tensor]]:
    if not folder.exists(f"{name}.json"):
        raise CheckpointError(f"no model {name} in {folder}: train it first, or name another folder")
    try:
        description = read(folder, f"{name}.json", _Description)
        content = folder.read_bytes(f"{name}.safetensors")
        if hashlib.sha256(content).hexdigest() != description.sha256:
            raise CheckpointError(f"{folder}/{name}.safetensors is damaged (its SHA-256 differs): make it again")
        if kind not in (None, description.kind):
            raise CheckpointError(f"{folder}/{name} is a {description.kind} model, not a {kind} model")
        return description, safetensors.torch.load(content)
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}/{name} is not a readable model: {' '.join(str(error).split())}") from error

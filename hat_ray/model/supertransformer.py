"""The SuperTransformer: one set of weights for every architecture of a space (section 3.1)."""

import torch
from torch import Tensor

from hat_ray.model.config import ModelConfig
from hat_ray.model.layers import SliceRule, slice_rule
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.transformer import ElasticTransformer, Memory, Output, require_fit, require_layers
from hat_ray.space.architecture import Architecture
from hat_ray.space.dimensions import BY_NAME, CELLS
from hat_ray.space.search_space import SearchSpace


class SuperTransformer(ElasticTransformer):
    """Holds the largest architecture of a space; the architecture to run is an argument, never state."""

    def __init__(
        self,
        space: SearchSpace,
        vocab_size: int,
        config: ModelConfig,
        *,
        target_vocab_size: int | None = None,
        seed: int = 0,
    ) -> None:
        require_layers(one.name for one in space.dimensions if one.field is None)
        super().__init__(
            space.largest(),
            vocab_size,
            config,
            target_vocab_size=target_vocab_size,
            seed=seed,
            cells=space.choices.get(CELLS, BY_NAME[CELLS].unnamed),
        )
        self.space = space

    def forward(self, source: Tensor, target_in: Tensor, architecture: Architecture) -> Tensor:
        """(B, S), (B, T) -> logits (B, T, V), teacher-forced, with the weights that `architecture` inherits."""
        return self.output(source, target_in, architecture).logits()

    def output(
        self, source: Tensor, target_in: Tensor, architecture: Architecture, padded: bool | None = None
    ) -> Output:
        """(B, S), (B, T) -> what a loss is computed from, teacher-forced; `padded` as in `Encoder.forward`."""
        return self.run(source, target_in, architecture, padded)

    def encode(self, source: Tensor, architecture: Architecture, padded: bool | None = None) -> Memory:
        """(B, S) -> the outputs of the encoder's active layers."""
        memory: Memory = self.encoder(source, architecture, padded)
        return memory

    def extract(self, architecture: Architecture) -> SubTransformer:
        """Copy the weights that an architecture inherits into a stand-alone model on the same device.

        Raises HatRayError when the architecture does not fit.
        """
        require_fit(self.holds, self.cells, architecture)
        sub = SubTransformer(
            architecture,
            self.source_vocab_size,
            self.config,
            super_dims=self.super_dims,
            target_vocab_size=self.target_vocab_size,
        )
        inherited, cut = dict(self.named_parameters()), slice_rule(self.config.sharing)
        with torch.no_grad():
            for name, parameter in sub.named_parameters():
                parameter.copy_(_inherited(inherited, name, tuple(parameter.shape), architecture.qkv_dim, cut))
        return sub.to(next(self.parameters()).device).train(self.training)


def _inherited(
    weights: dict[str, torch.nn.Parameter], name: str, shape: tuple[int, ...], qkv_dim: int, cut: SliceRule
) -> Tensor:
    """Cut the weight that a SubTransformer's parameter comes from to its shape.

    Where widths differ, a SubTransformer has separate query, key and value projections that are one in the super; and
    the other way round.
    """
    if name in weights:
        return cut(weights[name], *shape)
    owner, kind = name.rsplit(".", 1)
    if kind == "in_proj_weight":
        parts = (weights[f"{owner}.{part}_proj_weight"] for part in "qkv")
        return torch.cat([cut(part, qkv_dim, shape[1]) for part in parts])
    part = "qkv".index(kind[0])
    return cut(weights[f"{owner}.in_proj_weight"][part * qkv_dim : (part + 1) * qkv_dim], *shape)

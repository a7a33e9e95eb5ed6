"""The elastic Transformer: weights that hold one architecture, run at any architecture that fits inside.

B batch, S source length, T target length, D width, V vocabulary.

The SuperTransformer holds the largest architecture of a space; a SubTransformer holds, and runs, just its own. Both are
this one class underneath, so the properties of one hold for the other.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hat_ray.errors import HatRayError
from hat_ray.model.blocks import DecoderLayer, EncoderLayer
from hat_ray.model.config import ModelConfig
from hat_ray.model.embedding import PAD, Positions, TokenEmbedding
from hat_ray.model.layers import ElasticAttention, ElasticLayerNorm, ElasticLinear, slice_rule
from hat_ray.model.protocol import BOS
from hat_ray.model.ssru import ElasticSsru
from hat_ray.space.architecture import Architecture, EncoderShape
from hat_ray.space.dimension import Choice
from hat_ray.space.dimensions import CELLS

READ_DIMENSIONS: frozenset[str] = frozenset({CELLS})
"""Dimensions beyond HAT's ten whose choices the layers read."""


@dataclass(frozen=True, slots=True)
class Memory:
    """An encoder's result for a decoder: the output of each of its layers, and the mask of real source tokens."""

    outputs: tuple[Tensor, ...]  # each (B, S, D), the first layer's first
    mask: Tensor | None  # (B, 1, 1, S), true for real tokens; None when there is no padding

    def reach(self, layers: int) -> tuple[Tensor, Tensor | None]:
        """Concatenate the last `layers` outputs over time, the last one first: (B, S * layers, D) and their mask."""
        if layers == 1:
            return self.outputs[-1], self.mask
        memory = torch.cat([self.outputs[-1 - back] for back in range(layers)], dim=1)
        return memory, None if self.mask is None else self.mask.repeat(1, 1, 1, layers)


@dataclass(frozen=True, slots=True)
class Output:
    """A decoder's result: hidden states (B, T, D), and the weight (V, D) and bias (V,) that make logits of them.

    A loss takes both, so that the logits of all positions never stand in memory at once.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None

    def logits(self) -> Tensor:
        """(B, T, V)."""
        return F.linear(self.hidden, self.weight, self.bias)

    def detach(self) -> "Output":
        """Return the same without gradients."""
        bias = None if self.bias is None else self.bias.detach()
        return Output(self.hidden.detach(), self.weight.detach(), bias)

    def to(self, dtype: torch.dtype) -> "Output":
        """Return hidden states and weight in a dtype; a bias, which is added last, keeps its own."""
        return Output(self.hidden.to(dtype), self.weight.to(dtype), self.bias)


class Encoder(nn.Module):
    """Embedding, positions and layers of the source side."""

    def __init__(
        self, shape: EncoderShape, qkv_dim: int, super_dim: int, tokens: TokenEmbedding, config: ModelConfig
    ) -> None:
        super().__init__()
        self.config, self.super_dim = config, super_dim
        self.embed_tokens = tokens
        self.embed_positions = _positions(super_dim, shape.embed_dim, config)
        self.layers = nn.ModuleList(EncoderLayer(shape.embed_dim, ffn, qkv_dim, config) for ffn in shape.ffn_dims)
        self.layer_norm = _final_norm(shape.embed_dim, config, config.final_norms[0])

    def layer(self, index: int) -> EncoderLayer:
        return cast(EncoderLayer, self.layers[index])

    def forward(self, source: Tensor, architecture: Architecture, padded: bool | None = None) -> Memory:
        """(B, S) -> the outputs of the active layers; `padded`: whether there is padding, None looks for it.

        To look makes the host wait for a GPU.
        """
        shape = architecture.encoder
        ratio = shape.embed_dim / self.super_dim
        padding = source.eq(PAD)
        padded = bool(padding.any()) if padded is None else padded
        mask = ~padding[:, None, None] if padded else None  # (B, 1, 1, S)
        x = self.embed_tokens(source, shape.embed_dim) + self.embed_positions(source, shape.embed_dim)
        x = F.dropout(x, self.config.dropout * ratio, self.training)
        outputs: list[Tensor] = []
        for index, (ffn_dim, heads) in enumerate(zip(shape.ffn_dims, shape.heads, strict=True)):
            x = self.layers[index](x, mask, ffn_dim, heads, ratio)
            outputs.append(x)
        outputs.extend([x] * shape.repeats)
        if self.layer_norm is not None:  # HAT: pre-norm normalises the last output only
            outputs[-1] = self.layer_norm(x)
        return Memory(tuple(outputs), mask)


class Decoder(nn.Module):
    """Embedding, positions, layers and output projection of the target side."""

    output_bias: nn.Parameter | None

    def __init__(
        self,
        architecture: Architecture,
        super_dim: int,
        tokens: TokenEmbedding,
        config: ModelConfig,
        cells: Sequence[Collection[Choice]],
    ) -> None:
        super().__init__()
        shape, memory_dim = architecture.decoder, architecture.encoder.embed_dim
        self.config, self.super_dim = config, super_dim
        self.embed_tokens = tokens
        self.embed_positions = _positions(super_dim, shape.embed_dim, config)
        self.layers = nn.ModuleList(
            DecoderLayer(shape.embed_dim, memory_dim, ffn, architecture.qkv_dim, config, own)
            for ffn, own in zip(shape.ffn_dims, cells, strict=True)
        )
        self.layer_norm = _final_norm(shape.embed_dim, config, config.final_norms[1])
        vocab_size = tokens.weight.shape[0]
        if config.share_embeddings == "none":
            self.embed_out = nn.Parameter(torch.empty(vocab_size, shape.embed_dim))
        self.output_bias = nn.Parameter(torch.empty(vocab_size)) if config.output_bias else None

    def layer(self, index: int) -> DecoderLayer:
        return cast(DecoderLayer, self.layers[index])

    def forward(self, target_in: Tensor, memory: Memory, architecture: Architecture) -> Tensor:
        """(B, T) -> hidden states (B, T, D), teacher-forced."""
        shape = architecture.decoder
        ratio = shape.embed_dim / self.super_dim
        if self.config.start == "bos":
            target_in = torch.cat([torch.full_like(target_in[:, :1], BOS), target_in[:, 1:]], dim=1)
        x = self.embed_tokens(target_in, shape.embed_dim)
        if self.config.start == "zero":
            x = torch.cat([torch.zeros_like(x[:, :1]), x[:, 1:]], dim=1)
        x = x + self.embed_positions(target_in, shape.embed_dim)
        x = F.dropout(x, self.config.dropout * ratio, self.training)
        reached = {reach: memory.reach(reach) for reach in set(shape.cross_layers)}
        for index, (reach, cell) in enumerate(zip(shape.cross_layers, architecture.cells, strict=True)):
            seen, mask = reached[reach]
            heads = shape.self_heads[index], shape.cross_heads[index]
            x = self.layers[index](x, seen, mask, shape.ffn_dims[index], *heads, ratio, cell)
        normalised: Tensor = x if self.layer_norm is None else self.layer_norm(x)
        return normalised

    def embedded_at(self, tokens: Tensor, position: int, dim: int) -> Tensor:
        """(R,) -> the input (R, dim) of one decoder step, counted from 0."""
        there = self.embed_positions.at(position, dim)
        if position == 0 and self.config.start == "zero":
            return there.expand(tokens.shape[0], dim)
        if position == 0 and self.config.start == "bos":
            tokens = torch.full_like(tokens, BOS)
        embedded: Tensor = self.embed_tokens(tokens, dim)
        return embedded + there

    def output(self, hidden: Tensor) -> Output:
        """(..., D) -> what logits (..., V) are made of."""
        return Output(hidden, self.output_weight(hidden.shape[-1]), self.output_bias)

    def output_weight(self, dim: int) -> Tensor:
        """Return the weight (V, dim) of the output projection, a view."""
        if self.config.share_embeddings == "none":
            return slice_rule(self.config.sharing)(self.embed_out, self.embed_out.shape[0], dim)
        return self.embed_tokens.columns(dim)


def _positions(super_dim: int, dim: int, config: ModelConfig) -> Positions:
    return Positions(super_dim, config.max_positions, dim, config.sharing, config.positions)


def _final_norm(dim: int, config: ModelConfig, number: int) -> ElasticLayerNorm | None:
    """Return the norm after the last layer, where there is one."""
    if not number:
        return None
    return ElasticLayerNorm(dim, slice_rule(config.sharing), config.layer_norm_eps)


class ElasticTransformer(nn.Module):
    """Weights for `holds`, an architecture; runs any architecture that fits inside it."""

    def __init__(
        self,
        holds: Architecture,
        vocab_size: int,
        config: ModelConfig,
        *,
        super_dims: tuple[int, int] | None = None,
        target_vocab_size: int | None = None,
        seed: int = 0,
        cells: Collection[Choice] | None = None,
    ) -> None:
        """Build and initialise.

        `super_dims` are the encoder and decoder widths of the SuperTransformer that positions and dropout refer to
        (default: this model's own); `target_vocab_size` is the source's by default. Every decoder
        layer gets the weights of all `cells`; None: of its own one.
        """
        super().__init__()
        require_layers(name for name, _ in holds.extra)
        self.holds, self.config = holds, config
        self.source_vocab_size, self.target_vocab_size = vocab_size, target_vocab_size or vocab_size
        self.super_dims = super_dims or (holds.encoder.embed_dim, holds.decoder.embed_dim)
        source, target = self._embeddings()
        self.encoder = Encoder(holds.encoder, holds.qkv_dim, self.super_dims[0], source, config)
        self.cells = [{one} for one in holds.cells] if cells is None else [{*cells}] * holds.decoder.depth
        """The cells that each decoder layer has weights for."""
        self.decoder = Decoder(holds, self.super_dims[1], target, config, self.cells)
        self.initialise(seed)

    def _embeddings(self) -> tuple[TokenEmbedding, TokenEmbedding]:
        encoder_dim, decoder_dim = self.holds.encoder.embed_dim, self.holds.decoder.embed_dim
        cut, scaled = slice_rule(self.config.sharing), self.config.scale_embeddings
        if self.config.share_embeddings == "all":
            if self.source_vocab_size != self.target_vocab_size:
                raise HatRayError(
                    "model.share_embeddings=all needs one joint vocabulary, got "
                    f"{self.source_vocab_size} source and {self.target_vocab_size} target entries"
                )
            # one matrix as wide as the wider side; the narrower side reads a slice of its columns, as in the super
            shared = TokenEmbedding(self.source_vocab_size, max(encoder_dim, decoder_dim), cut, scaled)
            return shared, shared
        return (
            TokenEmbedding(self.source_vocab_size, encoder_dim, cut, scaled),
            TokenEmbedding(self.target_vocab_size, decoder_dim, cut, scaled),
        )

    def initialise(self, seed: int) -> None:
        """Draw all weights anew: Xavier uniform for matrices, normal with std D^-0.5 for embeddings (fairseq's)."""
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, TokenEmbedding | Positions) and module.weight is not None:
                nn.init.normal_(module.weight, std=module.weight.shape[1] ** -0.5, generator=generator)
                nn.init.zeros_(module.weight[PAD])
            elif isinstance(module, ElasticLinear | ElasticAttention | ElasticSsru):
                for parameter in module.parameters(recurse=False):
                    if parameter.dim() > 1:
                        nn.init.xavier_uniform_(parameter, generator=generator)
                    else:
                        nn.init.zeros_(parameter)
            elif isinstance(module, ElasticLayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
        if self.config.share_embeddings == "none":
            nn.init.normal_(self.decoder.embed_out, std=self.decoder.embed_out.shape[1] ** -0.5, generator=generator)
        if self.decoder.output_bias is not None:
            nn.init.zeros_(self.decoder.output_bias)

    def run(self, source: Tensor, target_in: Tensor, architecture: Architecture, padded: bool | None = None) -> Output:
        """(B, S), (B, T) -> hidden states and the output projection's weight, teacher-forced."""
        memory = self.encoder(source, architecture, padded)
        hidden = self.decoder(target_in, memory, architecture)
        return self.decoder.output(hidden)

    def weights(self) -> dict[str, Tensor]:
        """Return each distinct parameter once, by its first name, detached."""
        return {name: parameter.detach() for name, parameter in self.named_parameters()}


def require_layers(dimensions: Iterable[str]) -> None:
    """Raise HatRayError for dimensions beyond HAT's that no layer here reads."""
    for name in dimensions:
        if name not in READ_DIMENSIONS:
            raise HatRayError(f"no layer of the model reads {name}: leave it out of the space")


def require_fit(holds: Architecture, cells: Sequence[Collection[Choice]], architecture: Architecture) -> None:
    """Raise HatRayError when an architecture is larger than the weights in some dimension, or has another cell.

    `cells` are those that each decoder layer has weights for.
    """
    e, d, most_e, most_d = architecture.encoder, architecture.decoder, holds.encoder, holds.decoder
    fits = (
        architecture.qkv_dim == holds.qkv_dim
        and e.embed_dim <= most_e.embed_dim
        and d.embed_dim <= most_d.embed_dim
        and _fit_layers(e.ffn_dims, most_e.ffn_dims)
        and _fit_layers(d.ffn_dims, most_d.ffn_dims)
    )
    fits = fits and all(own in held for own, held in zip(architecture.cells, cells, strict=False))
    if not fits:
        raise HatRayError(f"architecture {architecture} does not fit in weights for {holds}")


def _fit_layers(sizes: Sequence[int], most: Sequence[int]) -> bool:
    return len(sizes) <= len(most) and all(size <= limit for size, limit in zip(sizes, most, strict=False))

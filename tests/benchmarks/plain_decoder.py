"""A plain PyTorch decoder with a cache: what the runtimes are measured against, 1.0 in every table.

R rows (sentences times beam), T positions so far, S memory length, D width, Q query-key-value width, H heads, K head
width, V vocabulary.

Decisions
- It takes the weights of a SubTransformer (post-norm, as HAT's models) and its encoder. A test holds that it computes
  the same logits, so only the way there is compared.
- It is what one writes first: own projections of queries, keys and values, caches that grow by concatenation and are
  reordered by `index_select`, PyTorch's fused attention, the encoder's keys and values computed once, for every beam.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hat_ray.model.blocks import DecoderLayer
from hat_ray.model.layers import ElasticLayerNorm
from hat_ray.model.protocol import TopTokens, top_tokens
from hat_ray.model.subtransformer import SubTransformer

Weight = tuple[Tensor, Tensor]
"""A linear layer: weight (out, in) and bias (out,)."""


class Baseline:
    """What both have in common: a `StepwiseEngine` around a SubTransformer's encoder and embeddings."""

    def __init__(self, model: SubTransformer, output: Tensor) -> None:
        assert not model.config.normalize_before, "post-norm models only"
        self.model, self.shape = model, model.architecture.decoder
        self.output = output  # (V, D), which embeds too
        self.target_vocab_size, self.max_positions, self.device = output.shape[0], model.max_positions, model.device

    def embed(self, tokens: Tensor, position: int) -> Tensor:
        """(R,) -> (R, 1, D)."""
        width = self.shape.embed_dim
        x = F.embedding(tokens[:, None], self.output) * width**0.5
        return x + self.model.decoder.embed_positions.at(position, width)


class PlainState:
    def __init__(self, caches: list[dict[str, Tensor]]) -> None:
        self.caches, self.position = caches, 0

    def reorder(self, rows: Tensor) -> None:
        self.caches = [{name: value.index_select(0, rows) for name, value in cache.items()} for cache in self.caches]


class PlainLayer:
    """A decoder layer with own projections, and caches that grow by concatenation."""

    def __init__(self, layer: DecoderLayer, self_heads: int, cross_heads: int) -> None:
        self.self_heads, self.cross_heads = self_heads, cross_heads
        self.query, self.key, self.value = _thirds(layer)
        self.cross_query, self.cross_key, self.cross_value = cross_projections(layer)
        self.out, self.cross_out, self.up, self.down = (
            _copy(each.weight, each.bias)
            for each in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc1, layer.fc2)
        )
        self.norms = norms_of(layer)

    def memory(self, seen: Tensor) -> dict[str, Tensor]:
        """(R, S, memory width) -> the encoder's keys and values."""
        both = {"memory_k": self.cross_key, "memory_v": self.cross_value}
        return {name: _heads(F.linear(seen, *weight), self.cross_heads) for name, weight in both.items()}

    def step(self, x: Tensor, cache: dict[str, Tensor], mask: Tensor | None) -> Tensor:
        """(R, 1, D) -> (R, 1, D); `mask` (R, 1, 1, S) is true where the memory may be seen."""
        q, k, v = (_heads(F.linear(x, *weight), self.self_heads) for weight in (self.query, self.key, self.value))
        cache["k"] = torch.cat([cache["k"], k], 2) if "k" in cache else k
        cache["v"] = torch.cat([cache["v"], v], 2) if "v" in cache else v
        y = _merged(F.scaled_dot_product_attention(q, cache["k"], cache["v"]))
        x = normalised(self.norms[0], x + F.linear(y, *self.out))
        q = _heads(F.linear(x, *self.cross_query), self.cross_heads)
        y = _merged(F.scaled_dot_product_attention(q, cache["memory_k"], cache["memory_v"], mask))
        x = normalised(self.norms[1], x + F.linear(y, *self.cross_out))
        return normalised(self.norms[2], x + F.linear(F.relu(F.linear(x, *self.up)), *self.down))


class PlainDecoder(Baseline):
    """A plain PyTorch decoder with a cache."""

    def __init__(self, model: SubTransformer) -> None:
        shape = model.architecture.decoder
        super().__init__(model, model.decoder.output_weight(shape.embed_dim).detach().clone())
        self.layers = [
            PlainLayer(model.decoder.layer(index), shape.self_heads[index], shape.cross_heads[index])
            for index in range(shape.depth)
        ]

    def start(self, source: Tensor, beam: int) -> PlainState:
        memory = self.model.encoder(source, self.model.architecture)
        caches = []
        for layer, reach in zip(self.layers, self.shape.cross_layers, strict=True):
            seen, mask = (None if each is None else each.repeat_interleave(beam, 0) for each in memory.reach(reach))
            assert seen is not None
            caches.append(layer.memory(seen) | ({} if mask is None else {"mask": mask}))
        return PlainState(caches)

    def step(self, tokens: Tensor, state: PlainState) -> Tensor:
        x = self.embed(tokens, state.position)
        for layer, cache in zip(self.layers, state.caches, strict=True):
            x = layer.step(x, cache, cache.get("mask"))
        state.position += 1
        return F.linear(x, self.output)[:, 0]

    def best(self, tokens: Tensor, state: PlainState, count: int) -> TopTokens:
        return top_tokens(self.step(tokens, state), count)


def _thirds(layer: DecoderLayer) -> list[Weight]:
    """Return self-attention's projections of queries, keys and values."""
    attention = layer.self_attn
    pairs = zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    return [_copy(weight, bias) for weight, bias in pairs]


def cross_projections(layer: DecoderLayer) -> list[Weight]:
    """Return the projections of attention to the encoder."""
    weights, biases = layer.encoder_attn.key_value_weights()
    pairs = [layer.encoder_attn.query_weights(), *zip(weights, biases, strict=True)]
    return [_copy(weight, bias) for weight, bias in pairs]


def _copy(weight: Tensor, bias: Tensor) -> Weight:
    return weight.detach().clone(), bias.detach().clone()


def norms_of(layer: DecoderLayer) -> list[ElasticLayerNorm]:
    return [layer.self_attn_layer_norm, layer.encoder_attn_layer_norm, layer.final_layer_norm]


def normalised(norm: ElasticLayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, 1e-5)


def _heads(x: Tensor, heads: int) -> Tensor:
    """(R, T, Q) -> (R, H, T, K)."""
    return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def _merged(x: Tensor) -> Tensor:
    """(R, H, T, K) -> (R, T, Q)."""
    return x.transpose(1, 2).flatten(2)

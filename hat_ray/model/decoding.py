"""Incremental decoding: one token a step, with everything that can be kept kept.

N sentences, R = N * beam rows (a sentence's rows stand together), S memory length, D width, Q query-key-value width,
H heads, K head width, V vocabulary.

Decisions
- Encoder-side keys and values are computed once and never copied for the beams: the beams of a sentence are the
  query's time dimension, so all attend to one memory, and reordering beams does not touch it.
- An SSRU has a state (R, D) of the whole past in the place of a cache; reordering beams selects its rows.
- The self-attention cache is time-major (T, R, Q): a step writes one contiguous block, and reordering beams reads and
  writes contiguous rows.
- Everything is 2-D but attention itself: a linear layer on a 3-D view of one step takes a slower path on CPUs.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hat_ray.model.blocks import DecoderLayer
from hat_ray.model.layers import split_heads
from hat_ray.model.ssru import state_dtype
from hat_ray.model.transformer import ElasticTransformer
from hat_ray.space.architecture import Architecture

FIRST_CAPACITY = 32


@dataclass(slots=True)
class KeysAndValues:
    """What self-attention remembers."""

    keys: Tensor  # (capacity, R, Q), filled up to the state's position
    values: Tensor  # (capacity, R, Q)

    def select(self, rows: Tensor, position: int) -> None:
        self.keys = _select_rows(self.keys, rows, position)
        self.values = _select_rows(self.values, rows, position)


@dataclass(slots=True)
class Recurrent:
    """What an SSRU remembers."""

    state: Tensor  # (R, D)

    def select(self, rows: Tensor, position: int) -> None:
        self.state = self.state.index_select(0, rows)


@dataclass(slots=True)
class LayerCache:
    """One decoder layer's keys and values, or its SSRU's state."""

    own: "KeysAndValues | Recurrent"
    memory_keys: Tensor  # (N, H, S, K)
    memory_values: Tensor  # (N, H, S, K)
    memory_mask: Tensor | None  # (N, 1, 1, S)


@dataclass(slots=True)
class DecoderState:
    """All that decoding has to remember between two steps."""

    beam: int
    position: int
    layers: list[LayerCache]
    watched: bool = False
    """Whether steps keep what they attend to."""
    attention: Tensor | None = None
    """Shares (R, S * reach) of the memory in the last layer's attention of the last step."""

    def reorder(self, rows: Tensor) -> None:
        """Continue row i from the state of row `rows[i]`; `rows` (R,) must stay within each sentence."""
        for cache in self.layers:
            cache.own.select(rows, self.position)

    def keep(self, sentences: Tensor) -> None:
        """Drop all sentences but those at the given indices (their rows stay together)."""
        rows = (sentences[:, None] * self.beam + torch.arange(self.beam, device=sentences.device)).flatten()
        self.reorder(rows)
        for cache in self.layers:
            cache.memory_keys = cache.memory_keys.index_select(0, sentences)
            cache.memory_values = cache.memory_values.index_select(0, sentences)
            if cache.memory_mask is not None:
                cache.memory_mask = cache.memory_mask.index_select(0, sentences)


def start(model: ElasticTransformer, architecture: Architecture, source: Tensor, beam: int) -> DecoderState:
    """Encode (N, S) and compute the encoder-side keys and values of every decoder layer."""
    memory = model.encoder(source, architecture)
    layers = []
    shape = architecture.decoder
    for index, (heads, reach) in enumerate(zip(shape.cross_heads, shape.cross_layers, strict=True)):
        seen, mask = memory.reach(reach)
        keys, values = model.decoder.layer(index).encoder_attn.key_value(seen)
        own = _nothing(architecture, index, source.shape[0] * beam, seen)
        layers.append(LayerCache(own, split_heads(keys, heads), split_heads(values, heads), mask))
    return DecoderState(beam, 0, layers)


def _nothing(architecture: Architecture, index: int, rows: int, like: Tensor) -> KeysAndValues | Recurrent:
    """Return what a layer remembers before the first step."""
    if architecture.cells[index] == "ssru":
        return Recurrent(like.new_zeros(rows, architecture.decoder.embed_dim, dtype=state_dtype(like.dtype)))
    empty = like.new_empty(FIRST_CAPACITY, rows, architecture.qkv_dim)
    return KeysAndValues(empty, torch.empty_like(empty))


def step(model: ElasticTransformer, architecture: Architecture, tokens: Tensor, state: DecoderState) -> Tensor:
    """Feed the next token of each row, (R,) -> logits (R, V); appends to the cached keys and values."""
    shape, decoder = architecture.decoder, model.decoder
    x = decoder.embedded_at(tokens, state.position, shape.embed_dim)
    for index, cache in enumerate(state.layers):
        layer = decoder.layer(index)
        if isinstance(cache.own, Recurrent):
            x = _recurrence(layer, x, cache.own)
        else:
            x = _self_attention(layer, x, cache.own, state.position, shape.self_heads[index])
        x = _memory_attention(layer, x, cache, state, shape.cross_heads[index])
        x = layer.feed_forward(x, shape.ffn_dims[index], 1.0)
    state.position += 1
    if decoder.layer_norm is not None:
        x = decoder.layer_norm(x)
    return decoder.output(x).logits()


def _recurrence(layer: DecoderLayer, x: Tensor, own: Recurrent) -> Tensor:
    """(R, D) -> (R, D), over all tokens so far."""
    y, own.state = layer.ssru.step(layer.before(layer.self_attn_layer_norm, x), own.state)
    return layer.added(layer.self_attn_layer_norm, x, y, 1.0)


def _self_attention(layer: DecoderLayer, x: Tensor, cache: KeysAndValues, position: int, heads: int) -> Tensor:
    """(R, D) -> (R, D), over all tokens so far."""
    q, k, v = layer.self_attn.query_key_value(layer.before(layer.self_attn_layer_norm, x))
    if position == cache.keys.shape[0]:
        cache.keys, cache.values = _grown(cache.keys), _grown(cache.values)
    cache.keys[position], cache.values[position] = k, v
    rows = x.shape[0]
    keys = cache.keys[: position + 1].view(position + 1, rows, heads, -1).permute(1, 2, 0, 3)  # (R, H, T, K)
    values = cache.values[: position + 1].view(position + 1, rows, heads, -1).permute(1, 2, 0, 3)
    y = F.scaled_dot_product_attention(q.view(rows, heads, 1, -1), keys, values)
    return layer.residual(layer.self_attn, layer.self_attn_layer_norm, x, y.reshape(rows, -1), 1.0)


def _memory_attention(layer: DecoderLayer, x: Tensor, cache: LayerCache, state: DecoderState, heads: int) -> Tensor:
    """(R, D) -> (R, D), the beams of a sentence attending to its one memory."""
    q = layer.encoder_attn.query(layer.before(layer.encoder_attn_layer_norm, x))
    q = split_heads(q.view(-1, state.beam, q.shape[-1]), heads)  # (N, H, beam, K)
    if state.watched and cache is state.layers[-1]:
        state.attention = attention_shares(q, cache.memory_keys, cache.memory_mask)
    y = F.scaled_dot_product_attention(q, cache.memory_keys, cache.memory_values, cache.memory_mask)
    y = y.transpose(1, 2).reshape(x.shape[0], -1)  # (R, Q)
    return layer.residual(layer.encoder_attn, layer.encoder_attn_layer_norm, x, y, 1.0)


def attention_shares(q: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
    """(N, H, beam, K), (N, H, S, K), (N, 1, 1, S) -> shares (N * beam, S) of all heads together."""
    logits = q @ keys.transpose(2, 3) * q.shape[-1] ** -0.5
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    shares: Tensor = logits.softmax(-1).mean(1).flatten(0, 1)
    return shares


def folded(attention: Tensor, reach: int) -> Tensor:
    """(R, S * reach) -> (R, S): add what is attended to in several encoder layers' outputs."""
    return attention.view(attention.shape[0], reach, -1).sum(1)


def _select_rows(cache: Tensor, rows: Tensor, length: int) -> Tensor:
    """(capacity, R, Q) -> (capacity, len(rows), Q) with the first `length` steps filled."""
    selected = cache.new_empty(cache.shape[0], rows.shape[0], cache.shape[2])
    torch.index_select(cache[:length], 1, rows, out=selected[:length])
    return selected


def _grown(cache: Tensor) -> Tensor:
    return torch.cat([cache, torch.empty_like(cache)])

"""A stand-in for HAT's decoder, whose code is no part of this project.

R rows (sentences times beam), T positions so far, S memory length, D width, Q query-key-value width, H heads, K head
width, V vocabulary.

Decisions
- Written anew, it does in each step what HAT's code does in evaluation mode when it translates, with the weights of a
  SubTransformer and its encoder; a test holds that it computes the same logits.
- Every weight is a slice of a matrix of the SuperTransformer's size, so its rows lie apart in memory.
- Tensors are time-major and three-dimensional. The product with the vocabulary is two-dimensional: PyTorch folds it by
  itself where weights may still be trained, as HAT's may, and would not fold it here.
- Attention is two batched products with a softmax between; its weights are averaged over the heads though nobody asks.
- Outputs of several encoder layers are concatenated anew in every step.
- Reordering the beams copies self-attention's caches, the encoder's keys and values of every beam, and the outputs of
  all encoder layers.
- The logarithms of all words' probabilities are written, and the best are sought in them.
- Left out, in HAT's favour: dropout, which does nothing in evaluation mode, and Python's part in looking up slices.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hat_ray.model.blocks import DecoderLayer
from hat_ray.model.protocol import EOS, TopTokens
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.space.architecture import Architecture
from tests.benchmarks.plain_decoder import Baseline, Weight, cross_projections, normalised, norms_of


class HatState:
    def __init__(self, outputs: list[Tensor], mask: Tensor | None, layers: int) -> None:
        self.outputs, self.mask = outputs, mask  # each (S, R, D), the first layer's first; (R, S), true for padding
        self.caches: list[dict[str, Tensor]] = [{} for _ in range(layers)]
        self.position = 0

    def reorder(self, rows: Tensor) -> None:
        for cache in self.caches:
            for name, value in cache.items():
                cache[name] = value.index_select(0, rows)
        self.outputs = [output.index_select(1, rows) for output in self.outputs]
        self.mask = None if self.mask is None else self.mask.index_select(0, rows)


class HatLayer:
    """A decoder layer whose weights are slices of a SuperTransformer's."""

    def __init__(self, layer: DecoderLayer, self_heads: int, cross_heads: int, largest: Architecture) -> None:
        self.self_heads, self.cross_heads = self_heads, cross_heads
        width, hidden, qkv = largest.decoder.embed_dim, max(largest.decoder.ffn_dims), largest.qkv_dim
        attention, cross = layer.self_attn, layer.encoder_attn
        self.qkv = _slice(attention.in_proj_weight, attention.in_proj_bias, 3 * qkv, width)
        query, key, value = cross_projections(layer)
        self.cross_query = _slice(*query, qkv, width)
        self.cross_key, self.cross_value = (_slice(*each, qkv, largest.encoder.embed_dim) for each in (key, value))
        self.out, self.cross_out = (
            _slice(each.weight, each.bias, width, qkv) for each in (attention.out_proj, cross.out_proj)
        )
        self.up = _slice(layer.fc1.weight, layer.fc1.bias, hidden, width)
        self.down = _slice(layer.fc2.weight, layer.fc2.bias, width, hidden)
        self.norms = norms_of(layer)

    def step(self, x: Tensor, memory: Tensor, mask: Tensor | None, cache: dict[str, Tensor]) -> Tensor:
        """(1, R, D), (S, R, memory width) -> (1, R, D)."""
        q, k, v = F.linear(x, *self.qkv).chunk(3, dim=-1)
        k, v = (_by_head(each, self.self_heads) for each in (k, v))
        if "k" in cache:
            k, v = (torch.cat([cache[name].flatten(0, 1), new], 1) for name, new in (("k", k), ("v", v)))
        cache["k"], cache["v"] = (each.view(x.shape[1], self.self_heads, *each.shape[1:]) for each in (k, v))
        y, _ = self._attend(q, k, v, None, self.self_heads)
        x = normalised(self.norms[0], x + F.linear(y, *self.out))
        if "memory_k" not in cache:
            both = {"memory_k": self.cross_key, "memory_v": self.cross_value}
            for name, weight in both.items():
                made = _by_head(F.linear(memory, *weight), self.cross_heads)
                cache[name] = made.view(x.shape[1], self.cross_heads, *made.shape[1:])
        k, v = (cache[name].flatten(0, 1) for name in ("memory_k", "memory_v"))
        y, shares = self._attend(F.linear(x, *self.cross_query), k, v, mask, self.cross_heads)
        shares.view(x.shape[1], self.cross_heads, 1, -1).sum(1).div_(self.cross_heads)
        x = normalised(self.norms[1], x + F.linear(y, *self.cross_out))
        return normalised(self.norms[2], x + F.linear(F.relu(F.linear(x, *self.up)), *self.down))

    @staticmethod
    def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, heads: int) -> tuple[Tensor, Tensor]:
        """(1, R, Q), two of (R*H, S, K) -> (1, R, Q), the shares (R*H, 1, S)."""
        rows = q.shape[1]
        scores = torch.bmm(_by_head(q * (q.shape[2] // heads) ** -0.5, heads), k.transpose(1, 2))
        if mask is not None:
            scores = scores.view(rows, heads, 1, -1).masked_fill(mask[:, None, None], -torch.inf).flatten(0, 1)
        shares = scores.softmax(-1)
        return torch.bmm(shares, v).transpose(0, 1).contiguous().view(1, rows, -1), shares


class HatDecoder(Baseline):
    """What HAT's decoder does in a step, inside a SuperTransformer that holds `largest`."""

    def __init__(self, model: SubTransformer, largest: Architecture) -> None:
        shape = model.architecture.decoder
        table = model.decoder.output_weight(shape.embed_dim).detach()
        rows, columns = table.shape[0], max(largest.encoder.embed_dim, largest.decoder.embed_dim)
        super().__init__(model, _inside(table, rows, columns))
        self.layers = [
            HatLayer(model.decoder.layer(index), shape.self_heads[index], shape.cross_heads[index], largest)
            for index in range(shape.depth)
        ]

    def start(self, source: Tensor, beam: int) -> HatState:
        memory = self.model.encoder(source, self.model.architecture)
        rows = torch.arange(source.shape[0]).repeat_interleave(beam)
        outputs = [each.transpose(0, 1).contiguous().index_select(1, rows) for each in memory.outputs]
        mask = None if memory.mask is None else ~memory.mask.flatten(1).index_select(0, rows)
        return HatState(outputs, mask, self.shape.depth)

    def step(self, tokens: Tensor, state: HatState) -> Tensor:
        x = self.embed(tokens, state.position).transpose(0, 1)
        for layer, reach, cache in zip(self.layers, self.shape.cross_layers, state.caches, strict=True):
            seen, mask = state.outputs[-1], state.mask
            if reach > 1:
                seen = torch.cat([state.outputs[-1 - back] for back in range(reach)], 0)
                mask = None if mask is None else torch.cat([mask] * reach, 1)
            x = layer.step(x, seen, mask, cache)
        state.position += 1
        return F.linear(x[0], self.output)

    def best(self, tokens: Tensor, state: HatState, count: int) -> TopTokens:
        logarithms = F.log_softmax(self.step(tokens, state), dim=-1)
        values, words = logarithms.topk(count, dim=1)
        return TopTokens(values, words, logarithms[:, EOS : EOS + 1])


def _slice(weight: Tensor, bias: Tensor, rows: int, columns: int) -> Weight:
    return _inside(weight.detach(), rows, columns), bias.detach().clone()


def _inside(weight: Tensor, rows: int, columns: int) -> Tensor:
    """Return a weight (out, in) as the first rows and columns of a larger matrix."""
    large = torch.zeros(rows, columns)
    large[: weight.shape[0], : weight.shape[1]] = weight
    return large[: weight.shape[0], : weight.shape[1]]


def _by_head(x: Tensor, heads: int) -> Tensor:
    """(T, R, Q) -> (R*H, T, K)."""
    return x.contiguous().view(x.shape[0], x.shape[1] * heads, -1).transpose(0, 1)

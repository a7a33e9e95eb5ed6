"""A SubTransformer in PyTorch, tuned for decoding on a CPU: weights packed by oneDNN, nothing copied between steps.

N sentences, R = N * beam rows, D width, Q query-key-value width, H heads, K head width, S memory length, C capacity in
places (positions times beam), V vocabulary.

Decisions
- oneDNN packs each weight once, in the layout that it reads fastest when there are few rows; rectifier and residual are
  part of the product. bf16 halves the bytes that a step reads; the best words' log-probabilities are fp32 throughout.
- The beams of a sentence attend to the keys of all its beams, and a mask hides all but a beam's own past. So caches
  are written once, in place, and reordering beams is reordering that mask. An SSRU's state is one row a beam, in fp32,
  and its rows are reordered.
- The encoder is the model's own: it is 3 to 5 % of a translation.
- Of this processor oneDNN itself is asked, by one tiny product in bf16: what the flags promise may be forbidden by
  `ONEDNN_MAX_CPU_ISA`, or be missing from this PyTorch. Of another machine its flags are all that is known.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hat_ray.model.blocks import DecoderLayer
from hat_ray.model.config import ModelConfig
from hat_ray.model.decoding import Recurrent, attention_shares, folded
from hat_ray.model.layers import ElasticLayerNorm, split_heads
from hat_ray.model.protocol import BOS, EOS, TopTokens, without_unknown
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.base import BaseRuntime
from hat_ray.runtime.eager import TORCH_DTYPES
from hat_ray.runtime.processor import NATIVE_BF16, describe
from hat_ray.runtime.protocol import RUNTIMES, Isa, RuntimeSettings
from hat_ray.space.architecture import Architecture

FIRST_POSITIONS = 32
_HIDDEN = -1e9
_PACKED_FOR = 160
"""Rows that oneDNN packs for: this layout was the fastest, or as fast as another, with 1, 5 and 160 rows alike."""
_BF16 = frozenset({*NATIVE_BF16, "avx512f", "avx_ne_convert"})
"""oneDNN's bf16 products need one of these; with avx512f alone it converts within the product."""
_BLOCKS = 64  # the best words are sought among the best of these blocks


@dataclass(frozen=True)
class PackedLinear:
    """A linear layer whose weight has oneDNN's own layout."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None = None) -> "PackedLinear":
        """Pack a weight (out, in)."""
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _PACKED_FOR)
        return cls(packed, None if bias is None else bias.detach().clone())

    def __call__(self, x: Tensor, activation: str = "none") -> Tensor:
        """(R, in) -> (R, out)."""
        made: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, activation, [], "")
        return made

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        """(R, in), (R, out) -> (R, out)."""
        made: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
        return made


def is_available() -> bool:
    """Return whether this PyTorch can pack weights for this machine."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and hasattr(torch.ops.mkldnn, "_linear_pointwise"))


class PackedLayer:
    """One decoder layer."""

    def __init__(self, layer: DecoderLayer, self_heads: int, cross_heads: int, is_recurrent: bool) -> None:
        cross = layer.encoder_attn
        self.self_heads, self.cross_heads, self.norm_first = self_heads, cross_heads, layer.config.normalize_before
        self.norms = [
            _norm(norm) for norm in (layer.self_attn_layer_norm, layer.encoder_attn_layer_norm, layer.final_layer_norm)
        ]
        if is_recurrent:
            ssru = layer.ssru
            bias = torch.cat([torch.zeros_like(ssru.forget_bias), ssru.forget_bias])
            self.gated = PackedLinear.of(torch.cat([ssru.weight, ssru.forget_weight]), bias)
        else:
            attention = layer.self_attn
            self.qkv = PackedLinear.of(attention.in_proj_weight, attention.in_proj_bias)
            self.out = PackedLinear.of(attention.out_proj.weight, attention.out_proj.bias)
        self.query = PackedLinear.of(*cross.query_weights())
        self.cross_out = PackedLinear.of(cross.out_proj.weight, cross.out_proj.bias)
        self.up = PackedLinear.of(layer.fc1.weight, layer.fc1.bias)
        self.activate = None if layer.config.activation == "relu" else layer.activate  # oneDNN rectifies within
        self.down = PackedLinear.of(layer.fc2.weight, layer.fc2.bias)

    def step(self, x: Tensor, cache: "LayerCache", state: "PackedState") -> Tensor:
        """(R, D) -> (R, D)."""
        own = cache.own
        if isinstance(own, Recurrent):
            x = self._recurrence(x, own)
        else:
            x = self._sub_layer(0, x, lambda y: self._self_attention(y, own, state), self.out)
        x = self._sub_layer(1, x, lambda y: self._memory_attention(y, cache, state), self.cross_out)
        return self._sub_layer(2, x, self._hidden, self.down)

    def _hidden(self, x: Tensor) -> Tensor:
        """(R, D) -> (R, hidden)."""
        return self.up(x, "relu") if self.activate is None else self.activate(self.up(x))

    def _sub_layer(self, place: int, x: Tensor, inner: Callable[[Tensor], Tensor], last: PackedLinear) -> Tensor:
        norm = self.norms[place]
        if self.norm_first:
            return last.added(inner(norm(x)), x)
        return norm(last.added(inner(x), x))

    def _recurrence(self, x: Tensor, own: Recurrent) -> Tensor:
        """(R, D) -> (R, D): let the gate's share of what is new into the state."""
        norm = self.norms[0]
        new, forget = self.gated(norm(x) if self.norm_first else x).to(own.state.dtype).chunk(2, dim=1)
        own.state = torch.lerp(new, own.state, forget.sigmoid())
        x = x + own.state.relu().to(x.dtype)
        return x if self.norm_first else norm(x)

    def _self_attention(self, x: Tensor, cache: "KeysAndValues", state: "PackedState") -> Tensor:
        """(R, D) -> (R, Q)."""
        begin, end = state.position * state.beam, (state.position + 1) * state.beam
        q, k, v = self.qkv(x).view(-1, state.beam, 3, self.self_heads, cache.keys.shape[3]).permute(2, 0, 3, 1, 4)
        cache.keys[:, :, begin:end], cache.values[:, :, begin:end] = k, v
        mask = None if state.seen is None else state.seen[:, :, :, :end]
        y = F.scaled_dot_product_attention(q, cache.keys[:, :, :end], cache.values[:, :, :end], mask)
        return y.transpose(1, 2).reshape(x.shape[0], -1)

    def _memory_attention(self, x: Tensor, cache: "LayerCache", state: "PackedState") -> Tensor:
        """(R, D) -> (R, Q)."""
        q = self.query(x).view(-1, state.beam, self.cross_heads, cache.memory_keys.shape[3]).transpose(1, 2)
        if state.watched and cache is state.layers[-1]:
            state.attention = attention_shares(q, cache.memory_keys, cache.memory_mask)
        y = F.scaled_dot_product_attention(q, cache.memory_keys, cache.memory_values, cache.memory_mask)
        return y.transpose(1, 2).reshape(x.shape[0], -1)


@dataclass(slots=True)
class KeysAndValues:
    """What self-attention remembers, filled up to the state's position."""

    keys: Tensor  # (N, H, C, K)
    values: Tensor  # (N, H, C, K)


@dataclass(slots=True)
class LayerCache:
    """One decoder layer's keys and values, or its SSRU's state."""

    own: KeysAndValues | Recurrent
    memory_keys: Tensor  # (N, H, S, K)
    memory_values: Tensor  # (N, H, S, K)
    memory_mask: Tensor | None  # (N, 1, 1, S), true where a key may be seen

    def grow(self) -> None:
        """Double the capacity."""
        if isinstance(own := self.own, KeysAndValues):
            own.keys, own.values = (torch.cat([each, torch.empty_like(each)], 2) for each in (own.keys, own.values))

    def keep(self, sentences: Tensor, rows: Tensor) -> None:
        if isinstance(own := self.own, KeysAndValues):
            own.keys, own.values = own.keys.index_select(0, sentences), own.values.index_select(0, sentences)
        else:
            own.state = own.state.index_select(0, rows)
        for name in ("memory_keys", "memory_values"):
            setattr(self, name, getattr(self, name).index_select(0, sentences))
        if self.memory_mask is not None:
            self.memory_mask = self.memory_mask.index_select(0, sentences)


@dataclass(slots=True)
class PackedState:
    """All that decoding has to remember between two steps."""

    beam: int
    position: int
    layers: list[LayerCache]
    seen: Tensor | None
    """(N, 1, beam, C): 0 where a beam may look, else so low that it does not; None: there is one beam."""
    capacity: int = FIRST_POSITIONS
    """Positions that there is room for."""
    watched: bool = False
    """Whether steps keep what they attend to."""
    attention: Tensor | None = None
    """Shares (R, S * reach) of the memory in the last layer's attention of the last step."""

    @classmethod
    def empty(cls, sentences: int, beam: int, dtype: torch.dtype) -> "PackedState":
        state = cls(beam, 0, [], None)
        if beam > 1:
            state.seen = torch.full((sentences, 1, beam, FIRST_POSITIONS * beam), _HIDDEN, dtype=dtype)
        return state

    def show_own(self) -> None:
        """Let each beam look at its own token at this position; make room where there is none."""
        if self.position == self.capacity:
            self.capacity *= 2
            for cache in self.layers:
                cache.grow()
            if self.seen is not None:
                self.seen = torch.cat([self.seen, torch.full_like(self.seen, _HIDDEN)], 3)
        if self.seen is not None:
            begin = self.position * self.beam
            self.seen[:, 0, :, begin : begin + self.beam].diagonal(dim1=1, dim2=2).zero_()

    def reorder(self, rows: Tensor) -> None:
        """Continue row i from the state of row `rows[i]`; `rows` (R,) must stay within each sentence."""
        for cache in self.layers:
            if self.beam > 1 and isinstance(cache.own, Recurrent):
                cache.own.state = cache.own.state.index_select(0, rows)
        if self.seen is not None:
            end = self.position * self.beam
            flat = self.seen.flatten(0, 2)  # (R, C), a view
            flat[:, :end] = flat[:, :end].index_select(0, rows)

    def keep(self, sentences: Tensor) -> None:
        """Drop all sentences but those at the given indices (their rows stay together)."""
        rows = (sentences[:, None] * self.beam + torch.arange(self.beam)).flatten()
        for cache in self.layers:
            cache.keep(sentences, rows)
        if self.seen is not None:
            self.seen = self.seen.index_select(0, sentences)


class PackedEngine:
    """A model that is ready to translate; a `StepwiseEngine`. Run it under `torch.inference_mode()`."""

    def __init__(self, model: SubTransformer, dtype: torch.dtype = torch.float32) -> None:
        """Pack a model's decoder in a dtype."""
        self._model = model.to(dtype).eval()
        shape, decoder = model.architecture.decoder, self._model.decoder
        self._qkv_dim = model.architecture.qkv_dim
        with torch.inference_mode():
            self._layers = [
                PackedLayer(decoder.layer(index), shape.self_heads[index], shape.cross_heads[index], cell == "ssru")
                for index, cell in enumerate(model.architecture.cells)
            ]
            self._norm = None if decoder.layer_norm is None else _norm(decoder.layer_norm)
            self._output = PackedLinear.of(decoder.output_weight(shape.embed_dim), decoder.output_bias)
            self._embedding = decoder.embed_tokens.columns(shape.embed_dim).contiguous()
        self._scale, self._dtype = decoder.embed_tokens.scale(shape.embed_dim), dtype
        self._start, self._unknown_words = model.config.start, model.config.unknown_words

    @property
    def target_vocab_size(self) -> int:
        return self._model.target_vocab_size

    @property
    def max_positions(self) -> int:
        """Longest sentence in tokens."""
        return self._model.max_positions

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def start(self, source: Tensor, beam: int) -> PackedState:
        """Encode (N, S) for decoding with N * beam rows."""
        memory = self._model.encoder(source, self._model.architecture)
        shape, sentences = self._model.architecture.decoder, source.shape[0]
        state = PackedState.empty(sentences, beam, self._dtype)
        if "attention" not in self._model.architecture.cells:
            state.seen = None
        reached: dict[int, Any] = {reach: memory.reach(reach) for reach in set(shape.cross_layers)}
        for index, reach in enumerate(shape.cross_layers):
            seen, mask = reached[reach]
            keys, values = self._model.decoder.layer(index).encoder_attn.key_value(seen)
            cross_heads = shape.cross_heads[index]
            own = self._nothing(index, sentences, beam)
            state.layers.append(LayerCache(own, split_heads(keys, cross_heads), split_heads(values, cross_heads), mask))
        return state

    def _nothing(self, index: int, sentences: int, beam: int) -> KeysAndValues | Recurrent:
        """Return what a layer remembers before the first step."""
        architecture = self._model.architecture
        if architecture.cells[index] == "ssru":
            return Recurrent(torch.zeros(sentences * beam, architecture.decoder.embed_dim))
        heads = architecture.decoder.self_heads[index]
        empty = torch.empty(sentences, heads, FIRST_POSITIONS * beam, self._qkv_dim // heads, dtype=self._dtype)
        return KeysAndValues(empty, torch.empty_like(empty))

    def step(self, tokens: Tensor, state: PackedState) -> Tensor:
        """Feed one token a row, (R,) -> logits (R, V)."""
        state.show_own()
        positions = self._model.decoder.embed_positions.at(state.position, self._embedding.shape[1])
        if self._start == "bos" and state.position == 0:
            tokens = torch.full_like(tokens, BOS)
        x = F.embedding(tokens, self._embedding) * self._scale + positions
        if self._start == "zero" and state.position == 0:
            x = positions.expand_as(x).contiguous()
        for layer, cache in zip(self._layers, state.layers, strict=True):
            x = layer.step(x, cache, state)
        state.position += 1
        return self._output(x if self._norm is None else self._norm(x))

    def watch(self, state: PackedState) -> None:
        """Keep the attention of each step from now on."""
        state.watched = True

    def attention(self, state: PackedState) -> Tensor:
        """Return the shares (R, S) of the source's tokens in the last layer's attention of the last step."""
        assert state.attention is not None
        return folded(state.attention, self._model.architecture.decoder.cross_layers[-1])

    def best(self, tokens: Tensor, state: PackedState, count: int) -> TopTokens:
        """Feed one token a row, (R,) -> the `count` best words to follow each."""
        logits = self.step(tokens, state)
        normaliser = logits.logsumexp(1, keepdim=True).float()
        values, words = best_logits(logits, count)
        best = TopTokens(values.float() - normaliser, words, logits[:, EOS : EOS + 1].float() - normaliser)
        return best if self._unknown_words else without_unknown(best)


def best_logits(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(R, V) -> the `count` largest of each row and where they stand, each (R, count), best first.

    They lie in the `count` columns of blocks whose largest are largest: the vocabulary is read once, and not sorted.
    """
    rows, vocab = logits.shape
    columns = vocab // _BLOCKS
    if columns <= count:
        return logits.topk(count, dim=1)
    whole = columns * _BLOCKS
    largest = logits[:, :whole].view(rows, _BLOCKS, columns).amax(1)
    chosen = largest.topk(count, dim=1, sorted=False).indices  # (R, count)
    places = (chosen[:, :, None] + columns * torch.arange(_BLOCKS)).flatten(1)
    rest = torch.arange(whole, vocab).expand(rows, -1)
    places = torch.cat([places, rest], 1)
    values, found = logits.gather(1, places).topk(count, dim=1)
    return values, places.gather(1, found)


def _norm(norm: ElasticLayerNorm) -> Callable[[Tensor], Tensor]:
    weight, bias = norm.weight.detach(), norm.bias.detach()
    return lambda x: F.layer_norm(x, weight.shape, weight, bias, norm.eps)


class PackedRuntime(BaseRuntime):
    """PyTorch tuned for decoding on a CPU."""

    name, facts = "packed", RUNTIMES.facts("packed")

    def unsupported(
        self,
        architecture: Architecture | None,
        settings: RuntimeSettings,
        isa: Isa | None = None,
        config: ModelConfig | None = None,
    ) -> str | None:
        """Return the rule that the settings break: oneDNN is missing, or the processor lacks its bf16 products."""
        if isa is None and not is_available():
            return "runtime packed needs a PyTorch with oneDNN, this one has none: take runtime eager or onnx"
        able = settings.dtype != "bf16" or (_multiplies_bf16() if isa is None else bool(_BF16 & set(isa)))
        return super().unsupported(architecture, settings, isa, config) if able else self._lacks_bf16(isa)

    def load(self, model: SubTransformer, settings: RuntimeSettings) -> PackedEngine:
        """Pack a model's decoder."""
        return PackedEngine(model, TORCH_DTYPES[settings.dtype])

    @staticmethod
    def _lacks_bf16(isa: Isa | None) -> str:
        return (
            f"runtime packed in bf16 needs avx512f, avx_ne_convert or ARM's bf16, {describe(isa)}: "
            "take dtype fp32, or runtime onnx with dtype int8"
        )


@functools.cache
def _multiplies_bf16() -> bool:
    """Let oneDNN multiply a small matrix in bf16; it refuses what it, or `ONEDNN_MAX_CPU_ISA`, cannot."""
    try:
        with torch.inference_mode():
            PackedLinear.of(torch.ones(16, 16, dtype=torch.bfloat16))(torch.ones(1, 16, dtype=torch.bfloat16))
    except RuntimeError:
        return False
    return True


PACKED = PackedRuntime()

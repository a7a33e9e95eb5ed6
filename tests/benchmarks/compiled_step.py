"""A decoder step that torch.compile can take whole: every shape static, the position a tensor.

N sentences, R = N * beam rows, C capacity in places (positions times beam), D width, Q query-key-value width, H heads,
K head width, S memory length, V vocabulary.

As in the packed runtime the beams of a sentence attend to the keys of all its beams, and a mask hides what is not a
beam's own past: caches are written in place, and reordering beams is reordering that mask. Attention always looks at
all C places, so that nothing is compiled twice.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._inductor import config as inductor

from hat_ray.model.blocks import DecoderLayer
from hat_ray.model.layers import split_heads
from hat_ray.model.protocol import TopTokens, top_tokens
from hat_ray.model.subtransformer import SubTransformer

HIDDEN = -1e9


@dataclass
class StaticState:
    beam: int
    position: Tensor  # (1,)
    seen: Tensor  # (N, 1, beam, C): 0 where a beam may look, else HIDDEN
    caches: list[Tensor]  # for each layer keys and values (N, H, C, K), the encoder's keys and values (N, H, S, K)

    def reorder(self, rows: Tensor) -> None:
        flat = self.seen.flatten(0, 2)
        flat.copy_(flat.index_select(0, rows))


class StaticStep(nn.Module):
    """The step as a function of tensors; post-norm models, sources without padding."""

    def __init__(self, model: SubTransformer, beam: int) -> None:
        super().__init__()
        shape = model.architecture.decoder
        self.beam, self.heads = beam, list(zip(shape.self_heads, shape.cross_heads, strict=True))
        self.layers = nn.ModuleList(model.decoder.layer(index) for index in range(shape.depth))
        self.output = nn.Parameter(model.decoder.output_weight(shape.embed_dim).detach().clone())
        self.positions = nn.Parameter(model.decoder.embed_positions.columns(shape.embed_dim)[2:].clone())

    def forward(self, tokens: Tensor, position: Tensor, seen: Tensor, *caches: Tensor) -> Tensor:
        """(R,), (1,) and the state -> logits (R, V)."""
        x = F.embedding(tokens, self.output) * self.output.shape[1] ** 0.5 + self.positions[position]
        places = position * self.beam + torch.arange(self.beam)
        for index, (own, across) in enumerate(self.heads):
            x = self._layer(self.layers[index], x, places, seen, own, across, *caches[4 * index : 4 * index + 4])  # type: ignore[arg-type]
        return F.linear(x, self.output)

    def _layer(
        self,
        layer: DecoderLayer,
        x: Tensor,
        places: Tensor,
        seen: Tensor,
        own: int,
        across: int,
        keys: Tensor,
        values: Tensor,
        memory_keys: Tensor,
        memory_values: Tensor,
    ) -> Tensor:
        """(R, D) -> (R, D)."""
        by_sentence = (keys.shape[0], self.beam, -1)
        q, k, v = (split_heads(each.view(by_sentence), own) for each in layer.self_attn.query_key_value(x))
        keys.index_copy_(2, places, k)
        values.index_copy_(2, places, v)
        y = F.scaled_dot_product_attention(q, keys, values, seen).transpose(1, 2).reshape(x.shape[0], -1)
        x = layer.residual(layer.self_attn, layer.self_attn_layer_norm, x, y, 1.0)
        q = split_heads(layer.encoder_attn.query(x).view(by_sentence), across)
        y = F.scaled_dot_product_attention(q, memory_keys, memory_values).transpose(1, 2).reshape(x.shape[0], -1)
        x = layer.residual(layer.encoder_attn, layer.encoder_attn_layer_norm, x, y, 1.0)
        return layer.feed_forward(x, layer.fc1.weight.shape[0], 1.0)


class StaticModel:
    """A `StepwiseEngine` for one beam and up to `positions` steps; `compile_s` is what compiling took, 0 uncompiled."""

    def __init__(self, model: SubTransformer, beam: int, positions: int = 32) -> None:
        self.model, self.capacity, self.compile_s = model, positions * beam, 0.0
        self.target_vocab_size, self.max_positions, self.device = model.target_vocab_size, positions, model.device
        self.run: Callable[..., Tensor] = StaticStep(model, beam).eval()

    def compile(self, source: Tensor, beam: int) -> "StaticModel":
        """Compile for the shapes of (N, S); weights are frozen, so that Inductor may pack them for oneDNN."""
        began = time.perf_counter()
        with inductor.patch(freezing=True):
            self.run = torch.compile(self.run, fullgraph=True, dynamic=False)
            state = self.start(source, beam)
            self.step(torch.zeros(len(source) * beam, dtype=torch.long), state)
        self.compile_s = time.perf_counter() - began
        return self

    def start(self, source: Tensor, beam: int) -> StaticState:
        architecture, sentences = self.model.architecture, source.shape[0]
        memory, shape = self.model.encoder(source, architecture), architecture.decoder
        caches: list[Tensor] = []
        for index, (own, across, reach) in enumerate(
            zip(shape.self_heads, shape.cross_heads, shape.cross_layers, strict=True)
        ):
            seen, _ = memory.reach(reach)
            for _ in range(2):
                caches.append(torch.zeros(sentences, own, self.capacity, architecture.qkv_dim // own))
            both = self.model.decoder.layer(index).encoder_attn.key_value(seen)
            caches += [split_heads(each, across).contiguous() for each in both]
        hidden = torch.full((sentences, 1, beam, self.capacity), HIDDEN)
        return StaticState(beam, torch.zeros(1, dtype=torch.long), hidden, caches)

    def step(self, tokens: Tensor, state: StaticState) -> Tensor:
        begin = int(state.position) * state.beam
        state.seen[:, 0, :, begin : begin + state.beam].diagonal(dim1=1, dim2=2).zero_()
        logits = self.run(tokens, state.position, state.seen, *state.caches)
        state.position += 1
        return logits

    def best(self, tokens: Tensor, state: StaticState, count: int) -> TopTokens:
        return top_tokens(self.step(tokens, state), count)

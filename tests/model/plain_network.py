"""HAT's network written down once more, without layers, masks, batches or caches: one sentence, one head at a time.

Nothing here comes from `hat_ray.model` but the names of the weights. Numbers are float64.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]
ATTENDED = {-1: 1, 1: 2, 2: 3}
"""HAT's codes of the encoder layers that a decoder layer attends to."""


@dataclass(frozen=True)
class Rules:
    """The fixed parts of a network; the defaults are those of HAT's published models."""

    pre_norm: bool = False
    encoder_final_norm: bool = True
    decoder_final_norm: bool = True
    eps: float = 1e-5
    activation: str = "relu"
    positions: str = "fairseq"
    scaled: bool = True
    bias: bool = False
    zero_start: bool = False
    bos_start: bool = False
    output: str = "decoder.embed_tokens.weight"


def activated(x: Tensor, name: str) -> Tensor:
    if name == "relu":
        return torch.where(x > 0, x, torch.zeros_like(x))
    if name == "gelu":
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2
    if name == "gelu_tanh":
        return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    return x / (1 + torch.exp(-x * {"swish": 1.0, "gelu_sigmoid": 1.702}[name]))


def position(weights: Weights, rules: Rules, side: str, place: int, super_dim: int, dim: int) -> Tensor:
    """Return the vector of the token at a place, counted from 0."""
    if rules.positions == "none":
        return torch.zeros(dim, dtype=torch.float64)
    if rules.positions == "learned":
        return weights[f"{side}.embed_positions.weight"][place + 2, :dim]
    half = super_dim // 2
    number = place + 2 if rules.positions == "fairseq" else place
    steps = half if rules.positions == "huggingface" else half - 1
    angles = [number * 10000 ** (-i / steps) for i in range(half)]
    return torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)[:dim]


def linear(x: Tensor, weights: Weights, name: str, out: int) -> Tensor:
    return x @ weights[f"{name}.weight"][:out, : x.shape[1]].T + weights[f"{name}.bias"][:out]


def normalised(x: Tensor, weights: Weights, name: str, eps: float) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    spread = ((centred**2).mean(1, keepdim=True) + eps).sqrt()
    return centred / spread * weights[f"{name}.weight"][: x.shape[1]] + weights[f"{name}.bias"][: x.shape[1]]


def attention(x: Tensor, memory: Tensor, weights: Weights, name: str, heads: int, causal: bool) -> Tensor:
    bias = weights[f"{name}.in_proj_bias"]
    width = len(bias) // 3
    if f"{name}.in_proj_weight" in weights:
        matrices = weights[f"{name}.in_proj_weight"].split(width)
    else:
        matrices = tuple(weights[f"{name}.{part}_proj_weight"] for part in "qkv")
    q, k, v = (
        read @ matrix[:, : read.shape[1]].T + bias[i * width : (i + 1) * width]
        for i, (read, matrix) in enumerate(zip((x, memory, memory), matrices, strict=True))
    )
    size, parts = width // heads, []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        scores = q[:, own] @ k[:, own].T / math.sqrt(size)
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf)
        parts.append(scores.softmax(1) @ v[:, own])
    return linear(torch.cat(parts, 1), weights, f"{name}.out_proj", x.shape[1])


def ssru(x: Tensor, weights: Weights, name: str) -> Tensor:
    """Return an SSRU's output (T, D), word by word and channel by channel."""
    dim = x.shape[1]
    new, forget = (weights[f"{name}.{part}"][:dim, :dim].tolist() for part in ("weight", "forget_weight"))
    bias, state, rows = weights[f"{name}.forget_bias"].tolist(), [0.0] * dim, []
    for word in x.tolist():
        for channel in range(dim):
            gate = bias[channel] + sum(a * b for a, b in zip(forget[channel], word, strict=True))
            gate = 1 / (1 + math.exp(-gate))
            given = sum(a * b for a, b in zip(new[channel], word, strict=True))
            state[channel] = gate * state[channel] + (1 - gate) * given
        rows.append([max(value, 0.0) for value in state])
    return torch.tensor(rows, dtype=torch.float64)


def sublayer(x: Tensor, weights: Weights, norm: str, rules: Rules, inner: Any) -> Tensor:
    if rules.pre_norm:
        return x + inner(normalised(x, weights, norm, rules.eps))
    return normalised(x + inner(x), weights, norm, rules.eps)


def feed_forward(x: Tensor, weights: Weights, layer: str, size: int, rules: Rules) -> Tensor:
    def inner(y: Tensor) -> Tensor:
        hidden = activated(linear(y, weights, f"{layer}.fc1", size), rules.activation)
        return linear(hidden, weights, f"{layer}.fc2", y.shape[1])

    return sublayer(x, weights, f"{layer}.final_layer_norm", rules, inner)


def embedded(weights: Weights, rules: Rules, side: str, tokens: Sequence[int], super_dim: int, dim: int) -> Tensor:
    rows = weights[f"{side}.embed_tokens.weight"][list(tokens), :dim] * (math.sqrt(dim) if rules.scaled else 1)
    if side == "decoder" and rules.zero_start:
        rows = torch.cat([torch.zeros(1, dim, dtype=rows.dtype), rows[1:]])
    places = [position(weights, rules, side, place, super_dim, dim) for place in range(len(tokens))]
    return rows + torch.stack(places)


def logits(
    weights: Weights,
    rules: Rules,
    config: Mapping[str, Mapping[str, Any]],
    super_sizes: tuple[int, int, int],
    source: Sequence[int],
    target_in: Sequence[int],
) -> Tensor:
    """Return logits (T, V) of one sentence under HAT's nested configuration.

    `super_sizes` are the encoder's and the decoder's width and the encoder's depth in the SuperTransformer. A skipped
    encoder layer hands on its input, and its output is kept like any other's.
    """
    encoder, decoder = config["encoder"], config["decoder"]
    x = embedded(weights, rules, "encoder", source, super_sizes[0], encoder["encoder_embed_dim"])
    outputs = []
    for index in range(super_sizes[2]):
        if index < encoder["encoder_layer_num"]:
            layer, heads = f"encoder.layers.{index}", encoder["encoder_self_attention_heads"][index]
            x = sublayer(
                *(x, weights, f"{layer}.self_attn_layer_norm", rules),
                lambda y, layer=layer, heads=heads: attention(y, y, weights, f"{layer}.self_attn", heads, False),
            )
            x = feed_forward(x, weights, layer, encoder["encoder_ffn_embed_dim"][index], rules)
        outputs.append(x)
    last = normalised(x, weights, "encoder.layer_norm", rules.eps) if rules.pre_norm and rules.encoder_final_norm else x
    target_in = [0, *target_in[1:]] if rules.bos_start else target_in
    x = embedded(weights, rules, "decoder", target_in, super_sizes[1], decoder["decoder_embed_dim"])
    cells = decoder.get("cells", ["attention"] * decoder["decoder_layer_num"])
    for index in range(decoder["decoder_layer_num"]):
        layer = f"decoder.layers.{index}"
        reach = ATTENDED[decoder["decoder_arbitrary_ende_attn"][index]]
        memory = torch.cat([last, *(outputs[-back] for back in range(2, reach + 1))])
        own, cross = (decoder[f"decoder_{kind}_attention_heads"][index] for kind in ("self", "ende"))
        x = sublayer(
            *(x, weights, f"{layer}.self_attn_layer_norm", rules),
            lambda y, layer=layer, own=own, index=index: (
                ssru(y, weights, f"{layer}.ssru")
                if cells[index] == "ssru"
                else attention(y, y, weights, f"{layer}.self_attn", own, True)
            ),
        )
        x = sublayer(
            *(x, weights, f"{layer}.encoder_attn_layer_norm", rules),
            lambda y, layer=layer, cross=cross, memory=memory: attention(
                y, memory, weights, f"{layer}.encoder_attn", cross, False
            ),
        )
        x = feed_forward(x, weights, layer, decoder["decoder_ffn_embed_dim"][index], rules)
    if rules.pre_norm and rules.decoder_final_norm:
        x = normalised(x, weights, "decoder.layer_norm", rules.eps)
    made = x @ weights[rules.output][:, : x.shape[1]].T
    return made + weights["decoder.output_bias"] if rules.bias else made

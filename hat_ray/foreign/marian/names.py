"""Marian's parameter names beside ours: the one table by which weights are read and written.

Legend: D width, F feed-forward width. Marian stores matrices as (in, out), we as (out, in), and vectors as one row.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hat_ray.space.architecture import Architecture

QKV = ("q", "k", "v")


@dataclass(frozen=True)
class Linear:
    """A linear layer of ours, which may be several of Marian's: their rows stand in that order."""

    weight: str
    bias: str
    theirs: tuple[tuple[str, str], ...]
    """Marian's names of weight and bias of each part."""
    rows: int
    """Output width of each part."""
    columns: int


@dataclass(frozen=True)
class Norm:
    """A layer norm: `weight` and `bias` are Marian's `scale` and `bias`."""

    ours: str
    scale: str
    bias: str


@dataclass(frozen=True)
class Recurrence:
    """The parameters of an SSRU, all of one width: `ours` is the module's name, the others are Marian's."""

    ours: str
    weight: str
    forget_weight: str
    forget_bias: str


def recurrences(architecture: Architecture) -> Iterator[Recurrence]:
    """Yield every SSRU of the decoder."""
    for index, cell in enumerate(architecture.cells):
        if cell == "ssru":
            theirs = f"decoder_l{index + 1}_rnn"
            yield Recurrence(f"decoder.layers.{index}.ssru", f"{theirs}_W", f"{theirs}_Wf", f"{theirs}_bf")


def linears(architecture: Architecture) -> Iterator[Linear]:
    """Yield every linear layer of both stacks; all widths but the feed-forward network's are one."""
    width = architecture.qkv_dim
    for ours, theirs, ffn, attentions in _layers(architecture):
        for our_part, their_part in attentions:
            owner, name = f"{ours}.{our_part}", f"{theirs}_{their_part}"
            parts = tuple((f"{name}_W{part}", f"{name}_b{part}") for part in QKV)
            yield Linear(f"{owner}.in_proj_weight", f"{owner}.in_proj_bias", parts, width, width)
            yield _linear(f"{owner}.out_proj", f"{name}_Wo", f"{name}_bo", width, width)
        yield _linear(f"{ours}.fc1", f"{theirs}_ffn_W1", f"{theirs}_ffn_b1", ffn, width)
        yield _linear(f"{ours}.fc2", f"{theirs}_ffn_W2", f"{theirs}_ffn_b2", width, ffn)


def norms(architecture: Architecture, before: bool, final: bool) -> Iterator[Norm]:
    """Yield every layer norm of both stacks; Marian names those `before` a layer otherwise than those after it."""
    suffix = "_pre" if before else ""
    for ours, theirs, _, attentions in _layers(architecture):
        for our_part, their_part in attentions:
            yield _norm(f"{ours}.{our_part}_layer_norm", f"{theirs}_{their_part}_Wo_ln", suffix)
        yield _norm(f"{ours}.final_layer_norm", f"{theirs}_ffn_ffn_ln", suffix)
    for index, cell in enumerate(architecture.cells):
        if cell == "ssru":
            place = "_rnn_ln" if before else "_rnn_ffn_ln"
            yield _norm(f"decoder.layers.{index}.self_attn_layer_norm", f"decoder_l{index + 1}{place}", suffix)
    if final:
        yield from (_norm(f"{side}.layer_norm", f"{side}_top_ln", "") for side in ("encoder", "decoder"))


def _layers(architecture: Architecture) -> Iterator[tuple[str, str, int, tuple[tuple[str, str], ...]]]:
    """Yield our and Marian's name of each layer, its feed-forward width, and the names of its attentions."""
    own, cross = ("self_attn", "self"), ("encoder_attn", "context")
    attentions = {"attention": (own, cross), "ssru": (cross,)}
    for index, ffn in enumerate(architecture.encoder.ffn_dims):
        yield f"encoder.layers.{index}", f"encoder_l{index + 1}", ffn, (own,)
    for index, (ffn, cell) in enumerate(zip(architecture.decoder.ffn_dims, architecture.cells, strict=True)):
        yield f"decoder.layers.{index}", f"decoder_l{index + 1}", ffn, attentions[str(cell)]


def _linear(ours: str, weight: str, bias: str, rows: int, columns: int) -> Linear:
    return Linear(f"{ours}.weight", f"{ours}.bias", ((weight, bias),), rows, columns)


def _norm(ours: str, theirs: str, suffix: str) -> Norm:
    return Norm(ours, f"{theirs}_scale{suffix}", f"{theirs}_bias{suffix}")

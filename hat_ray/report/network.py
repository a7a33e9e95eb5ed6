"""An architecture drawn as a network: one block a layer, the first layer at the bottom; the template writes the SVG.

Bars are as wide as the layer: attention by the embedding width, cut into its heads; the feed-forward network by its
hidden width. An SSRU stands in the place of self-attention, as one piece. Curves show which encoder layers each decoder
layer attends to. Colours come from the page's style sheet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hat_ray.space.architecture import Architecture

BAR_MAX = 132.0  # the widest bar of all drawings of a page
GAP = 62.0  # between the two stacks, where the curves run
ATTENTION, FFN, INNER, BETWEEN = 15.0, 19.0, 2.0, 11.0  # heights of bars, gap inside a layer, gap between layers
HEAD_GAP = 1.5
TOP, BOTTOM = 8.0, 30.0
WIDTH = 2 * BAR_MAX + GAP


@dataclass(frozen=True)
class Scale:
    """The widths that fill a bar: shared by all drawings of a page, so that they compare."""

    embed_dim: int
    ffn_dim: int
    depth: int

    @classmethod
    def of(cls, architectures: Sequence[Architecture]) -> "Scale":
        return cls(
            embed_dim=max(max(a.encoder.embed_dim, a.decoder.embed_dim) for a in architectures),
            ffn_dim=max(max(*a.encoder.ffn_dims, *a.decoder.ffn_dims) for a in architectures),
            depth=max(max(a.encoder.depth, a.decoder.depth) for a in architectures),
        )

    def embed(self, dim: int) -> float:
        """The width of an attention bar."""
        return max(BAR_MAX * dim / self.embed_dim, 4.0)

    def ffn(self, dim: int) -> float:
        """The width of a feed-forward bar."""
        return max(BAR_MAX * dim / self.ffn_dim, 4.0)

    @property
    def height(self) -> float:
        """The tallest stack: decoder layers have one bar more."""
        return TOP + self.depth * (2 * (ATTENTION + INNER) + FFN + BETWEEN) + BOTTOM


@dataclass(frozen=True)
class Label:
    """Text, centred on a point."""

    text: str
    x: float
    y: float


@dataclass(frozen=True)
class Block:
    """One part of a layer: a bar, or several side by side, and its label."""

    kind: Literal["self", "cross", "ffn"]
    lefts: tuple[float, ...]
    top: float
    width: float
    height: float
    label: Label


@dataclass(frozen=True)
class Drawing:
    """One drawn architecture, in the units of its view box."""

    title: str
    width: float
    height: float
    ground: float
    """Where the line stands that both stacks rest on, from above."""
    curves: tuple[str, ...]
    """Paths, as SVG writes them."""
    blocks: tuple[Block, ...]
    captions: tuple[Label, ...]


def draw(architecture: Architecture, scale: Scale) -> Drawing:
    """Draw the encoder on the left, the decoder on the right, both on one base line."""
    encoder, decoder = architecture.encoder, architecture.decoder
    left, right = BAR_MAX / 2, BAR_MAX + GAP + BAR_MAX / 2
    base = scale.height - BOTTOM
    step_left, step_right = ATTENTION + INNER + FFN + BETWEEN, 2 * (ATTENTION + INNER) + FFN + BETWEEN
    blocks: list[Block] = []
    for i, (ffn, heads) in enumerate(zip(encoder.ffn_dims, encoder.heads, strict=True)):
        y = base - i * step_left
        blocks += [
            _attention(left, y - ATTENTION, encoder.embed_dim, heads, scale, "self"),
            _ffn(left, y - ATTENTION - INNER - FFN, ffn, scale),
        ]
    rows = zip(decoder.ffn_dims, decoder.self_heads, decoder.cross_heads, architecture.cells, strict=True)
    for i, (ffn, self_heads, cross_heads, cell) in enumerate(rows):
        y = base - i * step_right
        cross = y - 2 * ATTENTION - INNER
        blocks += [
            _attention(right, y - ATTENTION, decoder.embed_dim, self_heads, scale, "self", str(cell)),
            _attention(right, cross, decoder.embed_dim, cross_heads, scale, "cross"),
            _ffn(right, cross - INNER - FFN, ffn, scale),
        ]
    middles = [base - i * step_left - (step_left - BETWEEN) / 2 for i in range(encoder.depth)]
    edges = [left + max(scale.embed(encoder.embed_dim), scale.ffn(ffn)) / 2 + 2 for ffn in encoder.ffn_dims]
    cross_edge = right - scale.embed(decoder.embed_dim) / 2 - 2
    curves = [
        _curve(edges[layer], middles[layer], cross_edge, base - i * step_right)
        for i, reach in enumerate(decoder.cross_layers)
        for layer in range(max(0, encoder.depth - reach), encoder.depth)
    ]
    captions = (
        Label(f"encoder · {encoder.embed_dim}", left, base + 20),
        Label(f"decoder · {decoder.embed_dim}", right, base + 20),
    )
    title = f"Architecture {architecture.id}: {architecture}"
    return Drawing(title, WIDTH, scale.height, base + 4, tuple(curves), tuple(blocks), captions)


def _attention(
    x: float,
    y: float,
    embed_dim: int,
    heads: int,
    scale: Scale,
    kind: Literal["self", "cross"],
    cell: str = "attention",
) -> Block:
    """One bar as wide as the embedding, cut into its heads."""
    width = scale.embed(embed_dim)
    piece = (width - (heads - 1) * HEAD_GAP) / heads
    lefts = tuple(x - width / 2 + i * (piece + HEAD_GAP) for i in range(heads))
    what = "cross" if kind == "cross" else "head" if heads == 1 else "heads"
    label = Label("SSRU" if cell == "ssru" else f"{heads} {what}", x, y + ATTENTION / 2)
    return Block(kind, lefts, y, max(piece, 0.5), ATTENTION, label)


def _ffn(x: float, y: float, ffn_dim: int, scale: Scale) -> Block:
    width = scale.ffn(ffn_dim)
    return Block("ffn", (x - width / 2,), y, width, FFN, Label(str(ffn_dim), x, y + FFN / 2))


def _curve(x1: float, y1: float, x2: float, layer_bottom: float) -> str:
    """Return the path from an encoder layer's side to the cross attention of a decoder layer on `layer_bottom`."""
    y2 = layer_bottom - ATTENTION - INNER - ATTENTION / 2
    bend = (x2 - x1) / 2
    points = (x1, y1, x1 + bend, y1, x2 - bend, y2, x2, y2)
    start, *curve = (f"{short(x)} {short(y)}" for x, y in zip(points[::2], points[1::2], strict=True))
    return f"M{start}C{' '.join(curve)}"


def short(value: float) -> str:
    """Return a coordinate with one decimal at most."""
    return f"{value:.1f}".removesuffix(".0")

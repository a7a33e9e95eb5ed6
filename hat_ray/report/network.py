"""An architecture drawn as the network that it is: inline SVG, one block a layer, the first layer at the bottom.

Bars are as wide as the layer: attention by the embedding width, cut into its heads; the feed-forward network by its
hidden width. Curves show which encoder layers each decoder layer attends to. Colours come from the page's style sheet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hat_ray.report.html import Markup, element
from hat_ray.space.architecture import Architecture

BAR_MAX = 132.0  # the widest bar of all drawings of a page
GAP = 62.0  # between the two stacks, where the curves run
ATTENTION, FFN, INNER, BETWEEN = 15.0, 19.0, 2.0, 11.0  # heights of bars, gap inside a layer, gap between layers
TOP, BOTTOM = 8.0, 30.0


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


def draw(architecture: Architecture, scale: Scale) -> Markup:
    """Draw the encoder on the left, the decoder on the right, both on one base line."""
    encoder, decoder = architecture.encoder, architecture.decoder
    left, right = BAR_MAX / 2, BAR_MAX + GAP + BAR_MAX / 2
    base = scale.height - BOTTOM
    step_left, step_right = ATTENTION + INNER + FFN + BETWEEN, 2 * (ATTENTION + INNER) + FFN + BETWEEN
    parts: list[Markup] = []
    for i, (ffn, heads) in enumerate(zip(encoder.ffn_dims, encoder.heads, strict=True)):
        y = base - i * step_left
        parts += _attention(left, y - ATTENTION, encoder.embed_dim, heads, scale, "self")
        parts += _ffn(left, y - ATTENTION - INNER - FFN, ffn, scale)
    rows = zip(decoder.ffn_dims, decoder.self_heads, decoder.cross_heads, strict=True)
    for i, (ffn, self_heads, cross_heads) in enumerate(rows):
        y = base - i * step_right
        cross = y - 2 * ATTENTION - INNER
        parts += _attention(right, y - ATTENTION, decoder.embed_dim, self_heads, scale, "self")
        parts += _attention(right, cross, decoder.embed_dim, cross_heads, scale, "cross")
        parts += _ffn(right, cross - INNER - FFN, ffn, scale)
    middles = [base - i * step_left - (step_left - BETWEEN) / 2 for i in range(encoder.depth)]
    edges = [left + max(scale.embed(encoder.embed_dim), scale.ffn(ffn)) / 2 + 2 for ffn in encoder.ffn_dims]
    cross_edge = right - scale.embed(decoder.embed_dim) / 2 - 2
    curves = [
        _curve(edges[layer], middles[layer], cross_edge, base - i * step_right)
        for i, reach in enumerate(decoder.cross_layers)
        for layer in range(max(0, encoder.depth - reach), encoder.depth)
    ]
    width = 2 * BAR_MAX + GAP
    captions = [
        _caption(left, base + 20, f"encoder · {encoder.embed_dim}"),
        _caption(right, base + 20, f"decoder · {decoder.embed_dim}"),
    ]
    ground = element("line", x1=0, x2=_n(width), y1=_n(base + 4), y2=_n(base + 4), class_="ground")
    title = element("title", f"Architecture {architecture.id}: {architecture}")
    attributes = {"viewBox": f"0 0 {_n(width)} {_n(scale.height)}", "role": "img", "class": "network"}
    return element("svg", title, curves, ground, parts, captions, **attributes)


def _attention(x: float, y: float, embed_dim: int, heads: int, scale: Scale, kind: str) -> list[Markup]:
    """One bar as wide as the embedding, cut into its heads."""
    width = scale.embed(embed_dim)
    piece = (width - (heads - 1) * 1.5) / heads
    start = x - width / 2
    bars = [
        element(
            "rect",
            x=_n(start + i * (piece + 1.5)),
            y=_n(y),
            width=_n(max(piece, 0.5)),
            height=_n(ATTENTION),
            rx=2,
            class_=kind,
        )
        for i in range(heads)
    ]
    return [*bars, _label(x, y + ATTENTION / 2, f"{heads} {kind if kind == 'cross' else 'heads'}")]


def _ffn(x: float, y: float, ffn_dim: int, scale: Scale) -> list[Markup]:
    width = scale.ffn(ffn_dim)
    bar = element("rect", x=_n(x - width / 2), y=_n(y), width=_n(width), height=_n(FFN), rx=3, class_="ffn")
    return [bar, _label(x, y + FFN / 2, str(ffn_dim))]


def _curve(x1: float, y1: float, x2: float, layer_bottom: float) -> Markup:
    """From an encoder layer's side to the cross attention of the decoder layer that stands on `layer_bottom`."""
    y2 = layer_bottom - ATTENTION - INNER - ATTENTION / 2
    bend = (x2 - x1) / 2
    path = f"M{_n(x1)} {_n(y1)}C{_n(x1 + bend)} {_n(y1)} {_n(x2 - bend)} {_n(y2)} {_n(x2)} {_n(y2)}"
    return element("path", d=path, class_="reach")


def _label(x: float, y: float, text: str) -> Markup:
    return element("text", text, x=_n(x), y=_n(y), class_="label")


def _caption(x: float, y: float, text: str) -> Markup:
    return element("text", text, x=_n(x), y=_n(y), class_="stack")


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
